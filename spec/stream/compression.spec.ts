import compression from 'compression'
import { Hub, sseMiddleware, type SseMiddlewareOptions, type SseStream } from 'express-sse-hub'
import { until, untilBlocked } from '../support/client.ts'
import { GzipClient } from '../support/gzip-client.ts'
import { sized } from '../support/scale.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

const CASES: [string, SseMiddlewareOptions, boolean][] = [
  ['with the default headers, which prevent compression,', {}, false],
  ['with headers that allow compression', { headers: { 'Cache-Control': 'no-cache' } }, true],
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
      const client = await GzipClient.open(url, { 'accept-encoding': 'gzip' })
      expect(client.response.headers['content-encoding']).toBe(isGzip ? 'gzip' : undefined)
      return { stream: streams[0] as SseStream, client }
    }

    it.each<[string, SseMiddlewareOptions]>([
      ['', {}],
      [' without a retry field before it', { retryMs: false }],
    ])('a client receives each event before the next is sent%s', async (_title, more) => {
      const { stream, client } = await openStream({ keepAliveMs: false, ...more })
      for (let n = 1; n <= 5; n++) {
        expect(await stream.send(`ü${n}`)).toBe(true)
        await until(() => client.events.length === n, `event ${n} arrived`)
      }
      expect(client.events.map(({ data }) => data)).toEqual(['ü1', 'ü2', 'ü3', 'ü4', 'ü5'])
    })

    it('a client receives each event of a hub before the next is published', async () => {
      const hub = new Hub()
      const { stream, client } = await openStream({ keepAliveMs: false })
      await stream.subscribe(hub, ['a'])
      await until(() => client.events.length === 1, 'stream-open arrived')
      for (let n = 1; n <= 5; n++) {
        await hub.publish('a', 'e', n)
        await until(() => client.events.length === n + 1, `event ${n} arrived`)
      }
      expect(client.events.map(({ event }) => event)).toEqual(['stream-open', 'e', 'e', 'e', 'e', 'e'])
    })

    it('a client receives keep-alive comments', async () => {
      const { client } = await openStream({ keepAliveMs: 20 })
      await until(() => client.comments.length >= 3, 'three comments arrived')
      expect(client.events).toEqual([])
    })

    it('close() ends the response after everything that was sent', async () => {
      const { stream, client } = await openStream()
      void stream.send('x'.repeat(500_000))
      void stream.send('last')
      stream.close()
      await client.over()
      expect(client.end).toBe('end')
      expect(client.events).toHaveLength(2)
      expect(client.events[1]?.data).toBe('last')
    })

    it('a client receives a large event whole', async () => {
      const { stream, client } = await openStream()
      const text = Array.from({ length: 300_000 }, (_, n) => n.toString(36)).join(' ')
      expect(await stream.send(text)).toBe(true)
      await until(() => client.events.length === 1, 'it arrived')
      expect(client.events[0]?.data === text).toBe(true)
    })

    it('a client that does not read blocks an awaiting loop, which ends when the client leaves', async () => {
      const { stream, client } = await openStream({ keepAliveMs: false })
      client.response.unpipe()
      client.response.pause()
      let sent = 0
      let over = false
      const loop = (async () => {
        // gzip cannot compress noise.
        while (await stream.send(noise(30_000))) sent++
        over = true
      })()
      await untilBlocked(() => sent, sized(300, 100))
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

    it('more than `maxQueuedBytes` of unawaited sends destroy the stream', async () => {
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
/** Makes random text that is the same in every test run. */
function noise(length: number): string {
  let text = ''
  while (text.length < length) {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
    text += seed.toString(36)
  }
  return text
}
