import { type EventsOptions, Hub } from 'express-sse-hub'

/** The error that is thrown for these arguments. */
function refusal(hub: Hub, channels: unknown, options: unknown): Error {
  try {
    hub.events(channels as string[], options as EventsOptions)
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}

describe('the arguments of hub.events()', () => {
  it.each<[string, unknown, unknown, new (...args: never[]) => Error, RegExp]>([
    ['channels that are not names', { a: 1 }, {}, Error, /events: a channel name must be .*a: 1/],
    ['no channel', [], {}, RangeError, /at least one channel.*\[\]/],
    ['a bad name among good ones', ['a', ''], {}, Error, /channel name.*''/],
    ['a name that is not a string', ['a', 7], {}, Error, /channel name.*7/],
    ['an unknown option', ['a'], { lastEventID: 'x' }, TypeError, /events: .*'lastEventID'.*lastEventId, rewind, filter, signal/],
    ['an option of subscribe', ['a'], { key: 'x' }, TypeError, /'key'/],
    ['options that are not an object', ['a'], 'x', TypeError, /events: options.*'x'/],
    ['a lastEventId that is a number', ['a'], { lastEventId: 17 }, TypeError, /lastEventId must be a string.*17/],
    ['a lastEventId that is null', ['a'], { lastEventId: null }, TypeError, /lastEventId must be a string.*null/],
    ['a controller as signal', ['a'], { signal: { aborted: false } }, TypeError, /signal must be an AbortSignal.*aborted: false/],
    ['a negative rewind', ['a'], { rewind: -1 }, RangeError, /rewind.*-1/],
    ['a rewind with a fraction', ['a'], { rewind: 1.5 }, RangeError, /rewind.*1\.5/],
    ['a rewind that is not a number', ['a'], { rewind: '3' }, TypeError, /rewind must be an integer, 0 or more, got '3'/],
    ['a filter that is not a function', ['a'], { filter: true }, TypeError, /filter must be a function.*true/],
  ])('are refused by name, without a subscription: %s', (_, channels, options, type, message) => {
    const hub = new Hub()
    const error = refusal(hub, channels, options)
    expect(error).toBeInstanceOf(type)
    expect(error.message).toMatch(message)
    expect(hub.channel('a').subscriberCount).toBe(0)
  })

  it('are refused with SSE_INVALID_CHANNEL if a name is too long', () => {
    expect(refusal(new Hub(), ['a', 'x'.repeat(257)], {})).toMatchObject({ code: 'SSE_INVALID_CHANNEL' })
  })

  it('are refused if the bounds of a channel are invalid, with the names of both', () => {
    const hub = new Hub({ replay: (name) => ({ maxEvents: name === 'bad' ? -1 : 1 }) })
    expect(refusal(hub, ['a', 'bad'], {}).message).toMatch(/replay\('bad'\)\.maxEvents.*-1/)
    expect(hub.channel('a').subscriberCount).toBe(0)
  })

  it('create no channel if they are refused', () => {
    const hub = new Hub({ replay: (name) => ({ maxEvents: name === 'bad' ? -1 : 1 }) })
    expect(() => hub.events(['a', 'bad'])).toThrow(/bad/)
    expect(hub.stats().channels).toBe(0)
  })
})
