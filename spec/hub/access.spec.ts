import { once } from 'node:events'
import { EventSource } from 'eventsource'
import express, { type Request } from 'express'
import { Hub, SseError, sseMiddleware, type SseMiddlewareOptions, type SubscribeOptions } from 'express-sse-hub'
import supertest from 'supertest'
import { type TestClient, until } from '../support/client.ts'
import { type HubApp, serveHub } from '../support/hub-app.ts'
import { serve, stopServers } from '../support/servers.ts'

const sources: EventSource[] = []
afterEach(async () => {
  jest.useRealTimers()
  jest.restoreAllMocks()
  for (const source of sources.splice(0)) source.close()
  await stopServers()
})

const TIMERS = [
  'Date',
  'hrtime',
  'nextTick',
  'performance',
  'queueMicrotask',
  'setImmediate',
  'clearImmediate',
  'setInterval',
  'clearInterval',
  'setTimeout',
  'clearTimeout',
] as const

/** Fakes these timers, and no other. */
function fake(...names: (typeof TIMERS)[number][]): void {
  jest.useFakeTimers({ doNotFake: TIMERS.filter((name) => !names.includes(name)) })
}

/** Serves an app whose clients subscribe with the options that `optionsFor` returns for their request. */
const setUp = (optionsFor: (req: Request) => SubscribeOptions, sse: SseMiddlewareOptions = {}): Promise<HubApp> =>
  serveHub({ hub: { replay: { maxBytes: 64_000_000 } }, sse, subscribe: optionsFor })

/** The owner in the query of a request. */
const byOwner = (req: Request): SubscribeOptions => (typeof req.query['owner'] === 'string' ? { owner: req.query['owner'] } : {})

const expectTurnedAway = (client: TestClient): void => {
  expect(client.status).toBe(200)
  expect(client.text).toMatch(/(\n\n|^retry: 2000\n)retry: \d+\nevent: stream-end\ndata: \{"reason":"\w+"\}\n\n$/)
  expect(client.retries).toHaveLength(2)
  expect(client.retries[1]).toBeGreaterThanOrEqual(1_000)
  expect(client.retries[1]).toBeLessThanOrEqual(5_000)
}

/** Lets a client stop reading until its socket is full. Returns how many of 40 events of 400 kB were written before. */
async function stall({ hub, responses }: HubApp, client: TestClient): Promise<number> {
  client.pause()
  const before = hub.stats().delivered
  for (let n = 1; n <= 40; n++) void hub.publish('a', 'item', `${n} ${'x'.repeat(400_000)}`)
  await until(() => (responses[0]?.socket?.writableLength ?? 0) > 0, 'the socket is full')
  const written = hub.stats().delivered - before
  expect(written).toBeLessThan(40)
  return written
}

const numbers = (client: TestClient): number[] => client.channelEvents.map(({ data }) => Number.parseInt(data, 10))
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n)

