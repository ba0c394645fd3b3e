import vm from 'node:vm'
import { SseError, type SseErrorCode } from 'express-sse-hub'
import { describeValue } from '../../lib/basics/errors.ts'

const STATUS: Record<SseErrorCode, number> = {
  SSE_NOT_ACCEPTABLE: 406,
  SSE_HEAD_SENT: 500,
  SSE_INVALID_EVENT: 500,
  SSE_INVALID_DATA: 500,
  SSE_INVALID_CHANNEL: 500,
  SSE_INVALID_FILTER: 500,
  SSE_ALREADY_SUBSCRIBED: 500,
  SSE_ID_RESERVED: 500,
  SSE_HUB_CLOSED: 503,
  SSE_INVALID_KEY: 500,
  SSE_INVALID_OWNER: 500,
  SSE_INVALID_SNAPSHOT: 500,
  SSE_SNAPSHOT_NOT_SHARED: 500,
  SSE_LIMIT_REACHED: 503,
  SSE_UNAVAILABLE: 503,
  SSE_BACKPLANE_UNAVAILABLE: 503,
  SSE_BACKPLANE_MISSING: 500,
  SSE_BAD_REQUEST: 400,
  SSE_FORBIDDEN: 403,
}

describe('SseError', () => {
  it.each(Object.entries(STATUS) as [SseErrorCode, number][])('%s has the status %i', (code, status) => {
    const error = new SseError(code, 'the message')
    expect([error.code, error.status, error.message, error.name]).toEqual([code, status, 'the message', 'SseError'])
    expect(error.headers).toBeUndefined()
    expect(String(error)).toBe('SseError: the message')
    expect(error.stack).toContain('errors.spec.ts')
  })

  it('has the headers that it was made with, and a cause only if it was made with one', () => {
    const headers = { 'Retry-After': '7' }
    const error = new SseError('SSE_LIMIT_REACHED', 'full', { headers })
    expect(error.headers).toEqual(headers)
    expect('cause' in error).toBe(false)
    expect(new SseError('SSE_INVALID_DATA', 'bad', { cause: 7 }).cause).toBe(7)
    expect('cause' in new SseError('SSE_INVALID_DATA', 'bad', { cause: undefined })).toBe(true)
  })

  it('is recognised if another copy of the package made it, and nothing else is', async () => {
    let Other = SseError
    await jest.isolateModulesAsync(async () => {
      Other = (await import('../../lib/basics/errors.ts')).SseError
    })
    expect(Other).not.toBe(SseError)
    const other = new Other('SSE_FORBIDDEN', 'no')
    expect(other instanceof SseError).toBe(true)
    expect(new SseError('SSE_FORBIDDEN', 'no') instanceof Other).toBe(true)
    expect(new SseError('SSE_FORBIDDEN', 'no') instanceof Error).toBe(true)
    for (const value of [new Error('no'), { code: 'SSE_FORBIDDEN', status: 403 }, null, undefined, 'SSE_FORBIDDEN', () => {}]) {
      expect((value as unknown) instanceof SseError).toBe(false)
    }
  })
})

describe('describeValue', () => {
  it.each<[string, unknown, string]>([
    ['a string', 'a b', "'a b'"],
    ['an empty string', '', "''"],
    ['a string with line breaks', 'a\r\nb', "'a\\r\\nb'"],
    ['an error as its message on one line', new TypeError('a\nb'), '[TypeError: a b]'],
    ['a value with custom output of several lines', { [Symbol.for('nodejs.util.inspect.custom')]: () => 'a\n  b' }, 'a b'],
    ['a number', -0, '-0'],
    ['a BigInt', 1n, '1n'],
    ['undefined', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a symbol', Symbol('s'), 'Symbol(s)'],
    ['a function', function named() {}, '[Function: named]'],
    ['an object, one level deep', { a: 1, b: { c: 2 } }, '{ a: 1, b: [Object] }'],
    ['the beginning of an array', [1, 2, 3, 4, 5, 6], '[ 1, 2, 3, 4, ... 2 more items ]'],
    ['the beginning of a long string', 'x'.repeat(300), `'${'x'.repeat(60)}'... 240 more characters`],
  ])('describes %s', (_, value, text) => {
    expect(describeValue(value)).toBe(text)
  })

  it('never cuts a surrogate pair in half', () => {
    for (let n = 0; n < 4; n++) {
      expect(describeValue({ ['x'.repeat(n + 1)]: '😀'.repeat(28), y: '😀'.repeat(60) }).isWellFormed()).toBe(true)
    }
  })

  it('cuts long output and marks it with an ellipsis', () => {
    const text = describeValue(Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`key${n}`, 'x'.repeat(50)])))
    expect(text).toHaveLength(121)
    expect(text).toMatch(/^\{ key0: 'xxx.*…$/)
    // 120 UTF-16 units are not cut.
    expect(describeValue({ ['k'.repeat(113)]: 1 })).toBe(`{ ${'k'.repeat(113)}: 1 }`)
    expect(describeValue({ ['k'.repeat(114)]: 1 })).toBe(`{ ${'k'.repeat(114)}: 1 …`)
  })

  it('names the type of a value that cannot be inspected', () => {
    const broken = {
      [Symbol.for('nodejs.util.inspect.custom')]: () => {
        throw new Error('no')
      },
    }
    expect(describeValue(broken)).toBe('object')
    expect(describeValue(Object.assign(() => {}, broken))).toBe('function')
  })

  it('calls no getter or method of the value', () => {
    const called: string[] = []
    const value = {
      get data() {
        called.push('getter')
        return 1
      },
      toString: () => called.push('toString'),
      toJSON: () => called.push('toJSON'),
    }
    expect(describeValue(value)).toBe('{ data: [Getter], toString: [Function: toString], toJSON: [Function: toJSON] }')
    expect(called).toEqual([])
  })

  it('describes a value from another realm', () => {
    expect(describeValue(vm.runInNewContext('({ a: [1] })'))).toBe('{ a: [Array] }')
  })
})
