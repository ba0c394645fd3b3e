import net from 'node:net'
import { Hub, type HubOptions, sseMiddleware, type SseMiddlewareOptions, type SseStream } from 'express-sse-hub'
import express from 'express'
import { join } from '../../lib/hub/subscribable.ts'
import { ChunkedBody } from '../support/chunked-body.ts'
import { TestClient, until } from '../support/client.ts'
import { FakeConnection, parse, turn } from '../support/fake-connection.ts'
import { serve, stopServers } from '../support/servers.ts'

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
const positionOf = (id: string): number => Number(/-(\d+)/.exec(id)?.[1])
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
      for (const end = n + 10; n < end;) void hub.publish('a', 'item', `${++n} ${filler}`)
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
  })

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
      await res.sse.send(String(subscription.isClosed), { event: 'direct' })
    })
    const { url } = await serve(app)
    const client = await TestClient.open(`${url}/events`)
    await client.received(2)
    expect(client.events.map(({ event, data }) => `${event} ${data.slice(0, 4)}`)).toEqual(['stream-open {"ch', 'item 1', 'direct true'])
    expect(hub.channel('a').subscriberCount).toBe(0)
  })
})

describe('a stream', () => {
  it('stays idle, for an answer of the program, when the bounds of a channel are wrong', async () => {
    const hub = new Hub({ replay: () => ({ maxEvents: -1 }) })
    const app = express()
    app.set('env', 'test')
    app.use(sseMiddleware())
    app.get('/events', async (_req, res) => {
      await res.sse.subscribe(hub, ['a']).catch((error: Error) => res.status(500).send(`${res.sse.state}: ${error.message}`))
    })
    const { url } = await serve(app)
    const answer = await fetch(`${url}/events`)
    expect([answer.status, await answer.text()]).toEqual([500, expect.stringMatching(/^idle: Hub: replay\('a'\)\.maxEvents.*-1/)])
  })

  it('takes a large state and what follows it in the turn in which it is opened', async () => {
    const app = express()
    app.use(sseMiddleware())
    app.get('/events', (_req, res) => {
      void res.sse.send('s'.repeat(1_048_576), { event: 'state' })
      void res.sse.send('ready', { event: 'ready' })
    })
    const { url } = await serve(app)
    const client = await TestClient.open(`${url}/events`)
    await client.received(2)
    expect(client.events.map(({ event, data }) => [event, data.length])).toEqual([
      ['state', 1_048_576],
      ['ready', 5],
    ])
  })
})

