import { once } from 'node:events'
import net from 'node:net'
import { EventSource } from 'eventsource'
import * as fc from 'fast-check'
import express, { type Request, type Response } from 'express'
import { Hub, type HubOptions, SseError, sseMiddleware, type SseStream, type Subscription } from 'express-sse-hub'
import supertest from 'supertest'
import { TestClient, until } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { randomFrom } from '../support/random.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'
import { anyNumber, pick, stepsOf } from '../support/histories.ts'

const sources: EventSource[] = []
const sockets: net.Socket[] = []
afterEach(async () => {
  for (const source of sources.splice(0)) source.close()
  for (const socket of sockets.splice(0)) socket.destroy()
  await stopServers()
})

/** Everything that a client receives if it is refused at a limit. */
const REFUSED = /^retry: (\d{5})\nevent: stream-end\ndata: \{"reason":"limit"\}\n\n$/

/** The timers that stay real: all but setTimeout, with which an EventSource waits. */
const REAL = [
  'Date',
  'setImmediate',
  'clearImmediate',
  'nextTick',
  'queueMicrotask',
  'performance',
  'hrtime',
  'setInterval',
  'clearInterval',
] as const

describe('the limits of Hub', () => {
  it.each<[string, unknown, string, RegExp]>([
    ['maxSubscribers: 0', { maxSubscribers: 0 }, 'RangeError', /maxSubscribers.*got 0/],
    ['maxSubscribers: -1', { maxSubscribers: -1 }, 'RangeError', /maxSubscribers.*got -1/],
    ['maxSubscribers: 1.5', { maxSubscribers: 1.5 }, 'RangeError', /maxSubscribers.*got 1\.5/],
    ['maxSubscribers: Infinity', { maxSubscribers: Infinity }, 'RangeError', /maxSubscribers.*got Infinity/],
    ['maxSubscribers: NaN', { maxSubscribers: NaN }, 'RangeError', /maxSubscribers.*got NaN/],
    ['maxSubscribers: "5"', { maxSubscribers: '5' }, 'TypeError', /maxSubscribers.*got '5'/],
    ['maxSubscribers: true', { maxSubscribers: true }, 'TypeError', /maxSubscribers.*got true/],
    ['maxSubscribers: null', { maxSubscribers: null }, 'TypeError', /maxSubscribers.*got null/],
    ['maxSubscribersPerOwner: 0', { maxSubscribersPerOwner: 0 }, 'RangeError', /maxSubscribersPerOwner.*got 0/],
    ['maxSubscribersPerOwner: "5"', { maxSubscribersPerOwner: '5' }, 'TypeError', /maxSubscribersPerOwner.*got '5'/],
    ['maxSubscribersPerkey', { maxSubscribersPerkey: 5 }, 'TypeError', /'maxSubscribersPerkey'/],
  ])('are checked by the constructor: %s', (_what, options, name, message) => {
    const make = () => new Hub(options as HubOptions)
    expect(make).toThrow(expect.objectContaining({ name, message: expect.stringMatching(message) as string }) as Error)
  })
})