describe('the access of a client', () => {
  describe('that ends at an invalid time', () => {
    it.each<[string, unknown, typeof TypeError, RegExp]>([
      ['NaN', NaN, RangeError, /expiresAt must be a valid time, got NaN/],
      ['an invalid Date', new Date('tomorrow'), RangeError, /expiresAt must be a valid time, got Invalid Date/],
      ['seconds, as in a JSON Web Token', 1_924_988_400, RangeError, /expiresAt is in milliseconds.*multiply it by 1,000; got 1924988400/],
      ['a string', '2030-01-01', TypeError, /expiresAt must be a Date or a number.*'2030-01-01'/],
      ['null', null, TypeError, /expiresAt.*null/],
      ['true', true, TypeError, /expiresAt.*true/],
      ['a BigInt', 5n, TypeError, /expiresAt.*5n/],
      ['an object', { getTime: () => 5 }, TypeError, /expiresAt/],
    ])('is rejected before anything is sent: %s', async (_what, expiresAt, type, message) => {
      const hub = new Hub()
      const app = express()
      app.use(sseMiddleware())
      app.get('/', async (_req, res) => {
        const error: unknown = await res.sse.subscribe(hub, ['a'], { expiresAt: expiresAt as Date }).catch((reason: unknown) => reason)
        res.json({ name: (error as Error).name, message: (error as Error).message })
      })
      const answer = await supertest(app).get('/').expect(200)
      expect(answer.body).toEqual({ name: type.name, message: expect.stringMatching(message) as string })
      expect(hub.stats().subscribers).toBe(0)
    })
  })

  describe('that has ended already', () => {
    it.each<[string, Date | number]>([
      ['a Date', new Date(Date.now() - 1)],
      ['a number', Date.now() - 1],
      ['0', 0],
      ['-Infinity', -Infinity],
    ])('delivers nothing, not even the replay, and sends a retry of 1 to 5 s: %s', async (_what, expiresAt) => {
      const { hub, connect, subscriptions } = await setUp(() => ({ expiresAt }))
      const id = await hub.publish('a', 'item', 1)
      await hub.publish('a', 'item', 2)
      const client = await connect('', id)
      await client.over()
      expect(client.events.map(({ event }) => event)).toEqual(['stream-end'])
      expectTurnedAway(client)
      expect(subscriptions[0]?.isClosed).toBe(true)
      expect(hub.stats()).toMatchObject({ subscribers: 0, delivered: 0 })
    })

    it('sends no snapshot', async () => {
      const { connect } = await setUp(() => ({ expiresAt: 0, snapshot: () => ({ data: 'secret' }) }))
      const client = await connect()
      await client.over()
      expect(client.events.map(({ event }) => event)).toEqual(['stream-end'])
    })
  })

  describe('that ends later', () => {
    it.each<[string, (ms: number) => Date | number]>([
      ['as a Date', (ms) => new Date(ms)],
      ['as a number', (ms) => ms],
    ])('%s: delivers the events published before, none of the later ones, and replays those after a reconnect', async (_what, as) => {
      const end = Date.now() + 60_000
      const { hub, live } = await setUp((req) => (req.query['ends'] === undefined ? {} : { expiresAt: as(end) }))
      const client = await live('ends=1')
      const other = await live()
      const now = jest.spyOn(Date, 'now')
      now.mockReturnValue(end - 1)
      await hub.publish('a', 'item', 1)
      await client.received(1)
      now.mockReturnValue(end)
      await hub.publish('a', 'item', 2)
      await other.received(2)
      await client.over()
      expect(client.data).toEqual([1])
      expectTurnedAway(client)
      expect(hub.stats().subscribers).toBe(1)
      await hub.publish('a', 'item', 3)
      // The client reconnects and is authenticated again.
      expect((await live('', client.lastId)).data).toEqual([2, 3])
      await other.received(3)
      expect(other.ended).toBe(false)
    })

    it.each<[string, SseMiddlewareOptions]>([
      ['by default', {}],
      ['without keep-alive and stall timeout', { keepAliveMs: false, stallTimeoutMs: false }],
      ['with long ones', { keepAliveMs: 600_000, stallTimeoutMs: 600_000, maxLifetimeMs: 3_600_000 }],
      ['with short ones', { keepAliveMs: 50 }],
    ])('closes the stream of an idle client within a second: %s', async (_what, middleware) => {
      fake('Date', 'setInterval', 'clearInterval')
      const expiresAt = Date.now() + 10_000
      const { hub, live } = await setUp(() => ({ expiresAt }), middleware)
      const client = await live()
      jest.advanceTimersByTime(9_999)
      await hub.publish('a', 'item', 1)
      await client.received(1)
      expect(hub.stats().subscribers).toBe(1)
      jest.advanceTimersByTime(1_001)
      expect(hub.stats().subscribers).toBe(0)
      await client.over()
      expectTurnedAway(client)
      expect(client.data).toEqual([1])
    })

    it.each<[string, number]>([
      ['never', Infinity],
      ['after more than a timer can wait', Date.now() + 2 ** 31 + 1_000],
      ['at the last time there is', 8.64e15],
    ])('%s, is not ended by the clock', async (_what, expiresAt) => {
      fake('Date', 'setInterval', 'clearInterval')
      const { hub, live } = await setUp(() => ({ expiresAt }))
      const client = await live()
      jest.advanceTimersByTime(100_000)
      await hub.publish('a', 'item', 1)
      await client.received(1)
      expect([hub.stats().subscribers, client.ended]).toEqual([1, false])
    })

    it('delivers nothing to a filtered client after it, and no longer calls the filter', async () => {
      const end = Date.now() + 60_000
      const asked: unknown[] = []
      const { hub, live } = await setUp(() => ({
        expiresAt: end,
        filter: ({ data }) => {
          asked.push(data)
          return true
        },
      }))
      const client = await live()
      await hub.publish('a', 'item', 1)
      await client.received(1)
      jest.spyOn(Date, 'now').mockReturnValue(end)
      await hub.publish('a', 'item', 2)
      await client.over()
      expect([client.data, asked]).toEqual([[1], [1]])
    })

    it('sends no snapshot that is ready only after it', async () => {
      const end = Date.now() + 60_000
      const snapshots: ((snapshot: { data: unknown }) => void)[] = []
      const { hub, connect } = await setUp(() => ({ expiresAt: end, snapshot: () => new Promise((resolve) => snapshots.push(resolve)) }))
      const client = await connect()
      await until(() => snapshots.length === 1, 'the snapshot is requested')
      jest.spyOn(Date, 'now').mockReturnValue(end)
      snapshots[0]?.({ data: 'secret' })
      await client.over()
      expect(client.events.map(({ event }) => event)).toEqual(['stream-end'])
      expectTurnedAway(client)
      expect(hub.stats().subscribers).toBe(0)
    })
  })

  describe('that ends while its socket is full', () => {
    it('delivers what the socket has, nothing more, and the rest after a reconnect', async () => {
      fake('Date', 'setInterval', 'clearInterval')
      const expiresAt = Date.now() + 5_000
      let isExpiring = true
      const all = await setUp(() => (isExpiring ? { expiresAt } : {}))
      const { hub, live } = all
      const client = await live()
      const written = await stall(all, client)
      jest.advanceTimersByTime(6_000)
      expect(hub.stats().subscribers).toBe(0)
      void hub.publish('a', 'item', '41')
      client.resume()
      await client.over()
      expect(numbers(client)).toEqual(range(1, written))
      expectTurnedAway(client)
      isExpiring = false
      const back = await live('', client.lastId)
      expect(numbers(back)).toEqual(range(written + 1, 41))
      expect(back.named('stream-reset')).toEqual([])
    })

    it('delivers nothing more to a client that reads again before the timer has fired', async () => {
      const end = Date.now() + 60_000
      const all = await setUp(() => ({ expiresAt: end }))
      fake('setInterval', 'clearInterval')
      const client = await all.live()
      const written = await stall(all, client)
      jest.spyOn(Date, 'now').mockReturnValue(end)
      client.resume()
      await client.over()
      expect(numbers(client)).toEqual(range(1, written))
      expectTurnedAway(client)
    })

    it('ends a stream that is being closed for good, too, so that the client can reconnect for the rest', async () => {
      const end = Date.now() + 60_000
      const all = await setUp(() => ({ expiresAt: end }))
      const client = await all.live()
      const written = await stall(all, client)
      all.responses[0]?.sse.close({ reconnect: false })
      jest.spyOn(Date, 'now').mockReturnValue(end)
      client.resume()
      await client.over()
      expect(numbers(client)).toEqual(range(1, written))
      expect(client.named('stream-close')).toEqual([])
      expectTurnedAway(client)
    })
  })
})

