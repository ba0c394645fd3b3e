import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import zlib, { gunzipSync } from 'node:zlib'
import compression from 'compression'
import {
  type CloseOptions,
  Hub,
  type HubOptions,
  sseMiddleware,
  type SseMiddlewareOptions,
  type SseStream,
  type SubscribeOptions,
} from 'express-sse-hub'
import { until } from '../support/client.ts'
import { GzipClient } from '../support/gzip-client.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { sized } from '../support/scale.ts'
import { serve, stopServers } from '../support/servers.ts'

const hubs: Hub[] = []
afterEach(async () => {
  for (const hub of hubs.splice(0)) await hub.close()
  await stopServers()
  jest.restoreAllMocks()
})

const [, [, express]] = EXPRESS_VERSIONS as [unknown, (typeof EXPRESS_VERSIONS)[number]]
const MODES = [true, 'shared'] as const

interface Setup extends SseMiddlewareOptions {
  readonly hub?: HubOptions
  readonly subscribe?: SubscribeOptions
  readonly channels?: readonly string[]
  readonly factory?: typeof express
  readonly before?: ReturnType<typeof compression>
}

async function open({ hub: hubOptions, subscribe, channels = ['a'], factory = express, before, ...options }: Setup) {
  const hub = new Hub(hubOptions)
  hubs.push(hub)
  const streams: SseStream[] = []
  const app = factory()
  if (before !== undefined) app.use(before)
  app.use(sseMiddleware({ keepAliveMs: false, ...options }))
  app.get('/', async (_req, res) => {
    streams.push(res.sse)
    await res.sse.subscribe(hub, channels, subscribe)
  })
  app.get('/direct', (_req, res) => {
    streams.push(res.sse)
    res.sse.open()
  })
  const { url } = await serve(app)
  return { hub, streams, url }
}

const order = (n: number) => ({
  n,
  state: 'created',
  items: [
    { article: 'apples', quantity: n },
    { article: 'pears', quantity: n + 1 },
  ],
  note: 'leave it at the door',
})

describe.each(EXPRESS_VERSIONS)('compress on %s', (_name, factory) => {
  describe.each(MODES)('%p', (compress) => {
    it('delivers each event to a client that accepts gzip before the next is published', async () => {
      const { hub, url } = await open({ factory, compress })
      const client = await (await GzipClient.open(url)).received('stream-open')
      for (let n = 1; n <= 30; n++) {
        await hub.publish('a', 'order', order(n))
        await client.received('order', n)
      }
      expect(client.response.headers).toMatchObject({
        'content-encoding': 'gzip',
        vary: 'Accept-Encoding',
        'content-type': 'text/event-stream; charset=utf-8',
      })
      expect(client.response.headers).not.toHaveProperty('content-length')
      expect(client.data('order')).toEqual(Array.from({ length: 30 }, (_, n) => order(n + 1)))
      expect(client.wire.length).toBeLessThan(client.text.length * (compress === 'shared' ? 0.5 : 0.8))
    })

    it('sends plain text to a client that does not accept gzip, with a Vary header', async () => {
      const { hub, url } = await open({ factory, compress })
      const client = await (await GzipClient.open(url, { 'accept-encoding': 'br, gzip;q=0' })).received('stream-open')
      await hub.publish('a', 'order', order(1))
      await client.received('order')
      expect(client.response.headers).not.toHaveProperty('content-encoding')
      expect(client.response.headers).toMatchObject({ vary: 'Accept-Encoding' })
      expect(client.wire.toString()).toBe(client.text)
    })

    it('is not compressed again by compression()', async () => {
      const { hub, url } = await open({
        factory,
        compress,
        before: compression({ threshold: 0 }),
        headers: { 'Cache-Control': 'no-cache' },
      })
      const client = await (await GzipClient.open(url)).received('stream-open')
      await hub.publish('a', 'order', order(1))
      await client.received('order')
      expect(client.data('order')).toEqual([order(1)])
    })

    it('answers HEAD with the head of GET', async () => {
      const { url } = await open({ factory, compress })
      const head = await fetch(url, { method: 'HEAD', headers: { 'accept-encoding': 'gzip' } })
      expect(Object.fromEntries(head.headers)).toMatchObject({ 'content-encoding': 'gzip', vary: 'Accept-Encoding' })
      const client = await GzipClient.open(url)
      client.leave()
      expect(Object.keys(client.response.headers)).toEqual(
        expect.arrayContaining([...head.headers.keys()].filter((name) => name !== 'keep-alive')),
      )
    })
  })
})