describe('a pipelined stream', () => {
  it('has what it was sent while it waited for its turn, and everything after that', async () => {
    const hub = new Hub({ replay: { maxBytes: 16_000_000 } })
    const app = express()
    app.use(sseMiddleware())
    const first: express.Response[] = []
    app.get('/first', (_req, res) => void first.push(res))
    const streams: SseStream[] = []
    app.get('/events', async (_req, res) => {
      streams.push(res.sse)
      await res.sse.subscribe(hub, ['a'])
      for (let n = 0; n < 6; n++) void res.sse.send('d'.repeat(10_000), { event: 'direct' })
    })
    const { port } = await serve(app)
    const socket = net.connect(port, '127.0.0.1')
    const bytes: Buffer[] = []
    const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: test\r\n\r\n`
    socket.write(request('/first') + request('/events'))
    await until(() => first.length === 1 && streams.length === 1, 'both requests are there')
    // What is sent directly waits with the response, and a subscription begins when its turn has come.
    void streams[0]?.send('early', { event: 'direct' })
    expect(hub.channel('a').subscriberCount).toBe(0)
    first[0]?.send('done')
    await until(() => hub.channel('a').subscriberCount === 1, 'it is subscribed')
    // More than the kernel takes, so that it has to wait for the client again and again.
    for (let n = 1; n <= 80; n++) void hub.publish('a', 'item', `${n} ${'x'.repeat(100_000)}`)
    void hub.publish('a', 'last', 'last')
    await turn()
    let text = ''
    const body = new ChunkedBody((part) => (text += part.toString()))
    socket.on('data', (chunk: Buffer) => bytes.push(chunk))
    await until(() => Buffer.concat(bytes.slice(-2)).includes('data: last\n\n'), 'the last event came')
    const all = Buffer.concat(bytes)
    body.feed(all.subarray(all.lastIndexOf('\r\n\r\n', all.indexOf('retry: ')) + 4))
    const events = parse(text)
    expect(events.filter(({ event }) => event === 'direct')).toHaveLength(7)
    expect(events.filter(({ event }) => event === 'item').map(({ data }) => Number.parseInt(data, 10))).toEqual(range(1, 80))
    socket.destroy()
  })
})

describe('a filter', () => {
  it('that ends its own subscription or stream has the events before that delivered', async () => {
    for (const end of ['subscription', 'stream'] as const) {
      const hub = new Hub()
      const app = express()
      app.use(sseMiddleware())
      app.get('/events', async (_req, res) => {
        const subscription = await res.sse.subscribe(hub, ['a'], {
          filter: ({ event }) => {
            if (event === 'done' && end === 'subscription') subscription.close()
            if (event === 'done' && end === 'stream') res.sse.close({ reconnect: false })
            return true
          },
        })
      })
      const { url } = await serve(app)
      const client = await (await TestClient.open(`${url}/events`)).live()
      for (const n of range(1, 5)) void hub.publish('a', 'item', String(n))
      void hub.publish('a', 'done', '')
      await client.received(5)
      await until(() => hub.channel('a').subscriberCount === 0, 'the subscription is over')
      expect(numbers(client).slice(0, 5)).toEqual([1, 2, 3, 4, 5])
      if (end === 'stream') await client.over()
      expect(client.named('stream-close')).toHaveLength(end === 'stream' ? 1 : 0)
    }
  })

  it('that skips what follows a large event leaves the large event whole', async () => {
    const hub = new Hub({ replay: { maxEvents: 4, maxBytes: 32_000_000 } })
    const app = express()
    app.use(sseMiddleware())
    app.get('/events', (_req, res) => res.sse.subscribe(hub, ['a'], { filter: ({ event }) => event === 'item' }))
    const { url } = await serve(app)
    const client = await (await TestClient.open(`${url}/events`)).live()
    client.pause()
    const large = 'y'.repeat(24_000_000)
    void hub.publish('a', 'item', large)
    void hub.publish('a', 'unwanted', '')
    await turn()
    client.resume()
    await until(() => client.named('stream-position').length > 0, 'the id is moved')
    expect(client.events.map(({ event, data }) => [event, event === 'item' ? data.length : 0])).toEqual([
      ['stream-open', 0],
      ['item', 24_000_000],
      ['stream-position', 0],
    ])
    expect(client.named('item')[0]?.data === large).toBe(true)
  })

  it('does not let its client grow old while direct sends keep the connection busy', async () => {
    const hub = new Hub({ replay: { maxAgeMs: 2_000 } })
    const app = express()
    app.use(sseMiddleware({ keepAliveMs: 1_000 }))
    const streams: SseStream[] = []
    app.get('/events', (_req, res) => {
      streams.push(res.sse)
      return res.sse.subscribe(hub, ['a'], { filter: () => false })
    })
    const { url } = await serve(app)
    const client = await (await TestClient.open(`${url}/events`)).live()
    await hub.publish('a', 'item', '1')
    await until(() => {
      void streams[0]?.comment('busy')
      return client.named('stream-position').length > 0
    }, 'the id is moved')
    expect(positionOf(client.lastId)).toBe(positionOf(hub.channel('a').lastEventId))
  })

  it('does not hold the event loop when many clients with a long replay come in one turn', async () => {
    const hub = new Hub()
    for (const n of range(1, 20)) void hub.publish('a', 'item', n)
    const slow = (): boolean => {
      for (const end = performance.now() + 0.5; performance.now() < end;);
      return true
    }
    const before = performance.now()
    const connections = range(1, 40).map(() => {
      const connection = new FakeConnection()
      hub[join](['a'], { filter: slow, rewind: 20 }, '').begin(connection.asConnection)
      return connection
    })
    const held = performance.now() - before
    await until(() => connections.every(({ channelEvents }) => channelEvents.length === 20), 'all have the replay')
    const total = performance.now() - before
    // 400 ms of work in slices: one of them at once, the others with turns between them.
    expect(held).toBeLessThan(total / 4)
  })
})

describe('a response that is wrapped', () => {
  async function wrapped(wrap: (res: express.Response) => void, sseOptions: SseMiddlewareOptions = {}) {
    const hub = new Hub()
    const app = express()
    app.use((_req, res, next) => {
      wrap(res)
      next()
    })
    app.use(sseMiddleware(sseOptions))
    const streams: SseStream[] = []
    app.get('/events', (_req, res) => {
      streams.push(res.sse)
      return res.sse.subscribe(hub, ['a'])
    })
    const { url } = await serve(app)
    const client = await TestClient.open(`${url}/events`)
    return { hub, client, streams }
  }

  it('by something that returns nothing from write gets everything', async () => {
    const { hub, client } = await wrapped((res) => {
      const write = res.write.bind(res) as (chunk: unknown) => boolean
      res.write = ((chunk: unknown) => void write(chunk)) as unknown as typeof res.write
    })
    for (const n of range(1, 5)) {
      await hub.publish('a', 'item', n)
      await client.received(n)
    }
    expect(numbers(client)).toEqual([1, 2, 3, 4, 5])
  })

  it('by something whose write throws ends, is reported, and settles what was sent', async () => {
    const reported: unknown[] = []
    let broken = false
    const { hub, client, streams } = await wrapped(
      (res) => {
        const write = res.write.bind(res) as (chunk: unknown) => boolean
        res.write = (chunk: unknown) => {
          if (broken) throw new Error('broken')
          return write(chunk)
        }
      },
      { onError: (error, { where }) => reported.push(`${where}: ${String(error)}`) },
    )
    await client.live()
    broken = true
    expect(await streams[0]?.send('x')).toBe(false)
    expect(reported).toEqual(['response: Error: broken'])
    expect(hub.channel('a').subscriberCount).toBe(0)
  })

  it('by something whose end throws is destroyed, and the others live on', async () => {
    const reported: unknown[] = []
    const { client, streams } = await wrapped(
      (res) => {
        res.end = () => {
          throw new Error('broken')
        }
      },
      { onError: (error, { where }) => reported.push(`${where}: ${String(error)}`) },
    )
    await client.live()
    streams[0]?.close()
    await client.over()
    expect(reported).toEqual(['response: Error: broken'])
  })
})

describe('20,000 subscribers', () => {
  it('are served without holding the event loop for more than 20 ms at a stretch', async () => {
    const hub = new Hub()
    const connections = Array.from({ length: 20_000 }, () => {
      const connection = new FakeConnection()
      hub[join](['a'], {}, '').begin(connection.asConnection)
      return connection
    })
    await until(() => connections.every(({ writes }) => writes.length === 1), 'all are live')
    // A clock that moves by what a write to a socket costs, and by nothing else: the machine may be as busy as it likes.
    let clock = performance.now()
    for (const connection of connections) connection.onWrite = () => (clock += 0.004)
    const now = jest.spyOn(performance, 'now').mockImplementation(() => clock)
    const stretches: number[] = []
    try {
      for (let round = 1; round <= 5; round++) {
        await hub.publish('a', 'item', round)
        while (connections.some(({ writes }) => writes.length <= round)) {
          const before = clock
          await turn()
          stretches.push(clock - before)
        }
      }
    } finally {
      now.mockRestore()
    }
    for (const connection of connections.filter((_, n) => n % 997 === 0)) {
      expect(connection.channelEvents.map(({ data }) => data)).toEqual(['1', '2', '3', '4', '5'])
    }
    expect(stretches.length).toBeGreaterThan(50)
    expect(Math.max(...stretches)).toBeLessThan(20)
  })
})