describe.each(EXPRESS_VERSIONS)('a hub with limits on %s', (_name, factory) => {
  /** Serves an app whose clients subscribe at once, or at `/open` after a direct send has opened the stream. */
  async function setUp(options: HubOptions, handleErrors?: (error: SseError, req: Request, res: Response, next: unknown) => void) {
    const hub = new Hub(options)
    const app = factory()
    app.use(sseMiddleware())
    const streams: SseStream[] = []
    const responses: Response[] = []
    const subscriptions: Subscription[] = []
    app.all(['/', '/open'], async (req, res) => {
      responses.push(res)
      streams.push(res.sse)
      if (req.path === '/open') await res.sse.send('hello', { event: 'hello' })
      const { owner } = req.query
      subscriptions.push(await res.sse.subscribe(hub, ['a'], typeof owner === 'string' ? { owner } : {}))
    })
    if (handleErrors !== undefined) app.use(handleErrors)
    const { url, port } = await serve(app)
    const connect = (owner?: string, path = '/'): Promise<TestClient> =>
      TestClient.open(`${url}${path}${owner === undefined ? '' : `?owner=${owner}`}`)
    const live = async (owner?: string): Promise<TestClient> => (await connect(owner)).live()
    /** Connects a client that is refused. Resolves with its retry in ms. */
    const refused = async (owner?: string): Promise<number> => {
      const client = await connect(owner)
      await client.over()
      expect([client.status, client.response.headers['content-type']]).toEqual([200, 'text/event-stream; charset=utf-8'])
      expect(client.text).toMatch(REFUSED)
      return Number(REFUSED.exec(client.text)?.[1])
    }
    const count = (subscribers: number): Promise<void> =>
      until(() => hub.stats().subscribers === subscribers, `${subscribers} are subscribed`)
    return { hub, url, port, responses, streams, subscriptions, connect, live, refused, count }
  }

  it('answers a client past the limit with a random retry of 10 to 30 s and the end, and ends no other stream', async () => {
    const { hub, live, refused, subscriptions } = await setUp({ maxSubscribers: 3 })
    const clients = await Promise.all([live(), live('u'), live('v')])
    const retries: number[] = []
    for (let n = 0; n < 30; n++) retries.push(await refused(n % 2 === 0 ? undefined : 'u'))
    expect(Math.min(...retries)).toBeGreaterThanOrEqual(10_000)
    expect(Math.max(...retries)).toBeLessThanOrEqual(30_000)
    expect(new Set(retries).size).toBeGreaterThan(20)
    expect(Math.max(...retries) - Math.min(...retries)).toBeGreaterThan(5_000)
    expect(subscriptions.map(({ isClosed }) => isClosed)).toEqual([...Array<boolean>(3).fill(false), ...Array<boolean>(30).fill(true)])
    expect(hub.stats()).toMatchObject({ subscribers: 3, refusals: 30 })
    await hub.publish('a', 'item', 'still here')
    for (const client of clients) {
      await client.received(1)
      expect(client.ended).toBe(false)
    }
  })

  it('sends a retry of at least 10,000 ms and at most 30,000 ms', async () => {
    const { live, refused } = await setUp({ maxSubscribers: 1 })
    await live()
    const random = jest.spyOn(Math, 'random')
    try {
      random.mockReturnValue(0)
      expect(await refused()).toBe(10_000)
      random.mockReturnValue(1 - Number.EPSILON)
      expect(await refused()).toBe(30_000)
    } finally {
      random.mockRestore()
    }
  })

  it('counts the streams of each owner separately, and none without an owner', async () => {
    const { hub, live, refused } = await setUp({ maxSubscribersPerOwner: 2 })
    const first = await live('u')
    await live('u')
    await refused('u')
    await Promise.all([live('v'), live('v'), live(), live(), live()])
    await refused('v')
    expect(hub.stats()).toMatchObject({ subscribers: 7, refusals: 2 })
    first.leave()
    await until(() => hub.stats().subscribers === 6, 'it left')
    await live('u')
    await refused('u')
  })

  it.each<[string, HubOptions]>([
    ['by default', {}],
    ['with false', { maxSubscribers: false, maxSubscribersPerOwner: false }],
  ])('is without limits %s', async (_what, options) => {
    const { hub, live } = await setUp(options)
    await Promise.all(Array.from({ length: 60 }, () => live('u')))
    expect(hub.stats()).toMatchObject({ subscribers: 60, refusals: 0 })
  })

  it('applies both limits', async () => {
    const { live, refused, hub } = await setUp({ maxSubscribers: 3, maxSubscribersPerOwner: 2 })
    await Promise.all([live('u'), live('u')])
    await refused('u')
    await live('v')
    await refused('w')
    await refused()
    expect(hub.stats()).toMatchObject({ subscribers: 3, refusals: 3 })
  })

  it('refuses a stream that is open already, after its direct sends', async () => {
    const { hub, connect, live, streams, subscriptions } = await setUp({ maxSubscribers: 1 })
    await live()
    const client = await connect(undefined, '/open')
    await client.over()
    expect(client.text).toMatch(
      /^retry: 2000\nevent: hello\ndata: hello\n\nretry: [123]\d{4}\nevent: stream-end\ndata: \{"reason":"limit"\}\n\n$/,
    )
    expect([subscriptions[1]?.isClosed, streams[1]?.state, await streams[1]?.send('late')]).toEqual([true, 'closed', false])
    subscriptions[1]?.close()
    await expect(streams[1]?.subscribe(hub, ['a'])).rejects.toMatchObject({ code: 'SSE_ALREADY_SUBSCRIBED' })
    expect(hub.stats().subscribers).toBe(1)
  })

  it('answers HEAD as usual, and counts no refusal', async () => {
    const { hub, url, live } = await setUp({ maxSubscribers: 1 })
    await live()
    const answer = await supertest(url).head('/').set('Accept', 'text/event-stream').expect(200)
    expect(answer.headers).toMatchObject({ 'content-type': 'text/event-stream; charset=utf-8' })
    expect(hub.stats()).toMatchObject({ subscribers: 1, refusals: 0 })
  })

  describe('for a client that does not accept event streams', () => {
    it.each<[string, HubOptions, string]>([
      ['maxSubscribers', { maxSubscribers: 1 }, 'maxSubscribers'],
      ['maxSubscribersPerOwner', { maxSubscribersPerOwner: 1 }, 'maxSubscribersPerOwner'],
    ])('answers 503 and Retry-After at %s, through the error handling of Express', async (_what, options, text) => {
      const { url, live, hub, streams, subscriptions } = await setUp(options)
      await live('u')
      const answer = await supertest(url).get('/?owner=u').set('Accept', 'application/json').expect(503)
      expect(answer.headers['retry-after']).toMatch(/^(1\d|2\d|30)$/)
      expect(answer.headers['content-type']).toMatch(/text\/html/)
      expect(answer.text).toContain(text)
      expect([subscriptions[1]?.isClosed, streams[1]?.state]).toEqual([true, 'closed'])
      expect(hub.stats()).toMatchObject({ subscribers: 1, refusals: 1 })
    })

    it('passes one error with status and Retry-After to the error handler of the app', async () => {
      const errors: SseError[] = []
      const { url, live } = await setUp({ maxSubscribers: 1 }, (error, _req, res, _next) => {
        errors.push(error)
        res.status(error.status).json({ code: error.code })
      })
      await live()
      const answer = await supertest(url).get('/').set('Accept', 'application/json').expect(503, { code: 'SSE_LIMIT_REACHED' })
      expect(answer.headers['retry-after']).toMatch(/^(1\d|2\d|30)$/)
      expect(errors).toHaveLength(1)
      expect(errors[0]).toBeInstanceOf(SseError)
      expect(errors[0]).toMatchObject({ status: 503, headers: { 'Retry-After': answer.headers['retry-after'] } })
    })

    it('answers 406 if there is room', async () => {
      const { url, live } = await setUp({ maxSubscribers: 2 })
      await live()
      const answer = await supertest(url).get('/').set('Accept', 'application/json').expect(406)
      expect(answer.headers).not.toHaveProperty('retry-after')
    })
  })

  describe('has room again', () => {
    const limits: HubOptions = { maxSubscribers: 2, maxSubscribersPerOwner: 1 }

    it.each<[string, (all: Awaited<ReturnType<typeof setUp>>, client: TestClient) => unknown]>([
      ['the client has left', (_all, client) => client.leave()],
      ['the stream is closed', ({ streams }) => streams[0]?.close()],
      ['the stream is closed for good', ({ streams }) => streams[0]?.close({ reconnect: false })],
      ['the subscription is closed, though its stream stays open', ({ subscriptions }) => subscriptions[0]?.close()],
      ['it was disconnected', ({ hub }) => hub.disconnect('u')],
    ])('when %s', async (_what, end) => {
      const all = await setUp(limits)
      const { live, refused, count, hub } = all
      const client = await live('u')
      await live('v')
      await Promise.all([refused('u'), refused('w')])
      await end(all, client)
      await count(1)
      await refused('v')
      await live('u')
      await refused('u')
      expect(hub.stats().subscribers).toBe(2)
    })

    it('when the client has ended only its side of the connection', async () => {
      const { hub, port, refused, live, count } = await setUp(limits)
      const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
      sockets.push(socket)
      let text = ''
      socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      socket.write('GET /?owner=u HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n')
      await until(() => text.includes('stream-open'), 'the client is live')
      await refused('u')
      socket.end()
      await count(0)
      await live('u')
      expect(hub.stats()).toMatchObject({ subscribers: 1, refusals: 1 })
    })

    it('when the client has left in the middle of a large event', async () => {
      const { hub, refused, live, count } = await setUp(limits)
      const client = await live('u')
      await refused('u')
      client.response.on('data', () => {
        if (client.text.length > 100_000) client.leave()
      })
      void hub.publish('a', 'item', 'x'.repeat(8_000_000))
      await count(0)
      expect([client.text.length < 8_000_000, client.channelEvents]).toEqual([true, []])
      await live('u')
      expect(hub.stats()).toMatchObject({ subscribers: 1, refusals: 1 })
    })

    it('when a stream was ended, although its client takes nothing and stays connected', async () => {
      const { hub, live, refused, responses } = await setUp(limits)
      const client = await live('u')
      client.pause()
      for (let n = 0; n < 40; n++) {
        void hub.publish('a', 'item', 'x'.repeat(400_000))
        await turn()
      }
      await until(() => (responses[0]?.socket?.writableLength ?? 0) > 0, 'the socket is full')
      await Promise.all([live('v'), refused('u')])
      expect(await hub.disconnect('u')).toBe(1)
      await live('u')
      await refused('w')
      expect([hub.stats().subscribers, client.ended]).toEqual([2, false])
    })

    it('for as many streams as have left, whichever connection of an owner it was', async () => {
      const { hub, live, refused, count } = await setUp({ maxSubscribersPerOwner: 2 })
      const older = await live('u')
      const newer = await live('u')
      newer.leave()
      await count(1)
      await live('u')
      await refused('u')
      older.leave()
      await count(1)
      await live('u')
      await refused('u')
      expect(hub.stats()).toMatchObject({ subscribers: 2, refusals: 2 })
    })
  })

  it('does not count events()', async () => {
    const { hub, live, refused } = await setUp({ maxSubscribers: 1 })
    const iterators = [1, 2, 3].map(() => hub.events(['a']))
    const client = await live()
    await refused()
    expect([hub.stats().subscribers, hub.channel('a').subscriberCount]).toEqual([1, 4])
    const more = hub.events(['a'])
    await hub.publish('a', 'item', 1)
    for (const iterator of [...iterators, more]) {
      expect(await iterator.next()).toMatchObject({ done: false, value: { data: 1 } })
      await iterator.return?.()
    }
    await client.received(1)
  })

  it('lets a refused EventSource reconnect by itself, until there is room', async () => {
    const { url, live, streams, subscriptions, hub } = await setUp({ maxSubscribers: 1 })
    const first = await live()
    // EventSource waits with setTimeout. The fake clock runs, and is advanced by the 30 s of a refusal.
    jest.useFakeTimers({ advanceTimers: true, doNotFake: [...REAL] })
    try {
      const source = new EventSource(url)
      sources.push(source)
      const received: string[] = []
      source.addEventListener('item', ({ data }) => received.push(data as string))
      for (const attempts of [1, 2]) {
        await once(source, 'error')
        expect([source.readyState, subscriptions.length]).toEqual([EventSource.CONNECTING, 1 + attempts])
        jest.advanceTimersByTime(5_000)
        for (let n = 0; n < 20; n++) await turn()
        expect(streams).toHaveLength(1 + attempts)
        if (attempts === 2) {
          first.leave()
          await until(() => hub.stats().subscribers === 0, 'the first client has left')
        }
        jest.advanceTimersByTime(25_000)
      }
      await until(() => hub.stats().subscribers === 1, 'the EventSource is subscribed')
      await hub.publish('a', 'item', 'here')
      await until(() => received.length === 1, 'the event has arrived')
      expect([received, source.readyState]).toEqual([['here'], EventSource.OPEN])
    } finally {
      jest.useRealTimers()
    }
  })
})

