import { Hub, sseMiddleware, type SseStream, type Subscription } from 'express-sse-hub'
import express from 'express'
import { TestClient, until } from './support/client.ts'
import { serve, stopServers } from './support/servers.ts'

afterEach(stopServers)

async function setUp(onStream: (sse: SseStream) => void = () => {}) {
  const hub = new Hub({ replay: { maxBytes: 16_000_000 } })
  const app = express()
  app.use(sseMiddleware())
  app.get('/events', (_req, res) => {
    onStream(res.sse)
    return res.sse.subscribe(hub, ['a'])
  })
  const { url, server } = await serve(app)
  const connect = (): Promise<TestClient> => TestClient.open(`${url}/events`)
  return { hub, server, connect }
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n)

describe('hub.close', () => {
  it('gives what is due and a retry of 1 to 5 s, ends every stream, and lets server.close() complete', async () => {
    const { hub, connect, server } = await setUp()
    const clients = await Promise.all(range(1, 20).map(async () => (await connect()).live()))
    void hub.publish('a', 'item', 'last')
    await hub.close()
    await new Promise((resolve) => server.close(resolve))
    for (const client of clients) {
      await client.over()
      expect(client.channelEvents.map(({ data }) => data)).toEqual(['last'])
    }
    const retries = clients.map((client) => client.retries.at(-1) ?? 0)
    expect(Math.min(...retries)).toBeGreaterThanOrEqual(1_000)
    expect(Math.max(...retries)).toBeLessThanOrEqual(5_000)
    expect(new Set(retries).size).toBeGreaterThan(10)
  })

  it('tells a client that subscribes afterwards to come back later', async () => {
    const { hub, connect } = await setUp()
    await hub.close()
    const client = await connect()
    await client.over()
    expect(client.status).toBe(200)
    expect(client.retries.at(-1)).toBeGreaterThanOrEqual(1_000)
    expect(client.events).toEqual([])
  })

  it('is closed before it calls back: what callbacks publish or subscribe meanwhile is refused', async () => {
    const streams: SseStream[] = []
    const { hub, connect } = await setUp((sse) => streams.push(sse))
    await (await connect()).live()
    const other = new Hub()
    const late = await connectTo(other)
    const outcome: Promise<unknown>[] = []
    streams[0]?.signal.addEventListener('abort', () => {
      outcome.push(
        hub.publish('a', 'item', 'left').catch((error: { code: string }) => error.code),
        late.sse.subscribe(hub, ['a']),
        hub.close(),
      )
    })
    await hub.close()
    const [published, subscription] = await Promise.all(outcome)
    expect(published).toBe('SSE_HUB_CLOSED')
    expect((subscription as Subscription).closed).toBe(true)
    await late.client.over()
  })

  it('waits for streams that were closed before and are not gone, and destroys those that do not take their end', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask', 'performance'] })
    try {
      const streams: SseStream[] = []
      const { hub, connect, server } = await setUp((sse) => streams.push(sse))
      const client = await connect()
      client.pause()
      for (let n = 0; n < 40; n++) {
        void hub.publish('a', 'item', 'x'.repeat(400_000))
        await new Promise((resolve) => setImmediate(resolve))
      }
      streams[0]?.close()
      let isClosed = false
      const closed = hub.close().then(() => (isClosed = true))
      for (let n = 0; n < 20; n++) await new Promise((resolve) => setImmediate(resolve))
      expect(isClosed).toBe(false)
      jest.advanceTimersByTime(5_000)
      await closed
      await new Promise((resolve) => server.close(resolve))
    } finally {
      jest.useRealTimers()
    }
  })
})

/** A stream that is open and not subscribed. */
async function connectTo(_hub: Hub): Promise<{ sse: SseStream; client: TestClient }> {
  const app = express()
  app.use(sseMiddleware())
  const streams: SseStream[] = []
  app.get('/', (_req, res) => {
    res.sse.open()
    streams.push(res.sse)
  })
  const { url } = await serve(app)
  const client = await TestClient.open(url)
  return { sse: streams[0] as SseStream, client }
}

describe('close({ reconnect: false })', () => {
  it('lets a client that has not got everything come back when the hub is closed meanwhile', async () => {
    const streams: SseStream[] = []
    const { hub, connect } = await setUp((sse) => streams.push(sse))
    const client = await (await connect()).live()
    client.pause()
    for (const n of range(1, 20)) void hub.publish('a', 'item', `${n} ${'x'.repeat(400_000)}`)
    await new Promise((resolve) => setImmediate(resolve))
    streams[0]?.close({ reconnect: false })
    const closed = hub.close()
    await new Promise((resolve) => setImmediate(resolve))
    client.resume()
    await closed
    await client.over()
    expect(client.channelEvents.length).toBeLessThan(20)
    expect(client.named('stream-close')).toEqual([])
    expect(client.retries.at(-1)).toBeLessThanOrEqual(5_000)
  })

  it('lets a slow client have everything published before, then the end, and nothing that is published after', async () => {
    const streams: SseStream[] = []
    const { hub, connect } = await setUp((sse) => streams.push(sse))
    const client = await (await connect()).live()
    client.pause()
    for (const n of range(1, 20)) void hub.publish('a', 'item', `${n} ${'x'.repeat(400_000)}`)
    await new Promise((resolve) => setImmediate(resolve))
    const [stream] = streams as [SseStream]
    const { signal } = stream
    stream.close({ reconnect: false })
    expect([stream.state, signal.aborted, await stream.send('late')]).toEqual(['closed', true, false])
    void hub.publish('a', 'item', 'after')
    client.resume()
    await client.over()
    expect(client.events.map(({ event, data }) => `${event} ${Number.parseInt(data, 10)}`)).toEqual([
      'stream-open NaN',
      ...range(1, 20).map((n) => `item ${n}`),
      'stream-close NaN',
    ])
    await until(() => hub.channel('a').subscriberCount === 0, 'the subscription is over')
  })
})