describe('the owner of a subscription', () => {
  it.each<[string, unknown]>([
    ['empty', ''],
    ['a number', 7],
    ['null', null],
  ])('is rejected before anything is sent: %s', async (_what, owner) => {
    const hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    app.get('/', async (_req, res) => {
      const error: unknown = await res.sse.subscribe(hub, ['a'], { owner: owner as string }).catch((reason: unknown) => reason)
      res.json({ isOurs: error instanceof SseError, code: (error as SseError).code })
    })
    await supertest(app).get('/').expect(200, { isOurs: true, code: 'SSE_INVALID_OWNER' })
    expect(hub.stats().subscribers).toBe(0)
  })

  it('may be any well-formed string of up to 256 units', async () => {
    const owner = `${'x'.repeat(252)}\0\n😀`
    const { hub, live } = await setUp(() => ({ owner }))
    await live()
    expect(await hub.disconnect(owner)).toBe(1)
  })
})

describe('hub.disconnect', () => {
  it('ends the streams of an owner and no other, after the events published before, and resolves with their number', async () => {
    const { hub, live } = await setUp(byOwner)
    const gone = [await live('owner=u'), await live('owner=u&channels=a,b')]
    const kept = [await live('owner=v'), await live('owner=U'), await live()]
    void hub.publish('a', 'item', 'before')
    const disconnected = hub.disconnect('u')
    void hub.publish('a', 'item', 'after')
    expect(await disconnected).toBe(2)
    expect(hub.stats().subscribers).toBe(3)
    for (const client of gone) {
      await client.over()
      expect(client.channelEvents.map(({ data }) => data)).toEqual(['before'])
      expectTurnedAway(client)
    }
    for (const client of kept) {
      await client.received(2)
      expect(client.ended).toBe(false)
    }
    expect(await hub.disconnect('u')).toBe(0)
  })

  it('spreads the reconnects of many clients over 1 to 5 s', async () => {
    const { hub, live } = await setUp(byOwner)
    const clients = await Promise.all(range(1, 40).map(() => live('owner=u')))
    expect(await hub.disconnect('u')).toBe(40)
    await Promise.all(clients.map((client) => client.over()))
    for (const client of clients) expectTurnedAway(client)
    const retries = clients.map((client) => client.retries[1] ?? 0)
    expect(new Set(retries).size).toBeGreaterThan(20)
    expect(Math.max(...retries) - Math.min(...retries)).toBeGreaterThan(1_000)
  })

  it('calls a predicate once for every stream, with its owner and channels, and not for events()', async () => {
    const { hub, live } = await setUp(byOwner)
    const iterator = hub.events(['a'])
    await live('owner=u&channels=b,a,b')
    const second = await live('owner=u&channels=c')
    await live()
    const seen: unknown[] = []
    const count = await hub.disconnect((subscriber) => {
      seen.push(subscriber)
      return subscriber.channels.includes('c')
    })
    expect(seen).toEqual([
      { owner: 'u', channels: ['b', 'a'] },
      { owner: 'u', channels: ['c'] },
      { owner: undefined, channels: ['a'] },
    ])
    expect(count).toBe(1)
    await second.over()
    expect(hub.stats().subscribers).toBe(2)
    await iterator.return?.()
  })

  it('ends every stream for a predicate that is always true, also those without an owner', async () => {
    const { hub, live } = await setUp(byOwner)
    const clients = [await live('owner=u'), await live(), await live()]
    expect(await hub.disconnect(() => true)).toBe(3)
    for (const client of clients) {
      await client.over()
      expectTurnedAway(client)
    }
    expect(hub.stats().subscribers).toBe(0)
  })

  it('resolves with 0 if no stream matches', async () => {
    const { hub, live } = await setUp(byOwner)
    expect([await hub.disconnect('u'), await hub.disconnect(() => true)]).toEqual([0, 0])
    const client = await live('owner=u')
    expect([await hub.disconnect('v'), await hub.disconnect(() => false)]).toEqual([0, 0])
    await hub.publish('a', 'item', 1)
    await client.received(1)
    client.leave()
    await until(() => hub.stats().subscribers === 0, 'the client has left')
    expect([await hub.disconnect('u'), await hub.disconnect(() => true)]).toEqual([0, 0])
  })

  it('does not count a stream whose subscription is closed already', async () => {
    const { hub, live, responses, subscriptions } = await setUp(byOwner)
    const client = await live('owner=u')
    subscriptions[0]?.close()
    expect([await hub.disconnect('u'), await hub.disconnect(() => true)]).toEqual([0, 0])
    expect(await responses[0]?.sse.send('direct')).toBe(true)
    await client.received(1)
    expect(client.channelEvents[0]?.data).toBe('direct')
  })

  describe('with a predicate that', () => {
    const thrown = new Error('no')

    it.each<[string, () => unknown, unknown]>([
      [
        'throws',
        () => {
          throw thrown
        },
        thrown,
      ],
      [
        'returns a promise',
        async () => true,
        expect.objectContaining({ name: 'TypeError', message: expect.stringContaining('must return a boolean') as string }),
      ],
      [
        'returns nothing',
        () => undefined,
        expect.objectContaining({ name: 'TypeError', message: expect.stringContaining('undefined') as string }),
      ],
      ['returns 1', () => 1, expect.objectContaining({ name: 'TypeError', message: expect.stringContaining('1') as string })],
    ])('%s, rejects and ends no stream, not even those it returned true for', async (_what, last, error) => {
      const { hub, live } = await setUp(byOwner)
      const clients = [await live('owner=u'), await live('owner=v'), await live('owner=w')]
      await expect(hub.disconnect(({ owner }) => (owner === 'w' ? (last() as boolean) : true))).rejects.toEqual(error)
      expect(hub.stats().subscribers).toBe(3)
      await hub.publish('a', 'item', 1)
      for (const client of clients) {
        await client.received(1)
        expect(client.ended).toBe(false)
      }
    })
  })

  it.each<[string, unknown]>([
    ['an empty owner', ''],
    ['a number', 7],
    ['undefined', undefined],
    ['null', null],
    ['an object', { owner: 'u' }],
  ])('rejects %s, and ends no stream', async (_what, owner) => {
    const { hub, live } = await setUp(byOwner)
    await live()
    const error: unknown = await hub.disconnect(owner as string).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SseError)
    expect(error).toMatchObject({ code: 'SSE_INVALID_OWNER', message: expect.stringContaining('disconnect') as string })
    expect(hub.stats().subscribers).toBe(1)
  })

  it('lets a client resume after its reconnect', async () => {
    const { hub, live } = await setUp(byOwner)
    const client = await live('owner=u')
    await hub.publish('a', 'item', 1)
    await hub.disconnect('u')
    for (const n of [2, 3]) await hub.publish('a', 'item', n)
    await client.over()
    const back = await live('owner=u', client.lastId)
    expect([client.data, back.data]).toEqual([[1], [2, 3]])
    expect(back.named('stream-reset')).toEqual([])
  })

  it('delivers nothing more to a client whose socket is full, which resumes from there', async () => {
    const all = await setUp(byOwner)
    const client = await all.live('owner=u')
    const written = await stall(all, client)
    expect(await all.hub.disconnect('u')).toBe(1)
    // The connection is still open, but the subscription has ended.
    expect([await all.hub.disconnect('u'), await all.hub.disconnect(() => true)]).toEqual([0, 0])
    client.resume()
    await client.over()
    expect(numbers(client)).toEqual(range(1, written))
    expectTurnedAway(client)
    expect(numbers(await all.live('owner=u', client.lastId))).toEqual(range(written + 1, 40))
  })

  it('ends a stream that waits for its snapshot, without sending it', async () => {
    const snapshots: ((snapshot: { data: unknown }) => void)[] = []
    const { hub, connect } = await setUp(() => ({ owner: 'u', snapshot: () => new Promise((resolve) => snapshots.push(resolve)) }))
    const client = await connect()
    await until(() => snapshots.length === 1, 'the snapshot is requested')
    expect(await hub.disconnect('u')).toBe(1)
    snapshots[0]?.({ data: 'state' })
    await client.over()
    expect(client.events.map(({ event }) => event)).toEqual(['stream-end'])
    expectTurnedAway(client)
  })

  it('makes an EventSource reconnect and authenticate again, after which it resumes or is refused for good', async () => {
    const hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    const banned = new Set<unknown>()
    let requests = 0
    app.get('/', (req, res) => {
      requests++
      if (banned.has(req.query['owner'])) res.sendStatus(401)
      else return res.sse.subscribe(hub, ['a'], byOwner(req))
      return undefined
    })
    const { url } = await serve(app)
    const received: Record<string, string[]> = { u: [], v: [] }
    const open = (owner: string): EventSource => {
      const source = new EventSource(`${url}/?owner=${owner}`)
      sources.push(source)
      source.addEventListener('item', ({ data }) => received[owner]?.push(data as string))
      return source
    }
    const [u, v] = [open('u'), open('v')]
    await until(() => hub.stats().subscribers === 2, 'both are subscribed')
    await hub.publish('a', 'item', '1')
    await until(() => received['u']?.length === 1 && received['v']?.length === 1, 'both have the first event')
    // EventSource waits with setTimeout. The fake clock runs, and is advanced by the 5 s of a disconnect.
    jest.useFakeTimers({ advanceTimers: true, doNotFake: TIMERS.filter((name) => !name.endsWith('Timeout')) })
    banned.add('v')
    const ended = [once(u, 'error'), once(v, 'error')]
    expect(await hub.disconnect(() => true)).toBe(2)
    await hub.publish('a', 'item', '2')
    await Promise.all(ended)
    expect([u.readyState, v.readyState]).toEqual([EventSource.CONNECTING, EventSource.CONNECTING])
    jest.advanceTimersByTime(5_000)
    await until(() => received['u']?.length === 2, 'the client has resumed')
    await until(() => v.readyState === EventSource.CLOSED, 'the other client does not reconnect')
    expect([received, requests]).toEqual([{ u: ['1', '2'], v: ['1'] }, 4])
  })
})
