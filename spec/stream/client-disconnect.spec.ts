import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import vm from 'node:vm'
import type { Request, Response } from 'express'
import { Hub, sseMiddleware, type SseStream, type Subscription } from 'express-sse-hub'
import { TestClient, until } from '../support/client.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { connectionsLeft, listen, serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

const sockets: net.Socket[] = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy()
})

/** Opens a raw connection. `text` returns everything that the server has sent. */
async function connect(port: number): Promise<{ socket: net.Socket; text: () => string }> {
  const socket = net.connect(port, '127.0.0.1')
  sockets.push(socket)
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  socket.on('error', () => {})
  await once(socket, 'connect')
  return { socket, text: () => text }
}

const requestFor = (path: string, method = 'GET') => `${method} ${path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n`

describe.each(EXPRESS_VERSIONS)('a client on %s', (_name, express) => {
  /** Makes an app that collects the stream of every request. */
  const appWithStreams = () => {
    const streams: SseStream[] = []
    const app = express()
    app.use(sseMiddleware({ keepAliveMs: false, stallTimeoutMs: false }))
    app.use((_req: Request, res: Response, next: () => void) => {
      streams.push(res.sse)
      next()
    })
    return { app, streams }
  }

  describe('that leaves before the handler has finished an asynchronous check', () => {
    const startTimers = jest.spyOn(globalThis, 'setInterval')
    beforeEach(() => startTimers.mockClear())
    afterAll(() => startTimers.mockRestore())

    it.each<[string, (res: Response, hub: Hub) => Promise<unknown>, unknown]>([
      ['makes open return false', async (res) => res.sse.open(), false],
      ['makes send resolve false', (res) => res.sse.send('x'), false],
      ['makes comment resolve false', (res) => res.sse.comment('x'), false],
      ['makes stream resolve false', (res) => res.sse.stream(['x']), false],
      ['makes close do nothing', async (res) => res.sse.close(), undefined],
      ['makes a permanent close do nothing', async (res) => res.sse.close({ reconnect: false }), undefined],
      ['makes subscribe resolve to a closed subscription', async (res, hub) => (await res.sse.subscribe(hub, ['a'])).isClosed, true],
    ])('%s, is not registered, and starts no timer', async (_what, use, expected) => {
      const hub = new Hub()
      const { app, streams } = appWithStreams()
      const outcomes: unknown[] = []
      let finishCheck: () => void = () => {}
      app.get('/', async (_req, res) => {
        await new Promise<void>((resolve) => (finishCheck = resolve))
        outcomes.push(await use(res, hub), res.sse.signal.aborted, await res.sse.send('late'), res.sse.state)
      })
      const { port, server } = await serve(app)
      const { socket } = await connect(port)
      socket.write(requestFor('/'))
      await until(() => streams.length === 1, 'the request has arrived')
      socket.destroy()
      await connectionsLeft(server, 0)
      finishCheck()
      await until(() => outcomes.length === 4, 'the handler is done')
      expect(outcomes).toEqual([expected, true, false, 'closed'])
      expect(hub.channel('a').subscriberCount).toBe(0)
      expect(startTimers).not.toHaveBeenCalled()
    })

    it('aborts a signal that the handler has read, while the handler still waits', async () => {
      const { app, streams } = appWithStreams()
      app.get('/', () => {})
      const { port } = await serve(app)
      const { socket } = await connect(port)
      socket.write(requestFor('/'))
      await until(() => streams.length === 1, 'the request has arrived')
      const { signal } = streams[0] as SseStream
      expect(signal.aborted).toBe(false)
      expect((streams[0] as SseStream).signal).toBe(signal)
      socket.destroy()
      await until(() => signal.aborted, 'the signal is aborted')
      expect((streams[0] as SseStream).open()).toBe(false)
    })
  })

  describe('with an open stream', () => {
    it('ends the subscription, aborts the signal, and makes send resolve false when it leaves', async () => {
      const hub = new Hub()
      const { app, streams } = appWithStreams()
      const subscriptions: Subscription[] = []
      app.get('/', async (_req, res) => {
        subscriptions.push(await res.sse.subscribe(hub, ['a', 'b']))
      })
      const { url } = await serve(app)
      const client = await (await TestClient.open(url)).live()
      const [stream] = streams as [SseStream]
      const { signal } = stream
      expect(hub.channel('a').subscriberCount).toBe(1)
      client.leave()
      await until(() => signal.aborted, 'the signal is aborted')
      expect(stream.state).toBe('closed')
      expect(subscriptions[0]?.isClosed).toBe(true)
      expect([hub.channel('a').subscriberCount, hub.channel('b').subscriberCount]).toEqual([0, 0])
      expect([await stream.send('x'), await stream.comment('x'), await stream.stream(['x']), stream.open()]).toEqual([
        false,
        false,
        false,
        false,
      ])
      stream.close()
      stream.close({ reconnect: false })
    })

    it('keeps its stream when the server times out idle sockets', async () => {
      const { app, streams } = appWithStreams()
      app.get('/', (_req, res) => void res.sse.open())
      const { url, port, server } = await serve(app)
      server.setTimeout(150)
      const client = await TestClient.open(url)
      // This connection is newer and equally silent. When it times out, the stream would have timed out too.
      const { socket } = await connect(port)
      await once(socket, 'close')
      expect(streams[0]?.state).toBe('open')
      await streams[0]?.send('x')
      await client.received(1)
    })

    it('closes the stream by ending only its own side of the connection', async () => {
      const { app, streams } = appWithStreams()
      app.get('/', (_req, res) => void res.sse.open())
      const { port } = await serve(app)
      const { socket, text } = await connect(port)
      socket.write(requestFor('/'))
      await until(() => text().includes('retry: 2000'), 'the head arrived')
      socket.end()
      await until(() => streams[0]?.state === 'closed', 'the stream is closed')
      expect(await streams[0]?.send('x')).toBe(false)
    })
  })

  describe('that sends a POST', () => {
    it('keeps its stream after the body is parsed, and closes it when it leaves', async () => {
      const { app, streams } = appWithStreams()
      app.use(express.json())
      app.post('/', (req, res) => res.sse.send(req.body))
      const { url } = await serve(app)
      const client = await TestClient.open(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"q":1}' })
      const [stream] = streams as [SseStream]
      for (let i = 1; i <= 20; i++) {
        await client.received(i)
        expect(await stream.send(i)).toBe(true)
      }
      expect(client.data[0]).toEqual({ q: 1 })
      expect(stream.state).toBe('open')
      client.leave()
      await until(() => stream.state === 'closed', 'the stream is closed')
      expect(await stream.send('x')).toBe(false)
    })

    it('keeps its stream past the request timeout of Node when nothing reads its large body', async () => {
      const { app, streams } = appWithStreams()
      app.post('/', (_req, res) => void res.sse.send('first'))
      const server = http.createServer({ requestTimeout: 600, headersTimeout: 600, connectionsCheckingInterval: 20 }, app)
      const { url, port } = await listen(server)
      const client = await TestClient.open(url, { method: 'POST', body: 'x'.repeat(1_000_000) })
      await client.received(1)
      // This request is newer and never complete. When Node times it out, an unread body would have ended the stream too.
      const marker = await connect(port)
      marker.socket.write('GET / HTTP/1.1\r\nHost: x\r\n')
      await until(() => marker.text().includes('408'), 'the marker timed out')
      const [stream] = streams as [SseStream]
      expect(await stream.send('second')).toBe(true)
      await client.received(2)
      client.leave()
      await until(() => stream.state === 'closed', 'the stream is closed')
    })

    it('receives its body back if that is the source of the stream, which stays open', async () => {
      const { app, streams } = appWithStreams()
      const ends: boolean[] = []
      app.post('/', (req, res) => res.sse.stream(req, (chunk: Buffer) => ({ data: chunk.toString() })).then((end) => ends.push(end)))
      const { url } = await serve(app)
      const client = await TestClient.open(url, { method: 'POST', body: 'y'.repeat(300_000) })
      await until(() => ends.length === 1, 'the body is sent back')
      expect(ends).toEqual([true])
      expect(await streams[0]?.send('end')).toBe(true)
      await until(() => client.events.at(-1)?.data === 'end', 'the end arrived')
      expect(
        client.events
          .slice(0, -1)
          .map(({ data }) => data)
          .join('') === 'y'.repeat(300_000),
      ).toBe(true)
    })
  })

  describe('with pipelined requests', () => {
    it('closes every stream of the connection, and its one active subscription, when it leaves', async () => {
      const hub = new Hub()
      const { app, streams } = appWithStreams()
      app.get('/events', (_req, res) => res.sse.subscribe(hub, ['a']))
      app.get('/direct', (_req, res) => void res.sse.send('x'))
      app.get('/signal', (_req, res) => void res.sse.signal)
      const { port } = await serve(app)
      const { socket } = await connect(port)
      const paths = ['/events', '/events', '/direct', '/signal']
      socket.write(`${paths.map((path) => requestFor(path)).join('')}${requestFor('/events', 'HEAD')}${requestFor('/events')}`)
      await until(() => streams.length === 6 && hub.channel('a').subscriberCount === 1, 'all requests have arrived')
      const { signal } = streams[3] as SseStream
      const waiting = (streams[2] as SseStream).send('y')
      socket.destroy()
      await until(() => hub.channel('a').subscriberCount === 0, 'no subscriber is left')
      expect(await waiting).toBe(false)
      await until(() => signal.aborted, 'the signal is aborted')
      // The stream that was never opened notices the disconnect when it is.
      expect(streams[3]?.open()).toBe(false)
      expect(streams.map(({ state }) => state)).toEqual(Array(6).fill('closed'))
    })

    it('causes no warning of a listener leak', async () => {
      // Node's own modules emit warnings on the process object outside Jest.
      const realProcess = vm.runInThisContext('process') as NodeJS.Process
      const onWarning = jest.fn()
      realProcess.on('warning', onWarning)
      const { app, streams } = appWithStreams()
      app.get('/', (_req, res) => void res.sse.open())
      const { port } = await serve(app)
      const { socket } = await connect(port)
      socket.write(requestFor('/').repeat(40))
      await until(() => streams.length === 40 && streams.every(({ state }) => state === 'open'), 'all requests have arrived')
      socket.destroy()
      await until(() => streams.every(({ state }) => state === 'closed'), 'all are closed')
      await nextTurn()
      realProcess.off('warning', onWarning)
      expect(onWarning).not.toHaveBeenCalled()
    })

    it('is not registered by a subscribe after it has left', async () => {
      const hub = new Hub()
      const { app, streams } = appWithStreams()
      let finishCheck: () => void = () => {}
      const outcomes: Subscription[] = []
      app.get('/first', (_req, res) => void res.sse.open())
      app.get('/second', async (_req, res) => {
        await new Promise<void>((resolve) => (finishCheck = resolve))
        outcomes.push(await res.sse.subscribe(hub, ['a']))
      })
      const { port, server } = await serve(app)
      const { socket } = await connect(port)
      socket.write(requestFor('/first') + requestFor('/second'))
      await until(() => streams.length === 2, 'both requests have arrived')
      socket.destroy()
      await connectionsLeft(server, 0)
      finishCheck()
      await until(() => outcomes.length === 1, 'the handler is done')
      expect(outcomes[0]?.isClosed).toBe(true)
      expect(hub.channel('a').subscriberCount).toBe(0)
      expect(streams[1]?.state).toBe('closed')
    })

    it('receives the stream complete and in order once the previous response has ended', async () => {
      const hub = new Hub()
      const { app, streams } = appWithStreams()
      let answer: () => void = () => {}
      app.get('/slow', (_req, res) => (answer = () => void res.json('slow')))
      app.get('/events', async (_req, res) => {
        await res.sse.subscribe(hub, ['a'])
      })
      const { port } = await serve(app)
      const { socket, text } = await connect(port)
      socket.write(requestFor('/slow') + requestFor('/events'))
      await until(() => streams.length === 2, 'both requests have arrived')
      const sent = streams[1]?.send('direct')
      expect([hub.channel('a').subscriberCount, hub.stats().subscribers]).toEqual([0, 0])
      answer()
      await until(() => hub.channel('a').subscriberCount === 1, 'it is subscribed')
      for (let i = 0; i < 50; i++) await hub.publish('a', 'e', i)
      expect(await sent).toBe(true)
      await until(() => text().includes('data: 49\n\n'), 'the last event arrived')
      const [head = '', ...rest] = text().split('\r\n\r\n')
      expect(head).toMatch(/^HTTP\/1\.1 200 OK/)
      expect(rest[0]).toMatch(/^"slow"HTTP\/1\.1 200 OK/)
      const events = [...(rest.slice(1).join('') ?? '').matchAll(/^data: (\d+|direct)$/gm)].map(([, data]) => data)
      expect(events.filter((data) => data !== 'direct')).toEqual(Array.from({ length: 50 }, (_, i) => String(i)))
      expect(events).toContain('direct')
      expect(rest[1]).toContain('event: stream-open')
    })
  })
})
