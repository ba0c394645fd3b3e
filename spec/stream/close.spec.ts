import { EventSource } from 'eventsource'
import type { Request, Response } from 'express'
import supertest from 'supertest'
import { Hub, sseMiddleware, type SseMiddlewareOptions, type SseStream } from 'express-sse-hub'
import { TestClient, until } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

const sources: EventSource[] = []
afterEach(async () => {
  for (const source of sources.splice(0)) source.close()
  await stopServers()
})

describe.each(EXPRESS_VERSIONS)('a stream on %s', (_name, express) => {
  const serveWith = (handler: (req: Request, res: Response) => unknown, options?: SseMiddlewareOptions) =>
    support.serveWith(express, handler, options)

  const openStream = (options?: SseMiddlewareOptions) => support.openStream(express, options)

  const openSource = (url: string): EventSource => {
    const source = new EventSource(url)
    sources.push(source)
    return source
  }

  describe('close()', () => {
    it('ends the response after everything that was sent', async () => {
      const { stream, client } = await openStream()
      for (let n = 0; n < 500; n++) void stream.send(n)
      stream.close()
      expect(stream.state).toBe('closed')
      expect(await stream.send('late')).toBe(false)
      await client.over()
      expect(client.data).toEqual(Array.from({ length: 500 }, (_, n) => n))
    })

    it('ends the response after the events that were published to its subscription', async () => {
      const hub = new Hub()
      const { stream, client } = await openStream()
      const subscription = await stream.subscribe(hub, ['a'])
      const published = Promise.all(Array.from({ length: 100 }, (_, n) => hub.publish('a', 'e', n)))
      stream.close()
      expect(subscription.isClosed).toBe(true)
      expect(hub.channel('a').subscriberCount).toBe(0)
      await client.over()
      await published
      expect(client.data).toEqual(Array.from({ length: 100 }, (_, n) => n))
    })

    it('aborts the signal once, whether it is read before or after the call', async () => {
      const first = await openStream()
      const onAbort = jest.fn()
      first.stream.signal.addEventListener('abort', onAbort)
      first.stream.close()
      first.stream.close()
      await first.client.over()
      expect(onAbort).toHaveBeenCalledTimes(1)
      const second = await openStream()
      second.stream.close()
      expect(second.stream.signal.aborted).toBe(true)
    })

    it('does nothing when a listener of the signal calls it again', async () => {
      const { stream, client } = await openStream()
      stream.signal.addEventListener('abort', () => stream.close({ reconnect: false }))
      stream.close()
      await client.over()
      expect(client.text).toBe('retry: 2000\n')
    })

    it('sends the head if it is not sent yet, so that the client reconnects', async () => {
      const app = express()
      app.use(sseMiddleware())
      app.get('/', (_req, res) => res.sse.close())
      const answer = await supertest(app).get('/')
      expect([answer.status, answer.text]).toEqual([200, 'retry: 2000\n'])
    })

    it('makes an EventSource reconnect with the id of the last event', async () => {
      const ids: string[] = []
      const { url } = await serveWith(
        async (_req, res) => {
          ids.push(res.sse.lastEventId)
          await res.sse.send('x', { id: `i${ids.length}` })
          if (ids.length < 3) res.sse.close()
        },
        { retryMs: 1 },
      )
      openSource(url)
      await until(() => ids.length === 3, 'it has reconnected twice')
      expect(ids).toEqual(['', 'i1', 'i2'])
    })

    it.each<[string, unknown, RegExp]>([
      ['an unknown option', { reconect: false }, /reconect.*reconnect/],
      ['a reconnect that is not a boolean', { reconnect: 'no' }, /reconnect must be a boolean, got 'no'/],
      ['options that are not an object', false, /options must be an object, got false/],
    ])('refuses %s, and leaves the stream open', async (_what, options, message) => {
      const { stream } = await openStream()
      expect(() => stream.close(options as never)).toThrow(message)
      expect(stream.state).toBe('open')
    })
  })

  describe('close({ reconnect: false })', () => {
    it('sends one stream-close event with a retry of 23 days', async () => {
      const { stream, client } = await openStream()
      stream.close({ reconnect: false })
      stream.close({ reconnect: false })
      await client.over()
      expect(client.text).toBe('retry: 2000\nretry: 2000000000\nevent: stream-close\ndata: \n\n')
      expect(client.events).toEqual([{ event: 'stream-close', id: undefined, data: '' }])
      expect(client.retries).toEqual([2000, 2_000_000_000])
    })

    it('answers 204 if the head is not sent yet', async () => {
      const states: string[] = []
      const app = express()
      app.use(sseMiddleware())
      app.get('/', (_req, res) => {
        res.sse.close({ reconnect: false })
        states.push(res.sse.state)
        states.push(String(res.sse.open()))
      })
      const answer = await supertest(app).get('/')
      expect([answer.status, answer.text]).toEqual([204, ''])
      expect(states).toEqual(['closed', 'false'])
    })

    it.each<[string, (stream: SseStream) => unknown]>([
      ['after an event', (stream) => stream.send('x')],
      ['before the head', () => {}],
    ])('keeps an EventSource from reconnecting when it is called %s', async (_when, before) => {
      let finals = 0
      let others = 0
      const app = express()
      app.use(sseMiddleware({ retryMs: 5 }))
      app.get('/final', async (_req, res) => {
        finals++
        await before(res.sse)
        res.sse.close({ reconnect: false })
      })
      app.get('/other', (_req, res) => {
        others++
        res.sse.close()
      })
      const { url } = await serve(app)
      const source = openSource(`${url}/final`)
      await new Promise((resolve) => source.addEventListener('error', resolve, { once: true }))
      expect(finals).toBe(1)
      // The other source has the same retry time and keeps reconnecting, as the first would without the call.
      openSource(`${url}/other`)
      await until(() => others >= 10, 'the other has reconnected')
      expect(finals).toBe(1)
    })
  })

  describe('`maxLifetimeMs`', () => {
    it('ends the stream at 80 to 100 % of the time, and an EventSource reconnects', async () => {
      let requests = 0
      const { url } = await serveWith(
        (_req, res) => {
          requests++
          res.sse.open()
        },
        { maxLifetimeMs: 100, retryMs: 1 },
      )
      openSource(url)
      await until(() => requests >= 3, 'it has reconnected twice')
      expect(requests).toBeGreaterThanOrEqual(3)
    })

    it('closes the stream after everything that was sent', async () => {
      const { stream, client } = await openStream({ maxLifetimeMs: 50 })
      await stream.send('x')
      await client.over()
      expect(client.text).toBe('retry: 2000\ndata: x\n\n')
      expect(stream.state).toBe('closed')
      expect(await stream.send('late')).toBe(false)
    })
  })

  describe('keep-alive comments', () => {
    it('are sent while nothing else is sent', async () => {
      const { client } = await openStream({ keepAliveMs: 30 })
      await until(() => client.comments.length >= 4, 'four comments have arrived')
      expect(client.text).toMatch(/^retry: 2000\n(:\n)+$/)
    })

    it('are omitted with `keepAliveMs: false`, as the retry field is with `retryMs: false`', async () => {
      const silent = await openStream({ keepAliveMs: false, retryMs: false })
      const marker = await openStream({ keepAliveMs: 20 })
      await until(() => marker.client.comments.length >= 5, 'the marker has received five comments')
      await silent.stream.send('x')
      await silent.client.received(1)
      expect(silent.client.text).toBe('data: x\n\n')
      expect(silent.client.retries).toEqual([])
    })

    it('are not sent on a stream that is written to in every tick', async () => {
      const busy = await openStream({ keepAliveMs: 1000 })
      const marker = await openStream({ keepAliveMs: 40 })
      let sent = 0
      await until(() => {
        if (marker.client.comments.length > sent) void busy.stream.send(sent++)
        return sent >= 8
      }, 'eight events were sent')
      await busy.client.received(8)
      expect(busy.client.comments).toEqual([])
    })
  })

  describe('the signal', () => {
    it('is always the same object, and is aborted when the client leaves an idle stream', async () => {
      const streams: SseStream[] = []
      const { url } = await serveWith((_req, res) => {
        streams.push(res.sse)
        res.write('not yet a stream')
      })
      const client = await TestClient.open(url)
      const [stream] = streams as [SseStream]
      const { signal } = stream
      expect(stream.signal).toBe(signal)
      expect(signal.aborted).toBe(false)
      client.leave()
      await until(() => signal.aborted, 'the signal is aborted')
    })

    it('is aborted when the program answers without the stream', async () => {
      let signal: AbortSignal | undefined
      const { url } = await serveWith((_req, res) => {
        signal = res.sse.signal
        res.json('x')
      })
      await (await TestClient.open(url)).over()
      await until(() => signal?.aborted === true, 'the signal is aborted')
      expect(signal?.aborted).toBe(true)
    })
  })
})
