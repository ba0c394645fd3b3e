import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { encodeEvent, Hub, type HubEvent, type SseMiddlewareOptions, type SseStream } from 'express-sse-hub'
import { until } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

class TooLate extends Error {}

const PROMISE = /must not be a promise: await it/
const BYTES =
  /not bytes: decode it \(readable\.setEncoding\('utf8'\), webStream\.pipeThrough\(new TextDecoderStream\(\)\), buffer\.toString\(\)\)/
const MAP = /must not be a Map.* send Object\.fromEntries\(map\) or \[\.\.\.map\]/
const SET = /must not be a Set.* send \[\.\.\.set\]/
const ERROR = /must not be an Error.* send \{ message: error\.message \}/

/** Data whose JSON is never the intended text, with the alternative that the error suggests. */
const REFUSED: readonly (readonly [what: string, data: unknown, message: RegExp])[] = [
  ['a promise', Promise.resolve('x'), PROMISE],
  // oxlint-disable-next-line unicorn/no-thenable -- this is the case under test
  ['a thenable', { then: (resolve: (value: string) => void) => resolve('x') }, PROMISE],
  ['a Buffer', Buffer.from('x'), BYTES],
  ['a Uint8Array', new Uint8Array(3), BYTES],
  ['an ArrayBuffer', new ArrayBuffer(3), BYTES],
  ['a SharedArrayBuffer', new SharedArrayBuffer(3), BYTES],
  ['a DataView', new DataView(new ArrayBuffer(3)), BYTES],
  ['a Map', new Map([['a', 1]]), MAP],
  ['a Set', new Set([1]), SET],
  ['an Error', new Error('no'), ERROR],
  ['an instance of a subclass of Error', new TooLate('no'), ERROR],
  ['a DOMException', new DOMException('no', 'AbortError'), ERROR],
  ['the reason of an AbortSignal', AbortSignal.abort().reason, ERROR],
]

