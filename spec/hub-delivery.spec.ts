import type { Server } from 'node:http'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Hub, type HubOptions, sseMiddleware, type SseMiddlewareOptions } from 'express-sse-hub'
import express from 'express'
import { join } from '../lib/stream.ts'
import { TestClient, until } from './support/client.ts'
import { FakeConnection, turn } from './support/fake-connection.ts'
import { serve, stopServers } from './support/servers.ts'

afterEach(stopServers)

async function setUp(hubOptions: HubOptions = {}, sseOptions: SseMiddlewareOptions = {}) {
  const hub = new Hub(hubOptions)
  const app = express()
  app.use(sseMiddleware(sseOptions))
  app.get('/events', (req, res) => res.sse.subscribe(hub, ((req.query['channels'] as string | undefined) ?? 'a').split(',')))
  const { url, server } = await serve(app)
  const connect = (channels = 'a', lastEventId?: string): Promise<TestClient> =>
    TestClient.open(`${url}/events?channels=${channels}`, { headers: lastEventId === undefined ? {} : { 'last-event-id': lastEventId } })
  return { hub, url, server, connect }
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n)
const numbers = (client: TestClient): number[] => client.channelEvents.map(({ data }) => Number.parseInt(data, 10))

describe('bounds', () => {
  it.each<[string, HubOptions['replay'], number, number]>([
    ['a burst larger than the log in one turn', { maxEvents: 10 }, 500, 200],
    ['a burst larger than the bytes of the log', { maxBytes: 2_000 }, 300, 500],
    ['events larger than the log', { maxBytes: 1_000 }, 4, 300_000],
    ['no replay at all', { maxEvents: 0 }, 300, 200],
  ])('reset nobody who keeps up: %s', async (_, replay, count, size) => {
    const { hub, connect } = await setUp({ replay })
    const clients = await Promise.all([(await connect()).live(), (await connect('a,b')).live()])
    const filler = 'x'.repeat(size)
    for (let round = 0; round < 3; round++) {
      for (const n of range(round * count + 1, (round + 1) * count)) void hub.publish('a', 'item', `${n} ${filler}`)
      await Promise.all(clients.map((client) => client.received((round + 1) * count)))
    }
    for (const client of clients) {
      expect(numbers(client)).toEqual(range(1, 3 * count))
      expect(client.named('stream-reset')).toEqual([])
    }
  })

  it('reset a client that was away while its events were dropped, with no event of the past', async () => {
    const { hub, connect } = await setUp({ replay: { maxEvents: 0 } })
    const client = await (await connect()).live()
    await hub.publish('a', 'item', '1')
    await client.received(1)
    client.leave()
    await until(() => hub.channel('a').subscriberCount === 0, 'the client is gone')
    await hub.publish('a', 'item', '2')
    const again = await (await connect('a', client.lastId)).live()
    expect(again.events[0]).toMatchObject({ event: 'stream-reset', data: '{"channels":["a"],"reason":"expired"}' })
    expect(again.channelEvents).toEqual([])
  })
})

describe('a slow reader', () => {
  it.each([['a'], ['a,b']])('of %s is given a contiguous part, is told, and then everything', async (channels) => {
    const { hub, connect } = await setUp({ replay: { maxEvents: 50 } })
    const [slow, quick] = await Promise.all([(await connect(channels)).live(), (await connect('a')).live()])
    slow.pause()
    const filler = 'x'.repeat(20_000)
    let n = 0
    // More than the kernel takes, at the pace of the client that reads.
    while (n < 1_500) {
      for (const end = n + 10; n < end; ) void hub.publish('a', 'item', `${++n} ${filler}`)
      await quick.received(n)
    }
    slow.resume()
    await until(() => slow.named('stream-reset').length > 0, 'the slow reader is told')
    await hub.publish('a', 'item', `${++n} ${filler}`)
    await until(() => numbers(slow).at(-1) === n, 'the slow reader is live again')
    expect(numbers(quick)).toEqual(range(1, 1_500).concat(quick.channelEvents.length > 1_500 ? [n] : []))

    expect(JSON.parse(slow.named('stream-reset')[0]?.data ?? '')).toMatchObject({ reason: 'slow' })
    // Wherever an event is missing, a reset that names the channel stands in its place.
    const holes: number[] = []
    let previous = 0
    let told = false
    for (const { event, data } of slow.events) {
      if (event === 'stream-reset') told = data.includes('"a"')
      if (event !== 'item') continue
      const number = Number.parseInt(data, 10)
      if (number <= previous || (number > previous + 1 && !told)) holes.push(number)
      previous = number
      told = false
    }
    expect(holes).toEqual([])
    expect(previous).toBe(1_501)
  }, 30_000)

  it('gets an event of several megabytes whole, with direct sends beside it and not in it', async () => {
    const hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    const streams: Express.Response['sse'][] = []
    app.get('/events', (_req, res) => {
      streams.push(res.sse)
      return res.sse.subscribe(hub, ['a'])
    })
    const { url } = await serve(app)
    const client = await (await TestClient.open(`${url}/events`)).live()
    client.pause()
    const large = 'y'.repeat(24_000_000)
    await hub.publish('a', 'item', large)
    await turn()
    const sent = streams[0]?.send('aside', { event: 'direct' })
    client.resume()
    await until(() => client.named('direct').length > 0, 'the direct event came')
    await sent
    await client.received(2)
    expect(client.events.map(({ event, data }) => [event, data.length])).toEqual([
      ['stream-open', expect.any(Number)],
      ['item', 24_000_000],
      ['direct', 5],
    ])
    expect(client.named('item')[0]?.data === large).toBe(true)
  })
})

