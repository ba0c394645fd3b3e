import http from 'node:http'
import zlib from 'node:zlib'
import compression from 'compression'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { Hub, sseMiddleware, type SseMiddlewareOptions, type SseStream } from 'express-sse-hub'
import { until } from '../support/client.ts'
import { sized } from '../support/scale.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

/** A client that takes gzip, and reads events as they can be decoded. */
async function openGzip(url: string) {
  const request = http.get(url, { agent: false, headers: { accept: 'text/event-stream', 'accept-encoding': 'gzip' } })
  request.on('error', () => {})
  const response = await new Promise<http.IncomingMessage>((resolve) => request.once('response', resolve))
  const events: EventSourceMessage[] = []
  const comments: string[] = []
  const state = { over: false }
  const parser = createParser({ onEvent: (event) => events.push(event), onComment: (comment) => comments.push(comment) })
  const isGzip = response.headers['content-encoding'] === 'gzip'
  const decoded = isGzip ? response.pipe(zlib.createGunzip({ flush: zlib.constants.Z_SYNC_FLUSH })) : response
  decoded.setEncoding('utf8')
  decoded.on('data', (text: string) => parser.feed(text)).on('error', () => {})
  response.on('error', () => {}).on('close', () => (state.over = true))
  return { response, events, comments, isGzip, state, leave: () => request.destroy() }
}

const CASES: [string, SseMiddlewareOptions, boolean][] = [
  ['with the default headers, by which nothing is compressed', {}, false],
  ['where the headers allow it to compress', { headers: { 'Cache-Control': 'no-cache' } }, true],
]

describe.each(EXPRESS_VERSIONS)('behind compression() on %s', (_name, express) => {
  describe.each(CASES)('%s', (_what, options, isGzip) => {
    const openStream = async (more: SseMiddlewareOptions = {}) => {
      const streams: SseStream[] = []
      const app = express()
      app.use(compression({ threshold: 0 }))
      app.use(sseMiddleware({ ...options, ...more }))
      app.get('/', (_req, res) => {
        streams.push(res.sse)
        res.sse.open()
      })
      const { url } = await serve(app)
      const client = await openGzip(url)
      expect(client.isGzip).toBe(isGzip)
      return { stream: streams[0] as SseStream, client }
    }

    it.each<[string, SseMiddlewareOptions]>([
      ['', {}],
      [' without a retry field before it', { retryMs: false }],
    ])('each event arrives before the next is sent%s', async (_title, more) => {
      const { stream, client } = await openStream({ keepAliveMs: false, ...more })
      for (let n = 1; n <= 5; n++) {
        expect(await stream.send(`ü${n}`)).toBe(true)
        await until(() => client.events.length === n, `event ${n} came`)
      }
      expect(client.events.map(({ data }) => data)).toEqual(['ü1', 'ü2', 'ü3', 'ü4', 'ü5'])
    })

    it('each event of a hub arrives before the next is published', async () => {
      const hub = new Hub()
      const { stream, client } = await openStream({ keepAliveMs: false })
      await stream.subscribe(hub, ['a'])
      await until(() => client.events.length === 1, 'stream-open came')
      for (let n = 1; n <= 5; n++) {
        await hub.publish('a', 'e', n)
        await until(() => client.events.length === n + 1, `event ${n} came`)
      }
      expect(client.events.map(({ event }) => event)).toEqual(['stream-open', 'e', 'e', 'e', 'e', 'e'])
    })

    it('keep-alive comments arrive', async () => {
      const { client } = await openStream({ keepAliveMs: 20 })
      await until(() => client.comments.length >= 3, 'three comments came')
      expect(client.events).toEqual([])
    })

    it('close() ends the response after everything that was sent', async () => {
      const { stream, client } = await openStream()
      void stream.send('x'.repeat(500_000))
      void stream.send('last')
      stream.close()
      await until(() => client.state.over && client.events.length === 2, 'the end came')
      expect(client.events[1]?.data).toBe('last')
    })

    it('a large event arrives whole', async () => {
      const { stream, client } = await openStream()
      const text = Array.from({ length: 300_000 }, (_, n) => n.toString(36)).join(' ')
      expect(await stream.send(text)).toBe(true)
      await until(() => client.events.length === 1, 'it came')
      expect(client.events[0]?.data === text).toBe(true)
    })

    it('a client that does not read holds up an awaiting loop, which ends when the client leaves', async () => {
      const { stream, client } = await openStream({ keepAliveMs: false })
      client.response.unpipe()
      client.response.pause()
      let sent = 0
      let over = false
      const loop = (async () => {
        // Noise, that gzip cannot make small.
        while (await stream.send(noise(30_000))) sent++
        over = true
      })()
      let same = 0
      let last = -1
      await until(() => {
        same = sent === last && sent > 0 ? same + 1 : 0
        last = sent
        return same > sized(300, 100)
      }, 'it is held up')
      expect(over).toBe(false)
      client.leave()
      await loop
      expect(stream.state).toBe('closed')
    })

    it('a client that does not read is destroyed after `stallTimeoutMs`', async () => {
      const { stream, client } = await openStream({ keepAliveMs: false, stallTimeoutMs: 200 })
      client.response.unpipe()
      client.response.pause()
      while (await stream.send(noise(30_000)));
      expect(stream.state).toBe('closed')
    })

    it('more than `maxQueuedBytes` of sends that nobody awaits destroy the stream', async () => {
      const { stream, client } = await openStream({ keepAliveMs: false, maxQueuedBytes: 100_000 })
      client.response.unpipe()
      client.response.pause()
      for (let n = 0; n < 5_000 && stream.state === 'open'; n++) void stream.send(noise(3_000))
      expect(stream.state).toBe('closed')
      expect(await stream.send('x')).toBe(false)
    })
  })
})

let seed = 1
/** Text without a pattern, the same in every run. */
function noise(length: number): string {
  let text = ''
  while (text.length < length) {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
    text += seed.toString(36)
  }
  return text
}
