import { createParser, type EventSourceMessage } from 'eventsource-parser'
import * as fc from 'fast-check'
import { encodeEvent, SseError, type EventInput } from 'express-sse-hub'
import { encodeComment, formatBody, parseBlock } from '../../lib/event/event.ts'

interface Read {
  readonly events: EventSourceMessage[]
  readonly comments: string[]
  readonly retries: number[]
}

/** What a client reads from these bytes, given to it in pieces that end at `cuts`. */
function read(text: string, cuts: readonly number[] = []): Read {
  const result: Read = { events: [], comments: [], retries: [] }
  const parser = createParser({
    onEvent: (event) => result.events.push(event),
    onComment: (comment) => result.comments.push(comment),
    onRetry: (retry) => result.retries.push(retry),
  })
  const bytes = Buffer.from(text)
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  let start = 0
  for (const end of [...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length]) {
    parser.feed(decoder.decode(bytes.subarray(start, end), { stream: true }))
    start = end
  }
  return result
}

const caught = (encode: () => unknown): SseError => {
  try {
    encode()
  } catch (error) {
    return error as SseError
  }
  throw new Error('nothing was thrown')
}

describe('encodeEvent', () => {
  it.each<[string, EventInput, string]>([
    ['a line', { data: 'a' }, 'data: a\n\n'],
    ['empty data', { data: '' }, 'data: \n\n'],
    ['data of one space', { data: ' ' }, 'data:  \n\n'],
    ['data that looks like a field', { data: 'id: 7' }, 'data: id: 7\n\n'],
    ['LF', { data: 'a\nb' }, 'data: a\ndata: b\n\n'],
    ['CR', { data: 'a\rb' }, 'data: a\ndata: b\n\n'],
    ['CRLF as one break', { data: 'a\r\nb' }, 'data: a\ndata: b\n\n'],
    ['LFCR as two', { data: 'a\n\rb' }, 'data: a\ndata: \ndata: b\n\n'],
    ['all of them', { data: 'a\r\n\rb\n\nc\r\r\nd' }, 'data: a\ndata: \ndata: b\ndata: \ndata: c\ndata: \ndata: d\n\n'],
    ['a trailing break', { data: 'a\n' }, 'data: a\ndata: \n\n'],
    ['several trailing breaks', { data: 'a\r\n\n' }, 'data: a\ndata: \ndata: \n\n'],
    ['nothing but a break', { data: '\n' }, 'data: \ndata: \n\n'],
    ['a leading break', { data: '\ra' }, 'data: \ndata: a\n\n'],
    [
      'line separators that are none in the standard',
      { data: 'a\u2028b\u2029c\u0085d\u000be\u000cf' },
      'data: a\u2028b\u2029c\u0085d\u000be\u000cf\n\n',
    ],
    ['NUL', { data: 'a\0b' }, 'data: a\0b\n\n'],
    ['a byte order mark', { data: '\ufeffa' }, 'data: \ufeffa\n\n'],
    ['an object as JSON', { data: { a: '\n' } }, 'data: {"a":"\\n"}\n\n'],
    ['null, a number and a boolean as JSON', { data: [null, 0, false] }, 'data: [null,0,false]\n\n'],
    ['what toJSON gives', { data: new Date(0) }, 'data: "1970-01-01T00:00:00.000Z"\n\n'],
    ['an event name', { event: 'tick', data: 'a' }, 'event: tick\ndata: a\n\n'],
    ['an event name with spaces and colons', { event: ' a: b ', data: 'a' }, 'event:  a: b \ndata: a\n\n'],
    ['no line for the name message', { event: 'message', data: 'a' }, 'data: a\n\n'],
    ['no line for an empty name', { event: '', data: 'a' }, 'data: a\n\n'],
    ['an id', { id: '7', data: 'a' }, 'id: 7\ndata: a\n\n'],
    ['the id 0', { id: '0', data: 'a' }, 'id: 0\ndata: a\n\n'],
    ['an empty id, which clears that of the client', { id: '', data: 'a' }, 'id: \ndata: a\n\n'],
    ['a retry of 0', { retry: 0, data: 'a' }, 'retry: 0\ndata: a\n\n'],
    ['the greatest retry', { retry: 2_147_483_647, data: 'a' }, 'retry: 2147483647\ndata: a\n\n'],
    ['all fields', { id: '1', retry: 5, event: 'e', data: 'a' }, 'id: 1\nretry: 5\nevent: e\ndata: a\n\n'],
    ['fields that are undefined', { id: undefined, retry: undefined, event: undefined, data: 'a' }, 'data: a\n\n'],
  ])('writes %s', (_what, input, text) => {
    expect(encodeEvent(input)).toBe(text)
  })

  it.each<[string, Record<string, unknown>, RegExp]>([
    ['LF in the event name', { event: 'a\nb' }, /event must .*'a\\nb'/],
    ['CR in the event name', { event: 'a\rdata: forged' }, /event must .*forged/],
    ['a break at the end of the event name', { event: 'a\n' }, /event must/],
    ['an event name that is no string', { event: 5 }, /event must .*5/],
    ['LF in the id', { id: '1\n\ndata: forged' }, /id must .*forged/],
    ['CR in the id', { id: '\r' }, /id must .*'\\r'/],
    ['NUL in the id', { id: 'a\0' }, /id must .*'a\\x00'/],
    ['an id that is neither a string nor a number', { id: true }, /id must .*true/],
    ['an id that is no safe integer', { id: 2 ** 53 }, /id must .*9007199254740992/],
    ['an id with a fraction', { id: 1.5 }, /id must .*1\.5/],
    ['a field there is not', { evnt: 'x' }, /no field 'evnt'; the fields are data, event, id, retry/],
    ['a negative retry', { retry: -1 }, /retry must .*-1/],
    ['a fractional retry', { retry: 0.5 }, /retry must .*0\.5/],
    ['NaN as retry', { retry: NaN }, /retry must .*NaN/],
    ['Infinity as retry', { retry: Infinity }, /retry must .*Infinity/],
    ['a retry of 2 ** 31', { retry: 2 ** 31 }, /retry must .*2147483648/],
    ['a retry that is a string', { retry: '5' }, /retry must .*'5'/],
    ['a retry that is a BigInt', { retry: 5n }, /retry must .*5n/],
  ])('refuses %s', (_what, fields, message) => {
    const error = caught(() => encodeEvent({ data: 'x', ...fields }))
    expect(error).toBeInstanceOf(SseError)
    expect(error).toMatchObject({ code: 'SSE_INVALID_EVENT', status: 500, message: expect.stringMatching(message) as string })
  })

  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['a string', 'data'],
  ])('refuses %s for an event', (_what, input) => {
    expect(caught(() => encodeEvent(input as EventInput))).toMatchObject({ code: 'SSE_INVALID_EVENT' })
  })

  const cycle: { self?: unknown } = {}
  cycle.self = cycle
  it.each<[string, unknown, RegExp]>([
    ['undefined', undefined, /got undefined/],
    ['a function', function tick() {}, /got .*tick/],
    ['a symbol', Symbol('s'), /got Symbol\(s\)/],
    ['a BigInt', 12n, /got 12n/],
    ['a BigInt deep inside', { total: 12n }, /got \{ total: 12n \}/],
    ['a cycle', cycle, /got .*self/],
    [
      'an object whose toJSON throws',
      {
        toJSON: () => {
          throw new Error('no')
        },
      },
      /no; got/,
    ],
    ['an object whose toJSON gives undefined', { toJSON: () => undefined }, /got .*toJSON/],
  ])('refuses %s as data, by its value', (_what, data, message) => {
    const error = caught(() => encodeEvent({ data }))
    expect(error).toMatchObject({ code: 'SSE_INVALID_DATA', message: expect.stringMatching(message) as string })
    expect(error.message).not.toContain('\n')
    expect(error.message.length).toBeLessThan(400)
  })

  it('reads each field once: one that changes between the check and the writing forges nothing', () => {
    let reads = 0
    const sly = {
      data: 'x',
      get id() {
        return reads++ === 0 ? '1' : '1\n\ndata: forged'
      },
    }
    expect(read(encodeEvent(sly)).events).toEqual([{ data: 'x', event: undefined, id: '1' }])
    const fields = { event: 'a', data: { toJSON: () => ((fields.event = 'a\n\ndata: forged'), 'x') } }
    expect(read(encodeEvent(fields)).events).toEqual([{ data: '"x"', event: 'a', id: undefined }])
  })
})

