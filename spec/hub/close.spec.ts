import { Hub, type HubCloseOptions, type SseError, sseMiddleware, type SseStream, type Subscription } from 'express-sse-hub'
import express, { type Request, type Response } from 'express'
import supertest from 'supertest'
import { TestClient, until } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { type HubApp, serveHub } from '../support/hub-app.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

const setUp = (onStream?: (stream: SseStream) => void): Promise<HubApp> => serveHub({ hub: { replay: { maxBytes: 16_000_000 } }, onStream })

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n)

describe('hub.close', () => {
  it('delivers what is due and a retry of 1 to 5 s, ends every stream, and lets server.close() complete', async () => {
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

  it('makes a client that subscribes afterwards reconnect later', async () => {
    const { hub, connect } = await setUp()
    await hub.close()
    const client = await connect()
    await client.over()
    expect(client.status).toBe(200)
    expect(client.retries.at(-1)).toBeGreaterThanOrEqual(1_000)
    expect(client.events.map(({ data }) => data)).toEqual(['{"reason":"closing"}'])
  })

  it('refuses what callbacks publish or subscribe while it closes', async () => {
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
    expect((subscription as Subscription).isClosed).toBe(true)
    await late.client.over()
  })

  it('waits for streams that were closed before, and destroys those that do not take their end', async () => {
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

/** Opens a stream without a subscription. */
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

describe('hub.close({ drainMs })', () => {
  afterEach(() => {
    jest.useRealTimers()
  })

  /** Connects clients, and records the errors of the app. */
  async function setUpDrain(clientCount: number) {
    const errors: unknown[] = []
    const { hub, app, url, server, streams, subscriptions, live } = await setUp()
    app.use((error: SseError, _req: Request, res: Response, _next: unknown) => {
      errors.push(error)
      res.status(error.status).json({ code: error.code })
    })
    const clients: TestClient[] = []
    for (let n = 0; n < clientCount; n++) clients.push(await live())
    const left = (): number => hub.stats().subscribers
    /** The clients whose subscription has not ended. */
    const rest = (): TestClient[] => clients.filter((_client, n) => subscriptions[n]?.isClosed === false)
    return { hub, url, server, clients, streams, subscriptions, errors, left, rest }
  }

  /** Fakes only the clock of the drain, which `pass` advances. */
  function fakeClock(): void {
    jest.useFakeTimers({
      doNotFake: ['Date', 'hrtime', 'nextTick', 'queueMicrotask', 'setImmediate', 'clearImmediate', 'setInterval', 'clearInterval'],
    })
  }
  const pass = (ms: number): Promise<void> => jest.advanceTimersByTimeAsync(ms)

  /** Waits as `until` does, but without setTimeout, which is fake. */
  async function untilTurn(condition: () => boolean): Promise<void> {
    while (!condition()) await turn()
  }

  it('ends the streams one by one, evenly over the time, each with a retry of 1 to 5 s', async () => {
    const { hub, clients, server, left } = await setUpDrain(20)
    fakeClock()
    let isClosed = false
    const closed = hub.close({ drainMs: 2_000 }).then(() => (isClosed = true))
    const counts: number[] = []
    for (let step = 1; step < 10; step++) {
      await pass(200)
      counts.push(left())
    }
    // Ideally 18, 16, 14 … 2.
    const deviations = counts.map((count, n) => Math.abs(count - (18 - 2 * n)))
    expect(Math.max(...deviations)).toBeLessThanOrEqual(1)
    expect(isClosed).toBe(false)
    await pass(200)
    expect(left()).toBe(0)
    await closed
    await new Promise((resolve) => server.close(resolve))
    jest.useRealTimers()
    await Promise.all(clients.map((client) => client.over()))
    const retries = clients.map((client) => client.retries.at(-1) ?? 0)
    expect(Math.min(...retries)).toBeGreaterThanOrEqual(1_000)
    expect(Math.max(...retries)).toBeLessThanOrEqual(5_000)
    expect(new Set(retries).size).toBeGreaterThan(10)
  })

  it('takes its time by the real clock, too', async () => {
    const { hub, streams } = await setUpDrain(20)
    const ends: number[] = []
    for (const { signal } of streams) signal.addEventListener('abort', () => ends.push(performance.now()))
    await hub.close({ drainMs: 400 })
    expect(ends).toHaveLength(20)
    expect((ends.at(-1) as number) - (ends[0] as number)).toBeGreaterThan(200)
  })

  it('ends every stream at once if drainMs is 0', async () => {
    const { hub, left } = await setUpDrain(20)
    fakeClock()
    const closed = hub.close({ drainMs: 0 })
    await turn()
    expect(left()).toBe(0)
    await closed
  })

  it('does not wait if there is no stream', async () => {
    const hub = new Hub()
    await hub.close({ drainMs: 2_147_483_647 })
    await expect(hub.publish('a', 'item', 1)).rejects.toMatchObject({ code: 'SSE_HUB_CLOSED' })
  })

  it('delivers events published meanwhile to the remaining clients and to events(), and refuses later ones', async () => {
    const { hub, clients, left, rest } = await setUpDrain(10)
    const iterator = hub.events(['a'])
    fakeClock()
    const closed = hub.close({ drainMs: 1_000 })
    const expected = new Map<TestClient, string[]>(clients.map((client) => [client, []]))
    for (let n = 1; n <= 4; n++) {
      await pass(200)
      expect(left()).toBeGreaterThan(0)
      for (const client of rest()) expected.get(client)?.push(`during ${n}`)
      expect(await hub.publish('a', 'item', `during ${n}`)).toMatch(/\/a$/)
    }
    await pass(200)
    await closed
    await expect(hub.publish('a', 'item', 'late')).rejects.toMatchObject({ code: 'SSE_HUB_CLOSED', status: 503 })
    jest.useRealTimers()
    await Promise.all(clients.map((client) => client.over()))
    const received = clients.map((client) => client.channelEvents.map(({ data }) => data))
    expect(received).toEqual([...expected.values()])
    expect(new Set(received.map(({ length }) => length)).size).toBeGreaterThan(2)
    const iterated: unknown[] = []
    for await (const { data } of iterator) iterated.push(data)
    expect(iterated).toEqual(['during 1', 'during 2', 'during 3', 'during 4'])
  })

  it('makes a client that subscribes meanwhile reconnect in 1 to 5 s, or answers 503 with Retry-After', async () => {
    const { hub, url, errors, left, subscriptions } = await setUpDrain(4)
    fakeClock()
    const closed = hub.close({ drainMs: 1_000 })
    await pass(500)
    const before = left()
    expect(before).toBeGreaterThan(0)
    const late = await TestClient.open(url)
    await untilTurn(() => late.ended)
    expect([late.status, late.events.map(({ data }) => data), late.retries.length]).toEqual([200, ['{"reason":"closing"}'], 1])
    expect(late.retries[0]).toBeGreaterThanOrEqual(1_000)
    expect(late.retries[0]).toBeLessThanOrEqual(5_000)
    const other = await supertest(url).get('/').set('Accept', 'application/json').expect(503, { code: 'SSE_HUB_CLOSED' })
    expect(other.headers['retry-after']).toMatch(/^[1-5]$/)
    expect(errors).toHaveLength(1)
    expect(subscriptions.slice(4).map((subscription) => subscription.isClosed)).toEqual([true, true])
    expect([left(), hub.stats().refusals]).toEqual([before, 2])
    await pass(500)
    await closed
  })

  it('does not wait for clients that leave meanwhile', async () => {
    const { hub, clients, left, rest, server } = await setUpDrain(10)
    fakeClock()
    const closed = hub.close({ drainMs: 1_000 })
    await pass(300)
    const leaving = rest().slice(-4)
    const before = left()
    for (const client of leaving) client.leave()
    await untilTurn(() => left() === before - 4)
    void hub.publish('a', 'item', 'last')
    await pass(700)
    await closed
    await new Promise((resolve) => server.close(resolve))
    jest.useRealTimers()
    await Promise.all(clients.map((client) => client.over()))
    expect(left()).toBe(0)
    expect(clients.filter((client) => client.channelEvents.length === 1)).toHaveLength(before - 4)
  })

  it('resolves when every client has left meanwhile', async () => {
    const { hub, clients, left } = await setUpDrain(3)
    const closed = hub.close({ drainMs: 200 })
    for (const client of clients) client.leave()
    await until(() => left() === 0, 'every client has left')
    await closed
    await expect(hub.publish('a', 'item', 1)).rejects.toMatchObject({ code: 'SSE_HUB_CLOSED' })
  })

  it('destroys a client that takes nothing, 5 s after the last stream was ended', async () => {
    const { hub, clients, server, left } = await setUpDrain(2)
    clients[0]?.pause()
    for (let n = 0; n < 40; n++) {
      void hub.publish('a', 'item', 'x'.repeat(400_000))
      await turn()
    }
    await clients[1]?.received(40)
    fakeClock()
    let isClosed = false
    const closed = hub.close({ drainMs: 1_000 }).then(() => (isClosed = true))
    while (left() > 0) await pass(20)
    await untilTurn(() => clients[1]?.ended === true)
    await pass(4_900)
    for (let n = 0; n < 20; n++) await turn()
    expect(isClosed).toBe(false)
    await pass(100)
    await closed
    await new Promise((resolve) => server.close(resolve))
    clients[0]?.resume()
    await untilTurn(() => clients[0]?.ended === true)
    expect(clients[0]?.channelEvents.length).toBeLessThan(40)
  })

  it('returns the same promise when it is called again, whatever the options', async () => {
    const { hub } = await setUpDrain(2)
    const first = hub.close({ drainMs: 50 })
    expect(hub.close()).toBe(first)
    expect(hub.close({ drainMs: 60_000 })).toBe(first)
    await first
    expect(hub.close()).toBe(first)
  })

  it.each<[string, unknown, string, RegExp]>([
    ['-1', { drainMs: -1 }, 'RangeError', /drainMs.*got -1/],
    ['1.5', { drainMs: 1.5 }, 'RangeError', /drainMs.*got 1\.5/],
    ['NaN', { drainMs: NaN }, 'RangeError', /drainMs.*got NaN/],
    ['Infinity', { drainMs: Infinity }, 'RangeError', /drainMs.*got Infinity/],
    ['more than a timer can wait', { drainMs: 2 ** 31 }, 'RangeError', /drainMs.*got 2147483648/],
    ['a string', { drainMs: '5' }, 'TypeError', /drainMs.*got '5'/],
    ['false', { drainMs: false }, 'TypeError', /drainMs.*got false/],
    ['null', { drainMs: null }, 'TypeError', /drainMs.*got null/],
    ['another name', { drainms: 5 }, 'TypeError', /'drainms'.*drainMs/],
    ['no object', 5, 'TypeError', /close: options must be an object, got 5/],
  ])('refuses %s, and the hub keeps working', async (_what, options, name, message) => {
    const { hub, clients } = await setUpDrain(1)
    const close = () => void hub.close(options as HubCloseOptions)
    expect(close).toThrow(expect.objectContaining({ name, message: expect.stringMatching(message) as string }) as Error)
    await hub.publish('a', 'item', 1)
    await clients[0]?.received(1)
    expect(clients[0]?.ended).toBe(false)
  })
})

describe('close({ reconnect: false })', () => {
  it('lets a client without its last events reconnect if the hub is closed meanwhile', async () => {
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

  it('delivers everything published before to a slow client, then the end, and no later event', async () => {
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
    await until(() => hub.channel('a').subscriberCount === 0, 'the subscription has ended')
  })
})