/** Data with a JSON form of its own, and its text. */
const PASSED: readonly (readonly [what: string, data: unknown, text: string])[] = [
  ['an Error with toJSON', Object.assign(new Error('no'), { toJSON: () => ({ code: 7 }) }), '{"code":7}'],
  ['a Map with toJSON', Object.assign(new Map([['a', 1]]), { toJSON: () => 'a map' }), '"a map"'],
  ['a Date', new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ['null', null, 'null'],
  // oxlint-disable-next-line unicorn/no-thenable -- this is the case under test
  ['an object whose then is not a function', { then: 1 }, '{"then":1}'],
]

const refusal = (message: RegExp) =>
  expect.objectContaining({ code: 'SSE_INVALID_DATA', message: expect.stringMatching(message) as string }) as Error

/** A `serialize` that handles Maps, bytes and Errors. */
const ownSerialize = (value: unknown): string => {
  if (value instanceof Map) return `map of ${value.size}`
  if (value instanceof Error) return `error ${value.message}`
  if (ArrayBuffer.isView(value)) return `bytes ${value.byteLength}`
  return JSON.stringify(value)
}

const KNOWN: readonly (readonly [what: string, data: unknown, text: string])[] = [
  ['a Map', new Map([['a', 1]]), 'map of 1'],
  ['an Error', new Error('no'), 'error no'],
  ['a Buffer', Buffer.from('abc'), 'bytes 3'],
]

describe.each(EXPRESS_VERSIONS)('a stream on %s', (_name, express) => {
  const openStream = (options?: SseMiddlewareOptions) => support.openStream(express, options)

  const CALLS: readonly (readonly [call: string, use: (stream: SseStream, data: unknown) => Promise<unknown>])[] = [
    ['send', (stream, data) => stream.send(data)],
    ['stream with toEvent', (stream, data) => stream.stream([0], () => ({ data }))],
    ['stream of items', (stream, data) => stream.stream(itemsOf(data))],
  ]

  describe.each(CALLS)('by %s', (call, use) => {
    it.each(REFUSED)('refuses %s, suggests an alternative, and leaves the stream open', async (_what, data, message) => {
      const { stream, client } = await openStream()
      await expect(use(stream, data)).rejects.toEqual(refusal(message))
      await expect(use(stream, data)).rejects.toThrow(new RegExp(`^${call.split(' ')[0]}: data must`))
      await stream.send('after')
      await client.received(1)
      expect(client.text).toBe('retry: 2000\ndata: after\n\n')
    })

    it.each(PASSED)('sends %s', async (_what, data, text) => {
      const { stream, client } = await openStream()
      expect(await use(stream, data)).toBe(true)
      await client.received(1)
      expect(client.text).toBe(`retry: 2000\ndata: ${text}\n\n`)
    })

    it.each(KNOWN)('sends %s through a custom serialize', async (_what, data, text) => {
      const { stream, client } = await openStream({ serialize: ownSerialize })
      expect(await use(stream, data)).toBe(true)
      await client.received(1)
      expect(client.text).toBe(`retry: 2000\ndata: ${text}\n\n`)
    })

    it('refuses a promise even with a custom serialize', async () => {
      const { stream } = await openStream({ serialize: () => 'anything' })
      await expect(use(stream, Promise.resolve('x'))).rejects.toEqual(refusal(PROMISE))
    })
  })

  it('refuses the bytes of a Readable without setEncoding, and destroys it', async () => {
    const { stream } = await openStream()
    const source = new Readable({ read() {} })
    source.push('text')
    await expect(stream.stream(source)).rejects.toEqual(refusal(BYTES))
    expect(source.destroyed).toBe(true)
    expect(stream.state).toBe('open')
  })

  it('refuses the bytes of a Response, and closes its connection', async () => {
    const ends: boolean[] = []
    const { url } = await serve((_req, res) => {
      res.on('close', () => ends.push(res.writableFinished))
      res.write('text')
    })
    const { stream } = await openStream()
    const { body } = await fetch(url)
    await expect(stream.stream(body as ReadableStream)).rejects.toEqual(refusal(BYTES))
    await until(() => ends.length > 0, 'the connection is closed')
    expect(ends).toEqual([false])
    expect(stream.state).toBe('open')
  })

  it('refuses a Response, and suggests its body', async () => {
    const { stream } = await openStream()
    await expect(stream.stream(new Response('text') as never)).rejects.toThrow(
      'pass the body of a Response: response.body.pipeThrough(new TextDecoderStream())',
    )
  })

  describe('sends as an id', () => {
    it.each<[unknown, string]>([
      [7, '7'],
      [0, '0'],
      [-1, '-1'],
      [Number.MAX_SAFE_INTEGER, '9007199254740991'],
      ['x', 'x'],
      ['', ''],
    ])('%p', async (id, text) => {
      const { stream, client } = await openStream({ retryMs: false })
      await stream.send('x', { id: id as number })
      await stream.stream(['x'], (data) => ({ data, id: id as number }))
      await client.received(2)
      expect(client.text).toBe(`id: ${text}\ndata: x\n\n`.repeat(2))
    })
  })

  it.each([NaN, Infinity, 1.5, 2 ** 53, -(2 ** 53), 7n, true, {}])('refuses %p as an id', async (id) => {
    const { stream } = await openStream()
    const refused = expect.objectContaining({
      code: 'SSE_INVALID_EVENT',
      message: expect.stringContaining('id must be a string without CR, LF or NUL, or a safe integer') as string,
    }) as Error
    await expect(stream.send('x', { id: id as number })).rejects.toEqual(refused)
    await expect(stream.stream(['x'], (data) => ({ data, id: id as number }))).rejects.toEqual(refused)
  })

  it('treats null as no event, id or retry', async () => {
    const { stream, client } = await openStream({ retryMs: false })
    const none = { event: null, id: null, retry: null }
    await stream.send('a', none)
    await stream.stream(['b'], (data) => ({ data, ...none }))
    await stream.stream(['c'], { event: null })
    await client.received(3)
    expect(client.text).toBe('data: a\n\ndata: b\n\ndata: c\n\n')
  })

  it('treats null as no id on a subscribed stream', async () => {
    const { stream, client } = await openStream()
    await stream.subscribe(new Hub(), 'a')
    await stream.send('x', { id: null })
    await expect(stream.send('x', { id: 0 })).rejects.toMatchObject({ code: 'SSE_ID_RESERVED' })
    await client.received(1)
  })
})

describe('a hub', () => {
  it.each(REFUSED)('refuses %s, suggests an alternative, and stores nothing', async (_what, data, message) => {
    const hub = new Hub()
    const items = hub.events('a')
    await expect(hub.publish('a', 'item', data)).rejects.toEqual(refusal(message))
    await expect(hub.publish('a', 'item', data)).rejects.toThrow(/^publish 'item' to 'a': data must/)
    await expect(hub.channel('a').publish('item', data)).rejects.toEqual(refusal(message))
    expect(hub.stats()).toMatchObject({ published: 0, logBytes: 0 })
    await hub.publish('a', 'item', 'marker')
    expect((await items.next()).value).toMatchObject({ data: 'marker' })
  })

  it.each(PASSED)('publishes %s', async (_what, data, text) => {
    const hub = new Hub({ deserialize: (stored) => `text ${stored}` })
    const items = hub.events('a')
    await hub.publish('a', 'item', data)
    expect(((await items.next()).value as HubEvent).data).toBe(`text ${text}`)
  })

  it.each(KNOWN)('publishes %s through a custom serialize', async (_what, data, text) => {
    const hub = new Hub({ serialize: ownSerialize, deserialize: (stored) => `text ${stored}` })
    const items = hub.events('a')
    await hub.publish('a', 'item', data)
    expect(((await items.next()).value as HubEvent).data).toBe(`text ${text}`)
  })

  it('refuses a promise even with a custom serialize', async () => {
    const hub = new Hub({ serialize: () => 'anything' })
    await expect(hub.publish('a', 'item', Promise.resolve('x'))).rejects.toEqual(refusal(PROMISE))
    expect(hub.stats().published).toBe(0)
  })
})

it.each(REFUSED)('encodeEvent refuses %s, and suggests an alternative', (_what, data, message) => {
  expect(() => encodeEvent({ data })).toThrow(refusal(message))
})

/** An async iterable of one item. A sync iterable would not do, because `stream` awaits the promises that it yields. */
function itemsOf(data: unknown): AsyncIterable<unknown> {
  const results: IteratorResult<unknown>[] = [{ done: false, value: data }]
  return { [Symbol.asyncIterator]: () => ({ next: async () => results.shift() ?? { done: true, value: undefined } }) }
}