describe('what is sent is what arrives', () => {
  const text = fc.oneof(
    fc.string({ unit: 'grapheme' }),
    fc.string({ unit: fc.constantFrom('\r', '\n', '\r\n', 'a', ' ', ':', 'data: ', '\0', '\ufeff', '\u2028', 'ü', '😀') }),
  )
  const line = text.map((value) => value.replaceAll(/[\r\n]/g, ''))
  const id = line.map((value) => value.replaceAll('\0', ''))
  const event = fc.record({ data: text, event: line, id, retry: fc.nat(2_147_483_647) }, { requiredKeys: ['data'] })
  const arrived = ({ data, event: name, id: given }: EventInput): EventSourceMessage => ({
    data: (data as string).replaceAll(/\r\n|\r/g, '\n'),
    event: name === 'message' || name === '' ? undefined : (name ?? undefined),
    id: given === undefined || given === null ? undefined : String(given),
  })

  it('for any events, however their bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 5 }), fc.array(fc.nat()), (events, cuts) => {
        const { events: got, retries, comments } = read(events.map(encodeEvent).join(''), cuts)
        expect(got).toEqual(events.map(arrived))
        expect(retries).toEqual(events.flatMap(({ retry }) => retry ?? []))
        expect(comments).toEqual([])
      }),
      { numRuns: 500 },
    )
  })

  it('for any JSON', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.array(fc.nat()), (value, cuts) => {
        const [got] = read(encodeEvent({ data: { value } }), cuts).events
        expect(JSON.parse(got?.data ?? '')).toEqual(JSON.parse(JSON.stringify({ value })))
      }),
    )
  })

  it('for any comment: it forges nothing, and what follows arrives', () => {
    fc.assert(
      fc.property(text, fc.array(fc.nat()), (comment, cuts) => {
        const { events, retries, comments } = read(encodeComment(comment) + encodeEvent({ data: 'after' }), cuts)
        expect(events).toEqual([{ data: 'after', event: undefined, id: undefined }])
        expect(retries).toEqual([])
        expect(comments).toEqual(comment.split(/\r\n|\r|\n/))
      }),
    )
  })

  it('whatever is given for event and id, it is one event or refused', () => {
    fc.assert(
      fc.property(text, text, (name, given) => {
        const input = { event: name, id: given, data: 'x' }
        const isForged = /[\r\n]/.test(name) || /[\r\n\0]/.test(given)
        const outcome = () => (isForged ? caught(() => encodeEvent(input)).code : read(encodeEvent(input)).events)
        expect(outcome()).toEqual(isForged ? 'SSE_INVALID_EVENT' : [arrived(input)])
      }),
    )
  })

  it('parseBlock reads back what formatBody wrote', () => {
    fc.assert(
      fc.property(text, line, (data, name) => {
        expect(parseBlock(`id: 1\n${formatBody(data, name)}`)).toEqual({
          event: name === '' ? 'message' : name,
          text: data.replaceAll(/\r\n|\r/g, '\n'),
        })
      }),
    )
  })
})

describe('encodeComment', () => {
  it.each([
    ['', ':\n'],
    ['hello', ': hello\n'],
    ['a\r\nb\rc\nd', ': a\n: b\n: c\n: d\n'],
    ['\n\ndata: forged\n\n', ': \n: \n: data: forged\n: \n: \n'],
  ])('writes %j as comment lines', (text, block) => {
    expect(encodeComment(text)).toBe(block)
  })
})