interface Departure {
  readonly which: number
  readonly how: 'leaves' | 'closed' | 'closedForGood' | 'unsubscribed' | 'disconnected'
}

/** One step of a history: an arrival, also if no client is present, or a departure. */
interface Step {
  readonly isArrival: boolean
  readonly owner: string | undefined
  readonly departure: Departure
}

const step: fc.Arbitrary<Step> = fc.record({
  isArrival: fc.nat(9).map((n) => n < 6),
  owner: fc.constantFrom('u', 'v', 'w', undefined),
  departure: fc.record({
    which: anyNumber,
    how: fc.constantFrom(
      'leaves',
      'leaves',
      'leaves',
      'leaves',
      'closed',
      'closedForGood',
      'unsubscribed',
      'unsubscribed',
      'disconnected',
      'disconnected',
    ),
  }),
})

describe('the counts of a hub', () => {
  const MAX = 6
  const MAX_PER_OWNER = 2

  async function setUp() {
    const hub = new Hub({ maxSubscribers: MAX, maxSubscribersPerOwner: MAX_PER_OWNER })
    const app = express()
    app.use(sseMiddleware())
    const ends = new Map<string, { stream: SseStream; subscription: Subscription }>()
    app.get('/:id', async (req, res) => {
      const { id } = req.params
      const { owner } = req.query
      const subscription = await res.sse.subscribe(hub, [`c${Number(id) % 3}`, 'all'], typeof owner === 'string' ? { owner } : {})
      ends.set(id, { stream: res.sse, subscription })
    })
    const { url } = await serve(app)
    return {
      hub,
      ends,
      connect: (id: number, owner?: string) => TestClient.open(`${url}/${id}${owner === undefined ? '' : `?owner=${owner}`}`),
    }
  }

  /** Plays a history of clients, and checks the counts after each step. Returns the number of refusals. */
  async function play(steps: readonly Step[]): Promise<number> {
    const { hub, ends, connect } = await setUp()
    const present = new Map<number, { client: TestClient; owner: string | undefined }>()
    let refusals = 0

    /** Resolves with whether the new client was refused, and whether it should be. */
    const arrive = async (id: number, owner: string | undefined): Promise<[boolean, boolean]> => {
      const same = [...present.values()].filter((other) => other.owner === owner).length
      const shouldBe = present.size >= MAX || (owner !== undefined && same >= MAX_PER_OWNER)
      const client = await connect(id, owner)
      await until(() => client.ended || client.named('stream-open').length > 0, 'the client is refused or live')
      if (shouldBe) refusals++
      else present.set(id, { client, owner })
      return [REFUSED.test(client.text), shouldBe]
    }

    /** Resolves with the number of streams that were disconnected, and the number that should be. */
    const depart = async ({ which, how }: Departure): Promise<[number, number]> => {
      const [id, { client, owner }] = pick([...present], which)
      const { stream, subscription } = ends.get(String(id)) as { stream: SseStream; subscription: Subscription }
      const alike = how === 'disconnected' ? [...present].filter(([other, its]) => its.owner === owner && other % 3 === id % 3) : []
      let disconnected = 0
      if (how === 'leaves') client.leave()
      else if (how === 'closed') stream.close()
      else if (how === 'closedForGood') stream.close({ reconnect: false })
      else if (how === 'unsubscribed') subscription.close()
      else disconnected = await hub.disconnect((other) => other.owner === owner && other.channels[0] === `c${id % 3}`)
      for (const [gone] of [[id], ...alike] as const) present.delete(gone)
      await until(() => subscription.isClosed, 'the subscription has ended')
      return [disconnected, alike.length]
    }

    for (const [n, { isArrival, owner, departure }] of steps.entries()) {
      const [was, shouldBe] = present.size === 0 || isArrival ? await arrive(n, owner) : await depart(departure)
      expect([n, was, hub.stats().subscribers, hub.stats().refusals]).toEqual([n, shouldBe, present.size, refusals])
      expect(hub.channel('all').subscriberCount).toBe(present.size)
    }
    for (const { client } of present.values()) client.leave()
    return refusals
  }

  it('are right after each of some 750 random arrivals and departures', async () => {
    const totals = { steps: 0, refusals: 0 }
    const playOne = async (steps: readonly Step[]): Promise<void> => {
      totals.refusals += await play(steps)
      totals.steps += steps.length
    }
    // The histories use real connections. Shrinking is limited, so that a failure is reported before the test times out.
    const isRight = fc.asyncProperty(fc.limitShrink(stepsOf(step, 250), 50), playOne)
    await fc.assert(isRight, { seed: 1, numRuns: 3, plugins: [fc.unbiased()] })
    expect(totals.steps).toBeGreaterThan(700)
    expect(totals.refusals).toBeGreaterThan(30)
  })

  it('return to zero after a storm of simultaneous connects and leaves, with room for as many streams as before', async () => {
    const random = randomFrom(7)
    const { hub, connect } = await setUp()
    let most = 0
    const visits = Array.from({ length: 200 }, async (_, id) => {
      for (let turns = Math.floor(random() * 40); turns > 0; turns--) await turn()
      const client = await connect(id, `u${id % 5}`).catch(() => null)
      for (let turns = Math.floor(random() * 40); turns > 0; turns--) await turn()
      most = Math.max(most, hub.stats().subscribers)
      client?.leave()
    })
    await Promise.all(visits)
    await until(() => hub.stats().subscribers === 0, 'every client has left')
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(MAX)
    const again = await Promise.all(['u0', 'u0', 'u1', 'u1', 'u2', 'u2'].map(async (owner, n) => (await connect(1_000 + n, owner)).live()))
    expect([again.length, hub.stats().subscribers]).toEqual([MAX, MAX])
  })
})