describe('compress', () => {
  it('is off by default', async () => {
    const { url } = await open({})
    const client = await (await GzipClient.open(url)).received('stream-open')
    expect(client.response.headers).not.toHaveProperty('content-encoding')
    expect(client.response.headers).not.toHaveProperty('vary')
  })

  it.each([
    [undefined, 'Accept-Encoding'],
    ['Origin', 'Origin, Accept-Encoding'],
    ['Origin, accept-encoding', 'Origin, accept-encoding'],
    ['*', '*'],
  ])('extends the Vary header %p', async (vary, expected) => {
    const { url } = await open({ compress: true, headers: { Vary: vary } })
    const client = await GzipClient.open(url)
    expect(client.response.headers.vary).toBe(expected)
  })

  it.each<[unknown, SseMiddlewareOptions, RegExp]>([
    ['a number', { compress: 1 as never }, /compress.*boolean.*'shared'.*1/],
    ['an unknown name', { compress: 'gzip' as never }, /compress.*'gzip'/],
    ['null', { compress: null as never }, /compress.*null/],
    ['combined with a Content-Encoding header', { compress: true, headers: { 'content-encoding': 'br' } }, /Content-Encoding.*compress/],
  ])('is refused if it is %s', (_what, options, message) => {
    expect(() => sseMiddleware(options)).toThrow(message)
    expect(() => sseMiddleware(options)).toThrow(TypeError)
  })

  it.each(MODES)('compresses a batch once for all clients: %p', async (compress) => {
    const { hub, url } = await open({ compress, retryMs: false })
    const clients = await Promise.all(Array.from({ length: 20 }, async () => (await GzipClient.open(url)).received('stream-open')))
    const heads = clients.map(({ wire }) => wire.length)
    const deflate = jest.spyOn(zlib, 'deflateRawSync')
    for (let n = 1; n <= 10; n++) {
      await Promise.all([hub.publish('a', 'order', order(n)), hub.publish('a', 'order', order(-n))])
      await Promise.all(clients.map((client) => client.received('order', 2 * n)))
    }
    expect(deflate).toHaveBeenCalledTimes(10)
    const bodies = clients.map(({ wire }, i) => wire.subarray(heads[i]))
    expect(bodies.every((body) => body.equals(bodies[0] as Buffer))).toBe(true)
  })

  it.each(MODES)('shares the replay of a reconnect storm between clients at different positions: %p', async (compress) => {
    const { hub, url } = await open({ compress })
    const ids: string[] = []
    for (let n = 1; n <= 1_000; n++) ids.push(await hub.publish('a', 'order', order(n)))
    const deflate = jest.spyOn(zlib, 'deflateRawSync')
    const clients = await Promise.all(
      Array.from({ length: 50 }, async (_, i) =>
        (await GzipClient.open(url, { 'last-event-id': ids[i * 4] as string })).received('stream-open'),
      ),
    )
    for (const [i, client] of clients.entries()) {
      // Joined text compares faster than an array of events.
      const received = client.events.filter(({ event }) => event === 'order').map(({ data }) => data)
      expect(received.join('\n')).toBe(
        ids
          .slice(i * 4 + 1)
          .map((_id, n) => JSON.stringify(order(i * 4 + n + 2)))
          .join('\n'),
      )
    }
    const segments = Math.ceil((clients[0] as GzipClient).text.length / 16_384) + 4
    // Each client starts in the middle of a segment, and a shared segment may have to be compressed again.
    expect(deflate.mock.calls.length).toBeLessThan(50 + 3 * segments)
    const compressed = deflate.mock.calls.reduce((sum, [bytes]) => sum + (bytes as Buffer).length, 0)
    expect(compressed).toBeLessThan(50 * 16_384 + 3 * segments * 16_384)
  })

  it('resumes a client that was cut off, without gaps or duplicates', async () => {
    const { hub, url } = await open({ compress: 'shared' })
    const received: unknown[] = []
    let lastId = ''
    for (let round = 0; round < 20; round++) {
      const client = await (await GzipClient.open(url, { 'last-event-id': lastId })).received('stream-open')
      for (let n = 0; n < 7; n++) await hub.publish('a', 'order', order(round * 10 + n))
      await until(() => received.length + client.data('order').length >= round * 10 + 7, 'it has received every published event')
      client.leave()
      received.push(...client.data('order'))
      lastId = client.lastId
      for (let n = 7; n < 10; n++) await hub.publish('a', 'order', order(round * 10 + n))
    }
    expect(received).toEqual(Array.from({ length: 197 }, (_, n) => order(n)))
  })

  it.each(MODES)('resets a client that missed events: %p', async (compress) => {
    const { hub, url } = await open({ compress, hub: { replay: { maxEvents: 2 } } })
    const id = await hub.publish('a', 'order', order(1))
    for (let n = 2; n <= 5; n++) await hub.publish('a', 'order', order(n))
    const client = await (await GzipClient.open(url, { 'last-event-id': id })).received('stream-open')
    await hub.publish('a', 'order', order(6))
    await client.received('order')
    expect(client.names).toEqual(['stream-reset', 'stream-open', 'order'])
  })

  it('compresses a snapshot once for all clients that wait for it', async () => {
    const state = Array.from({ length: 100 }, (_, n) => order(n))
    const settle: (() => void)[] = []
    const snapshot = () => new Promise<{ data: unknown }>((resolve) => settle.push(() => resolve({ data: state })))
    const { url } = await open({ compress: true, subscribe: { snapshot } })
    const deflate = jest.spyOn(zlib, 'deflateRawSync')
    const opening = Array.from({ length: 10 }, () => GzipClient.open(url))
    const clients = await Promise.all(opening)
    await until(() => settle.length > 0, 'the snapshot is requested')
    for (const end of settle) end()
    for (const client of clients) expect((await client.received('stream-open')).data('snapshot')).toEqual([state])
    expect(settle).toHaveLength(1)
    expect(deflate).toHaveBeenCalledTimes(1)
  })

  it.each(MODES)('never refers from one channel to another: %p', async (compress) => {
    const { hub, url } = await open({ compress, channels: ['a', 'b'] })
    const client = await (await GzipClient.open(url)).received('stream-open')
    const sizes: number[] = []
    for (let n = 1; n <= 10; n++) {
      const before = client.wire.length
      await hub.publish(n % 2 === 0 ? 'a' : 'b', 'order', {
        secret: 'a secret that is the same in both channels and does not become smaller by itself',
      })
      await client.received('order', n)
      sizes.push(client.wire.length - before)
    }
    // Only the digits of the ids differ.
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThan(8)
  })

  it("refers to earlier events of a channel with 'shared', but not with true", async () => {
    const sizes: Record<string, number> = {}
    for (const compress of MODES) {
      const { hub, url } = await open({ compress })
      const client = await (await GzipClient.open(url)).received('stream-open')
      for (let n = 1; n <= 3; n++) {
        const before = client.wire.length
        await hub.publish('a', 'order', { secret: 'something long that the events of this channel have in common with each other' })
        await client.received('order', n)
        sizes[`${compress} ${n}`] = client.wire.length - before
      }
    }
    expect(sizes['shared 3']).toBeLessThan((sizes['shared 1'] as number) / 2)
    expect(Math.abs((sizes['true 3'] as number) - (sizes['true 1'] as number))).toBeLessThan(8)
  })

  it('delivers every event to a slow client', async () => {
    const { hub, url } = await open({ compress: true })
    const client = await (await GzipClient.open(url)).received('stream-open')
    client.response.pause()
    for (let n = 1; n <= 900; n++) await hub.publish('a', 'order', { n, noise: zlib.crc32(String(n)).toString(36).repeat(20) })
    client.response.resume()
    await client.received('order', 900)
    expect(client.data('order').map((data) => (data as { n: number }).n)).toEqual(Array.from({ length: 900 }, (_, n) => n + 1))
  })

  it.each([10, 1_000, 100_000, sized(3_000_000, 1_000_000)])('sends events of %i characters, published and direct', async (length) => {
    const text = Array.from({ length: length / 5 }, (_, n) => zlib.crc32(String(n)).toString(36).slice(0, 5).padStart(5, 'ü')).join('')
    const { hub, streams, url } = await open({ compress: 'shared', hub: { replay: { maxBytes: 10_000_000 } } })
    const client = await (await GzipClient.open(url)).received('stream-open')
    await hub.publish('a', 'text', text)
    await client.received('text')
    expect(await streams[0]?.send(text, { event: 'direct' })).toBe(true)
    await hub.publish('a', 'text', text)
    await Promise.all([client.received('text', 2), client.received('direct')])
    expect(client.events.filter(({ data }) => data === text).map(({ event }) => event)).toEqual(['text', 'direct', 'text'])
  })

  it('sends keep-alive comments and positions', async () => {
    const { hub, url } = await open({ compress: 'shared', keepAliveMs: 20 })
    const client = await (await GzipClient.open(url)).received('stream-open')
    await until(() => client.text.endsWith(':\n:\n'), 'two comments arrived')
    await hub.publish('b', 'order', order(1))
    await client.received('stream-position')
    await hub.publish('a', 'order', order(2))
    await client.received('order')
    expect(client.data('order')).toEqual([order(2)])
  })

  it('blocks a sender whose client does not read, until the stream is destroyed', async () => {
    const { streams, url } = await open({ compress: true, stallTimeoutMs: 200 })
    const client = await GzipClient.open(`${url}/direct`)
    client.response.pause()
    client.response.unpipe()
    // gzip cannot compress noise.
    while (await streams[0]?.send(randomBytes(25_000).toString('base64')));
    expect(streams[0]?.state).toBe('closed')
  })

  const ENDS: [string, Setup, (setup: { hub: Hub; streams: SseStream[] }) => unknown, RegExp][] = [
    ['close()', {}, ({ streams }) => streams[0]?.close(), /data: \{"n":1.*\n\n$/],
    [
      'a permanent close()',
      {},
      ({ streams }) => streams[0]?.close({ reconnect: false } satisfies CloseOptions),
      /retry: 2000000000\nevent: stream-close\ndata: \n\n$/,
    ],
    ['hub.close()', {}, ({ hub }) => hub.close(), /retry: \d+\nevent: stream-end\ndata: \{"reason":"closing"\}\n\n$/],
    ['disconnect()', { subscribe: { owner: 'k' } }, ({ hub }) => hub.disconnect('k'), /\n\n$/],
    ['maxLifetimeMs', { maxLifetimeMs: 200 }, () => {}, /\n\n$/],
  ]
  it.each(ENDS)('ends the stream with a gzip trailer: %s', async (_what, setup, end, last) => {
    for (const compress of MODES) {
      const opened = await open({ ...setup, compress })
      const client = await (await GzipClient.open(opened.url)).received('stream-open')
      await opened.hub.publish('a', 'order', order(1))
      await client.received('order')
      await end(opened)
      await client.over()
      expect(client.end).toBe('end')
      expect(client.text).toMatch(last)
      // gunzipSync checks the trailer.
      expect(gunzipSync(client.wire).toString()).toBe(client.text)
    }
  })

  it('ends a refused stream with a gzip trailer', async () => {
    const { url } = await open({ compress: true, hub: { maxSubscribers: 1 } })
    await (await GzipClient.open(url)).received('stream-open')
    const refused = await GzipClient.open(url)
    await refused.over()
    expect(refused.end).toBe('end')
    expect(refused.text).toMatch(/^retry: \d{5}\nevent: stream-end\ndata: \{"reason":"limit"\}\n\n$/)
  })

  it.each(MODES)('serves HTTP/2: %p', async (compress) => {
    const hub = new Hub()
    hubs.push(hub)
    const middleware = sseMiddleware({ compress })
    const server = http2.createServer((req, res) => {
      middleware(req, res, () => {
        const { sse } = res as unknown as { sse: SseStream }
        void sse
          .subscribe(hub, ['a'])
          .then(() => hub.publish('a', 'order', order(1)))
          .then(() => sse.close())
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const stream = session.request({ ':path': '/', 'accept-encoding': 'gzip' })
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    const [head] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
    await once(stream, 'end')
    session.destroy()
    server.close()
    expect(head['content-encoding']).toBe('gzip')
    expect(gunzipSync(Buffer.concat(chunks)).toString()).toMatch(
      /^retry: 2000\nid: [^\n]*\nevent: stream-open\n[^]*event: order\ndata: \{"n":1,.*\n\n$/,
    )
  })
})
