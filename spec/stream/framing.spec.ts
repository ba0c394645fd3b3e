import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import express, { type Request, type Response } from 'express'
import { Hub, sseMiddleware, type SseMiddlewareOptions, type SubscribeOptions } from 'express-sse-hub'
import { ChunkedBody } from '../support/chunked-body.ts'
import { TestClient, until } from '../support/client.ts'
import { randomFrom } from '../support/random.ts'
import { serve, stopServers } from '../support/servers.ts'
import { TYPESCRIPT } from '../support/typescript.ts'

const sockets: net.Socket[] = []
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await stopServers()
})

interface SetUp {
  readonly middleware?: SseMiddlewareOptions
  readonly subscribe?: SubscribeOptions
  readonly handler?: (req: Request, res: Response) => unknown
  readonly hub?: Hub
}

/** Serves a subscribed stream, or a handler of the test's own, at `/events`, and an ordinary answer at `/next`. */
async function setUp({ middleware, subscribe, handler, hub = new Hub() }: SetUp = {}) {
  const app = express()
  const responses: Response[] = []
  app.use(sseMiddleware(middleware))
  app.get('/events', (req, res) => {
    responses.push(res)
    return handler === undefined ? res.sse.subscribe(hub, 'a', subscribe) : handler(req, res)
  })
  app.get('/next', (_req, res) => void res.send('next'))
  return { hub, responses, ...(await serve(app)) }
}

/** Opens a socket that sends requests and collects the answers. */
async function raw(port: number) {
  const socket = net.connect(port, '127.0.0.1')
  sockets.push(socket)
  const chunks: Buffer[] = []
  /** Returns everything received. The chunks are joined in place, so that repeated calls do not copy them again. */
  const bytes = (): Buffer => {
    if (chunks.length > 1) chunks.push(Buffer.concat(chunks.splice(0)))
    return chunks[0] ?? Buffer.alloc(0)
  }
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => {})
  await once(socket, 'connect')
  return {
    socket,
    text: () => bytes().toString(),
    bytes,
    get: (target: string, version = '1.1', headers = '') =>
      socket.write(`GET ${target} HTTP/${version}\r\nHost: test\r\nAccept: text/event-stream\r\n${headers}\r\n`),
  }
}

