import * as fc from 'fast-check'
import { formatId, parseId } from '../../lib/event/event-id.ts'

const epoch = fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcdefghijklmnopqrstuvwxyz')), minLength: 10, maxLength: 10 })
const position = fc.nat(Number.MAX_SAFE_INTEGER)
const channel = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 256 }),
    fc.string({ unit: 'grapheme', maxLength: 256 }),
    fc.constantFrom('ü'.repeat(256), '😀'.repeat(128), '\uffff'.repeat(256)),
  )
  .filter((name) => name.length >= 1 && name.length <= 256 && name.isWellFormed())

describe('an event id', () => {
  it('is written as the wire format says', () => {
    expect(formatId('abcdefghij', 1_790_000_000_000_000, 'user:ü/%')).toBe('abcdefghij-1790000000000000/user%3A%C3%BC%2F%25')
    expect(formatId('abcdefghij', 0)).toBe('abcdefghij-0/')
  })

  it('is read back, whatever the channel', () => {
    fc.assert(
      fc.property(epoch, position, fc.option(channel, { nil: undefined }), (e, p, name) => {
        const id = formatId(e, p, name)
        expect(parseId(id)).toEqual({ epoch: e, position: p })
        // It can go through a header as it is.
        expect(id).toMatch(/^[\x21-\x7e]+$/)
      }),
      { numRuns: 500 },
    )
  })

  it.each([
    '',
    '7',
    '/',
    '-1/',
    'abcdefghij',
    'abcdefghij-',
    'abcdefghij-/',
    'abcdefghij-1',
    'abcdefghi-1/',
    'abcdefghijk-1/',
    'ABCDEFGHIJ-1/',
    'abcdefghi\u00fc-1/',
    'abcdefghij--1/',
    'abcdefghij-+1/',
    'abcdefghij-01/',
    'abcdefghij-1e3/',
    'abcdefghij-0x1/',
    'abcdefghij-1.5/',
    'abcdefghij- 1/',
    'abcdefghij-9007199254740992/',
    'abcdefghij-99999999999999999/',
    'abcdefghij-1/a b',
    'abcdefghij-1/a/b',
    'abcdefghij-1/a\n',
    'abcdefghij-1/\n',
    ' abcdefghij-1/a',
    'abcdefghij-1/ü',
    'abcdefghij-1/%',
    'abcdefghij-1/%zz',
    'abcdefghij-1/%ff',
    'abcdefghij-1/%c3%bc',
    'abcdefghij-1/%41',
  ])('that was never written is not read: %j', (id) => {
    expect(parseId(id)).toBeUndefined()
  })

  it('garbage is never read as anything that was not written', () => {
    const nearly = fc
      .tuple(epoch, fc.string({ unit: fc.constantFrom(...Array.from('0123456789-/. e')) }), fc.string({ unit: 'binary' }))
      .map((parts) => parts.join('-'))
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), nearly), (garbage) => {
        const place = parseId(garbage)
        expect(place === undefined || garbage.startsWith(formatId(place.epoch, place.position))).toBe(true)
      }),
      { numRuns: 1_000 },
    )
  })

  it.each([
    ['a channel without end', `abcdefghij-1/${'a'.repeat(8192)}`],
    ['digits without end', `abcdefghij-${'9'.repeat(8192)}/`],
    ['escapes without end', `abcdefghij-1/${'%'.repeat(8192)}`],
    ['letters without end', 'a'.repeat(8192)],
    ['dashes without end', '-'.repeat(8192)],
  ])('of 8 KiB is refused without reading it: %s', (_what, id) => {
    const time = (text: string): bigint => {
      const start = process.hrtime.bigint()
      for (let i = 0; i < 2_000; i++) parseId(text)
      return process.hrtime.bigint() - start
    }
    expect(parseId(id)).toBeUndefined()
    const proper = formatId('abcdefghij', 1, '😀'.repeat(128))
    time(id)
    time(proper)
    // No more work than for the longest id there is; the factor is for the noise of the clock.
    expect(Number(time(id))).toBeLessThan(Number(time(proper)) * 20 + 5e6)
  })
})