describe('the subscription', () => {
  it('ends with close(), gives what was published before, and leaves the stream open for direct sends', async () => {
    const hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    app.get('/events', async (_req, res) => {
      const subscription = await res.sse.subscribe(hub, ['a'])
      void hub.publish('a', 'item', '1')
      subscription.close()
      void hub.publish('a', 'item', '2')
      await res.sse.send(String(subscription.closed), { event: 'direct' })
    })
    const { url } = await serve(app)
    const client = await TestClient.open(`${url}/events`)
    await client.received(2)
    expect(client.events.map(({ event, data }) => `${event} ${data.slice(0, 4)}`)).toEqual(['stream-open {"ch', 'item 1', 'direct true'])
    expect(hub.channel('a').subscriberCount).toBe(0)
  })
})

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
})

describe('after 10,000 connects and disconnects', () => {
  it('nothing is left: no subscriber, no timer, no listener, and the heap is flat', async () => {
    const hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    app.get('/events', (req, res) => res.sse.subscribe(hub, ['a', `user:${req.query['user'] as string}`]))
    const { url, server } = await serve(app)
    let clients = 0
    const connect = async (): Promise<void> => {
      const client = await TestClient.open(`${url}/events?user=${clients++}`)
      client.leave()
    }
    const round = async (count: number): Promise<number> => {
      for (let n = 0; n < count; n += 50) await Promise.all(Array.from({ length: 50 }, connect))
      await until(() => hub.channel('a').subscriberCount === 0, 'all are gone')
      while ((await connectionsOf(server)) > 0) await turn()
      for (let n = 0; n < 5; n++) {
        collectGarbage()
        await turn()
      }
      return process.memoryUsage().heapUsed
    }
    const setTimer = jest.spyOn(globalThis, 'setInterval')
    const clearTimer = jest.spyOn(globalThis, 'clearInterval')
    const listeners = server.eventNames().map((name) => server.listenerCount(name))
    const before = await round(2_000)
    const after = await round(8_000)
    const timers = setTimer.mock.results.map(({ value }) => value as unknown)
    const cleared = new Set(clearTimer.mock.calls.map(([timer]) => timer as unknown))
    setTimer.mockRestore()
    clearTimer.mockRestore()
    expect(timers.length).toBeGreaterThan(0)
    expect(timers.filter((timer) => !cleared.has(timer))).toEqual([])
    expect(server.eventNames().map((name) => server.listenerCount(name))).toEqual(listeners)
    expect(hub.channel('user:1').subscriberCount).toBe(0)
    // 8,000 more streams: 100 bytes each would show.
    expect(after - before).toBeLessThan(2_000_000)
  }, 60_000)
})

async function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve) => server.getConnections((_error, count) => resolve(count)))
}

/** Collects garbage now, without a flag on the command line. */
const collectGarbage = ((): (() => void) => {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
})()

describe('20,000 subscribers', () => {
  it('are served without holding the event loop for more than 20 ms at a stretch', async () => {
    const hub = new Hub()
    const connections = Array.from({ length: 20_000 }, () => {
      const connection = new FakeConnection()
      // What a write to a socket costs.
      connection.onWrite = () => {
        for (const end = performance.now() + 0.004; performance.now() < end; );
      }
      hub[join](['a'], {}).start(connection.asConnection, '')
      return connection
    })
    await turn()
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    await turn()
    delay.reset()
    for (let round = 1; round <= 5; round++) {
      await hub.publish('a', 'item', round)
      await until(() => connections.every(({ writes }) => writes.length === round + 1), 'all were served')
    }
    delay.disable()
    for (const connection of connections.filter((_, n) => n % 997 === 0)) {
      expect(connection.channelEvents.map(({ data }) => data)).toEqual(['1', '2', '3', '4', '5'])
    }
    // Work of 80 ms and more per publish, in slices: 99 of 100 pauses are short, whatever else the machine does.
    expect(delay.percentile(99) / 1e6).toBeLessThan(20)
  }, 30_000)
})