describe('a stream on HTTP/1.1', () => {
  const failing = { snapshot: () => Promise.reject(new Error('no')) }
  it.each<[string, SetUp, (hub: Hub, res: Response) => unknown]>([
    ['close()', {}, (_hub, res) => res.sse.close()],
    ['close({ reconnect: false })', {}, (_hub, res) => res.sse.close({ reconnect: false })],
    ['hub.close()', {}, (hub) => hub.close()],
    ['disconnect()', {}, (hub) => hub.disconnect(() => true)],
    ['disconnect() with reconnect: false', {}, (hub) => hub.disconnect({ channel: 'a' }, { reconnect: false })],
    ['expiresAt', { subscribe: { expiresAt: 0 } }, () => {}],
    [
      'a limit',
      { hub: new Hub({ maxSubscribersPerOwner: { max: 1, whenFull: 'close-oldest' } }), subscribe: { owner: 'u' } },
      (_hub, res) => fetch(urlOf(res), { headers: { accept: 'text/event-stream' } }),
    ],
    ['maxLifetimeMs', { middleware: { maxLifetimeMs: 50 } }, () => {}],
    ['a failed snapshot', { subscribe: failing, hub: new Hub({ onError() {} }) }, () => {}],
    ['the end of a source', { handler: (_req, res) => res.sse.stream(['a', 'b'], { end: true }) }, () => {}],
  ])('that is ended by %s sends the last chunk, and fetch succeeds', async (_how, options, end) => {
    for (const compress of [false, true] as const) {
      const { hub, responses, url, port } = await setUp({ ...options, middleware: { compress, ...options.middleware } })
      const wire = await raw(port)
      wire.get('/events', '1.1', 'Accept-Encoding: gzip\r\n')
      await until(() => responses.length === 1 && responses[0]?.sse.state !== 'idle', 'the stream is open')
      const read = fetch(`${url}/events`, { headers: { accept: 'text/event-stream' } }).then((response) => response.text())
      await until(() => responses.length === 2, 'both are connected')
      for (const res of responses.slice(0, 2)) await end(hub, res)
      expect(await read).toMatch(/^(retry: |$)/)
      await until(() => wire.text().endsWith('\r\n0\r\n\r\n'), 'the last chunk arrived')
    }
  })

  it.each<[string, SetUp, (res: Response) => unknown]>([
    ['destroying the response', {}, (res) => res.destroy()],
    ['destroying the socket', {}, (res) => res.socket?.destroy()],
    [
      'exceeding maxQueuedBytes',
      { middleware: { maxQueuedBytes: 1 } },
      (res) => {
        for (let n = 0; n < 400 && res.sse.state === 'open'; n++) void res.sse.send(randomBytes(50_000).toString('base64'))
      },
    ],
  ])('that is cut by %s sends no last chunk, and fetch fails', async (_how, options, cut) => {
    for (const compress of [false, true] as const) {
      const { responses, url, port } = await setUp({ ...options, middleware: { compress, ...options.middleware } })
      const wire = await raw(port)
      wire.get('/events', '1.1', 'Accept-Encoding: gzip\r\n')
      const response = await fetch(`${url}/events`, { headers: { accept: 'text/event-stream' } })
      await until(() => responses.length === 2, 'both are connected')
      const closed = once(wire.socket, 'close')
      for (const res of responses) cut(res)
      await expect(response.text()).rejects.toThrow('terminated')
      await closed
      expect(wire.text()).not.toContain('\r\n0\r\n\r\n')
    }
  })

  it('makes fetch fail when the process is killed', async () => {
    const server = spawn(process.execPath, [...TYPESCRIPT, path.join(__dirname, '../support/stream-server.ts')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      const [line] = (await once(server.stdout, 'data')) as [Buffer]
      const response = await fetch(line.toString().trim(), { headers: { accept: 'text/event-stream' } })
      const reader = (response.body as ReadableStream<Uint8Array>).getReader()
      await reader.read()
      server.kill('SIGKILL')
      await expect(
        (async () => {
          while (!(await reader.read()).done);
        })(),
      ).rejects.toThrow('terminated')
    } finally {
      server.kill('SIGKILL')
    }
  })
})

describe('a connection on HTTP/1.1', () => {
  it('serves the next request after a stream, which leaves no listeners on it', async () => {
    const { responses, port } = await setUp({ handler: (_req, res) => res.sse.send('x'.repeat(200_000)).then(() => res.sse.close()) })
    const wire = await raw(port)
    let before: Record<string, number> | undefined
    for (let n = 1; n <= 20; n++) {
      wire.get('/events')
      await until(() => wire.text().split('\r\n0\r\n\r\n').length === n + 1, `stream ${n} ended`)
      const socket = responses[0]?.req.socket as net.Socket
      const counts = Object.fromEntries(['drain', 'close', 'error', 'timeout'].map((name) => [name, socket.listenerCount(name)]))
      before ??= counts
      expect([counts, socket.writableCorked]).toEqual([before, 0])
    }
    wire.get('/next')
    await until(() => wire.text().endsWith('next'), 'the next answer arrived')
  })

  it('answers pipelined requests in turn', async () => {
    const { hub, responses, port } = await setUp()
    const wire = await raw(port)
    wire.get('/events')
    wire.get('/events')
    wire.get('/next')
    for (const n of [0, 1]) {
      await until(() => hub.stats().subscribers === 1 && responses[n]?.sse.state === 'open', `stream ${n} is open`)
      await hub.publish('a', 'item', n)
      responses[n]?.sse.close()
    }
    await until(() => wire.text().endsWith('next'), 'the last answer arrived')
    const heads = [...wire.text().matchAll(/HTTP\/1\.1 200 OK/g)].map(({ index }) => index)
    const answers = heads.map((from, n) => wire.text().slice(from, heads[n + 1]))
    expect(answers.map((answer) => [...answer.matchAll(/^data: (\d)$/gm)].map(([, data]) => data))).toEqual([['0'], ['1'], []])
    expect(answers.slice(0, 2).every((answer) => answer.endsWith('\r\n0\r\n\r\n'))).toBe(true)
  })

  it.each([15_000, false] as const)(
    'counts as one subscriber of a hub with any number of pipelined requests (keepAliveMs: %p)',
    async (keepAliveMs) => {
      const asked = jest.fn(() => true)
      const hub = new Hub({ maxSubscribers: 1_000 })
      const { responses, port } = await setUp({ hub, middleware: { keepAliveMs }, handler: (req, res) => route(req, res, () => {}) })
      const route = hub.handler({ channels: 'a', authorize: asked })
      const wire = await raw(port)
      wire.socket.write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1_000))
      await until(() => responses.length === 1_000 && hub.stats().subscribers > 0, 'all requests have arrived')
      expect([hub.stats().subscribers, asked.mock.calls.length]).toEqual([1, 1])
      wire.socket.destroy()
      await until(() => hub.stats().subscribers === 0, 'the subscriber is removed')
      // The pipelined requests have ended without a call of `authorize`.
      await (await TestClient.open(`http://127.0.0.1:${port}/events`)).live()
      expect([hub.stats().subscribers, asked.mock.calls.length]).toEqual([1, 2])
    },
  )

  it.each([true, false])(
    'refuses a pipelined stream that was disconnected while it waited for its turn (reconnect: %p)',
    async (reconnect) => {
      const { hub, responses, port } = await setUp({ subscribe: { owner: 'u' } })
      const wire = await raw(port)
      wire.get('/events')
      wire.get('/events')
      await until(() => responses.length === 2 && hub.stats().subscribers === 1, 'the second stream waits')
      expect(await hub.disconnect('u', { reconnect })).toBe(1)
      await until(() => wire.text().split('\r\n0\r\n\r\n').length === 3, 'both have ended')
      expect([hub.stats().subscribers, hub.stats().refusals]).toEqual([0, 1])
      expect(wire.text().slice(wire.text().lastIndexOf('HTTP/1.1'))).toContain(
        reconnect ? '{"reason":"disconnected"}' : 'event: stream-close',
      )
    },
  )

  it('is closed, as its head announces, when a stream is refused because the hub is closing', async () => {
    const { hub, port } = await setUp()
    await hub.close()
    const wire = await raw(port)
    const closed = once(wire.socket, 'close')
    wire.get('/events')
    await closed
    expect(wire.text()).toMatch(/\r\nConnection: close\r\n[^]*\{"reason":"closing"\}\n\n\r\n0\r\n\r\n$/)
  })

  it('regains the timeout of its server after a stream if Node sets none', async () => {
    const { responses, server, port } = await setUp({ handler: (_req, res) => res.sse.close() })
    Object.assign(server, { keepAliveTimeout: 0, timeout: 60_000 })
    const wire = await raw(port)
    for (let n = 1; n <= 2; n++) {
      wire.get('/events')
      await until(() => wire.text().split('\r\n0\r\n\r\n').length === n + 1, 'the stream has ended')
      await until(() => responses[0]?.req.socket.timeout === 60_000, 'the timeout is restored')
    }
    expect(new Set(responses.map(({ req }) => req.socket)).size).toBe(1)
  })

  it.each<[string, (hub: Hub, res: Response) => unknown]>([
    ['the hub closes', (hub) => hub.close()],
    ['the program closes the stream', (_hub, res) => res.sse.close()],
  ])('does not keep a server from closing when %s', async (_who, end) => {
    const { hub, responses, server, port } = await setUp()
    // An idle connection would keep the server open for longer than the test may take.
    server.keepAliveTimeout = 120_000
    const wire = await raw(port)
    wire.get('/events')
    await until(() => hub.stats().subscribers === 1, 'the client is subscribed')
    const closed = Promise.all([once(server, 'close'), once(wire.socket, 'close')])
    server.close()
    await end(hub, responses[0] as Response)
    await closed
    expect(wire.text()).toMatch(/\r\n0\r\n\r\n$/)
  })
})

describe('the body', () => {
  it('ends with the connection on HTTP/1.0, and is not framed', async () => {
    const { hub, responses, port } = await setUp()
    const wire = await raw(port)
    wire.get('/events', '1.0')
    await until(() => hub.stats().subscribers === 1, 'the client is subscribed')
    for (let n = 0; n < 3; n++) void hub.publish('a', 'item', n)
    await until(() => wire.text().includes('data: 2'), 'the events arrived')
    const closed = once(wire.socket, 'close')
    responses[0]?.sse.close()
    await closed
    const [head = '', ...body] = wire.text().split('\r\n\r\n')
    expect(head).not.toMatch(/transfer-encoding/i)
    expect(head).toMatch(/\r\nConnection: close$/)
    expect(body.join('')).toMatch(/^retry: 2000\nid: .*\nevent: stream-open\ndata: .*\n\n(id: .*\nevent: item\ndata: \d\n\n){3}$/)
  })

  it('is identical on HTTP/1.0, on HTTP/1.1 and in gzip, for all sizes, several channels, a filter, live and replayed', async () => {
    const random = randomFrom(11)
    const hub = new Hub({ replay: { maxBytes: 100_000_000 } })
    const filter = ({ data }: { data: unknown }): boolean => !String(data).startsWith('no')
    const { responses, port } = await setUp({
      middleware: { compress: 'shared' },
      handler: (req, res) =>
        res.sse.subscribe(hub, req.query['many'] === undefined ? 'a' : ['a', 'b'], {
          rewind: 1_000,
          ...(req.query['filter'] === undefined ? {} : { filter }),
        }),
    })
    const text = (): string =>
      `${random() < 0.2 ? 'no' : 'yes'} ${'ü'.repeat(Math.floor(random() * (random() < 0.1 ? 100_000 : 300)))}\nend`
    const publish = async (): Promise<void> => {
      for (let n = 0; n < 150; n++) {
        const published = hub.publish(random() < 0.5 ? 'a' : 'b', 'item', text())
        if (random() < 0.3) await published
      }
    }
    await publish()
    for (const query of ['', '?many', '?filter', '?many&filter']) {
      responses.length = 0
      const wires = await Promise.all([1, 2, 3].map(() => raw(port)))
      wires[0]?.get(`/events${query}`, '1.0')
      wires[1]?.get(`/events${query}`)
      wires[2]?.get(`/events${query}`, '1.1', 'Accept-Encoding: gzip\r\n')
      await until(() => responses.length === 3 && hub.stats().subscribers === 3, 'all are connected')
      await publish()
      const last = await hub.publish('a', 'item', 'last')
      const ended = wires.map(({ socket }) => once(socket, 'close'))
      await until(() => wires[0]?.bytes().includes(last) === true, 'the last event arrived')
      await hub.disconnect(() => true, { reconnect: false })
      await ended[0]
      await until(() => wires.slice(1).every(({ bytes }) => bytes().subarray(-7).toString() === '\r\n0\r\n\r\n'), 'the others ended')
      const bodies = wires.map(({ bytes }) => bytes().subarray(bytes().indexOf('\r\n\r\n') + 4))
      const plain = unchunk(bodies[1] as Buffer)
      expect(plain.equals(bodies[0] as Buffer)).toBe(true)
      expect(gunzipSync(unchunk(bodies[2] as Buffer)).equals(plain)).toBe(true)
      expect(plain.toString().match(/^event: item$/gm)?.length).toBeGreaterThan(50)
    }
  })
})

function unchunk(bytes: Buffer): Buffer {
  const parts: Buffer[] = []
  const body = new ChunkedBody((part) => parts.push(part))
  body.feed(bytes)
  expect([body.isComplete, body.rest.length]).toEqual([true, 0])
  return Buffer.concat(parts)
}

function urlOf(res: Response): string {
  return `http://${res.req.headers.host === 'test' ? `127.0.0.1:${res.req.socket.localPort}` : res.req.headers.host}/events`
}
