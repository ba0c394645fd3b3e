import http from 'node:http'
import type { Request, Response } from 'express'
import {
  type AnyChannels,
  type HandlerOptions,
  type HandlerRequest,
  Hub,
  type HubOptions,
  SseError,
  sseMiddleware,
  type SseMiddlewareOptions,
  type SubscribeOptions,
} from 'express-sse-hub'
import supertest from 'supertest'
import { TestClient, until } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { connectionsLeft, serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

type Options = HandlerOptions<AnyChannels>

const userOf = (req: HandlerRequest): string => String(req.headers['x-user'])
const openOf = (client: TestClient): unknown => JSON.parse(client.named('stream-open')[0]?.data ?? 'null')
const allow = (): boolean => true

/** The whole body that a client receives if a callback fails: it must reconnect later. */
const REFUSED = /^retry: (\d{5})\nevent: stream-end\ndata: \{"reason":"unavailable"\}\n\n$/

describe('hub.handler', () => {
  it.each<[string, unknown, string, RegExp]>([
    ['no options', undefined, 'TypeError', /options must be an object, got undefined/],
    ['a list instead of an object', ['a'], 'TypeError', /options must be an object/],
    ['neither channels nor authorize', {}, 'TypeError', /without channels the client names them, so authorize\(req, channel\)/],
    ['client-named channels without authorize', { maxChannels: 5, subscribe: { rewind: 1 } }, 'TypeError', /authorize\(req, channel\)/],
    ['an authorize that is undefined', { authorize: undefined }, 'TypeError', /authorize\(req, channel\)/],
    ['an authorize that is not a function', { authorize: true }, 'TypeError', /authorize must be a function, got true/],
    ['an unknown option', { channels: ['a'], authorise: allow }, 'TypeError', /handler.*'authorise'.*authorize/],
    ['channels that are null', { channels: null, authorize: allow }, 'SseError', /handler: a channel name must be.*null/],
    ['no channel', { channels: [] }, 'RangeError', /at least one channel/],
    ['an empty name', { channels: ['a', ''] }, 'SseError', /channel name.*''/],
    ['a name of 257 units', { channels: ['x'.repeat(257)] }, 'SseError', /channel name/],
    ['a name with a lone surrogate', { channels: ['a\ud800'] }, 'SseError', /channel name.*d800/],
    ['maxChannels: 0', { authorize: allow, maxChannels: 0 }, 'RangeError', /maxChannels.*got 0/],
    ['maxChannels: 1.5', { authorize: allow, maxChannels: 1.5 }, 'RangeError', /maxChannels.*got 1\.5/],
    ['maxChannels: "5"', { authorize: allow, maxChannels: '5' }, 'TypeError', /maxChannels.*got '5'/],
    ['maxChannels: false', { authorize: allow, maxChannels: false }, 'TypeError', /maxChannels.*got false/],
    ['subscribe: 5', { channels: ['a'], subscribe: 5 }, 'TypeError', /subscribe: options must be an object, got 5/],
    ['an unknown option of subscribe', { channels: ['a'], subscribe: { rewnid: 1 } }, 'TypeError', /subscribe.*'rewnid'/],
    ['subscribe.rewind: -1', { channels: ['a'], subscribe: { rewind: -1 } }, 'RangeError', /rewind.*-1/],
    ['subscribe.filter: "x"', { channels: ['a'], subscribe: { filter: 'x' } }, 'TypeError', /filter.*'x'/],
    ['subscribe.owner: ""', { channels: ['a'], subscribe: { owner: '' } }, 'SseError', /owner.*''/],
    ['subscribe.expiresAt: NaN', { channels: ['a'], subscribe: { expiresAt: NaN } }, 'RangeError', /expiresAt.*NaN/],
    ['subscribe.snapshot: {}', { channels: ['a'], subscribe: { snapshot: {} } }, 'TypeError', /snapshot.*\{\}/],
    [
      'a snapshot and a rewind',
      { channels: ['a'], subscribe: { snapshot: () => ({ data: 1 }), rewind: 1 } },
      'RangeError',
      /rewind and snapshot/,
    ],
  ])('throws when the route is made with %s', (_what, options, name, message) => {
    const make = () => new Hub().handler(options as Options)
    expect(make).toThrow(expect.objectContaining({ name, message: expect.stringMatching(message) as string }) as Error)
  })
})

describe.each(EXPRESS_VERSIONS)('hub.handler on %s', (_name, express) => {
  interface SetUp {
    readonly hubOptions?: HubOptions
    /** `false` mounts no middleware. */
    readonly middleware?: SseMiddlewareOptions | false
    /** Leaves errors to the default error handler of Express. */
    readonly defaultErrors?: boolean
  }

  /** Serves an app with the route `/events`. Its error handler collects each error, and answers with the code alone. */
  async function setUp(options: Options, { hubOptions = {}, middleware = {}, defaultErrors = false }: SetUp = {}) {
    const faults: [where: string, error: unknown][] = []
    const hub = new Hub({ onError: (error, { where }) => faults.push([where, error]), ...hubOptions })
    const app = express()
    const errors: unknown[] = []
    if (middleware !== false) app.use(sseMiddleware(middleware))
    app.get('/events', hub.handler(options))
    app.use((_req, res) => {
      errors.push('the route passed the request on')
      res.end()
    })
    if (!defaultErrors) {
      app.use((error: SseError, _req: Request, res: Response, _next: unknown) => {
        errors.push(error)
        res.status(error.status ?? 500).json({ code: error.code ?? error.name })
      })
    }
    const { url, server, port } = await serve(app)
    const connect = (query = '', headers: http.OutgoingHttpHeaders = {}, method = 'GET'): Promise<TestClient> =>
      TestClient.open(`${url}/events${query}`, { headers, method })
    const get = (query: string, headers: Record<string, string> = {}) => supertest(url).get(`/events${query}`).set(headers)
    return { hub, app, errors, faults, url, port, server, connect, get }
  }

  /** Expects a hub without subscribers and channels. */
  const expectNothing = (hub: Hub): void => expect(hub.stats()).toMatchObject({ subscribers: 0, channels: 0 })

  describe.each([
    ['behind sseMiddleware', {}],
    ['without sseMiddleware', false],
  ] as const)('%s', (_what, middleware) => {
    it('subscribes every request once to each channel of a list, in the order of the list', async () => {
      const { hub, connect, errors } = await setUp({ channels: ['b', 'a', 'b'] }, { middleware })
      const clients = await Promise.all([1, 2].map(async () => (await connect()).live()))
      for (const channel of ['a', 'b', 'c']) await hub.publish(channel, 'item', channel)
      await hub.publish('a', 'item', 'last')
      for (const client of clients) {
        await client.received(3)
        expect(openOf(client)).toMatchObject({ channels: ['b', 'a'] })
        expect(client.channelEvents.map(({ data }) => data)).toEqual(['a', 'b', 'last'])
        expect([client.status, client.response.headers['content-type']]).toEqual([200, 'text/event-stream; charset=utf-8'])
      }
      expect(hub.channel('b').subscriberCount).toBe(2)
      expect(errors).toEqual([])
      clients[0]?.leave()
      await until(() => hub.stats().subscribers === 1, 'the client that left is unsubscribed')
    })

    it.each<[string, (req: HandlerRequest) => string[] | Promise<string[]>]>([
      ['a function', (req) => [`user:${userOf(req)}`, 'news', 'news']],
      [
        'an async function',
        async (req) => {
          await turn()
          return [`user:${userOf(req)}`, 'news', 'news']
        },
      ],
    ])('subscribes a request to the channels that %s of the request returns', async (_kind, channels) => {
      const { hub, connect } = await setUp({ channels }, { middleware })
      const one = await (await connect('', { 'x-user': '1' })).live()
      const two = await (await connect('?channel=user:1', { 'x-user': '2' })).live()
      expect([openOf(one), openOf(two)]).toMatchObject([{ channels: ['user:1', 'news'] }, { channels: ['user:2', 'news'] }])
      await hub.publish('user:1', 'item', 'for one')
      await hub.publish('user:2', 'item', 'for two')
      await hub.publish('news', 'item', 'for all')
      await Promise.all([one.received(2), two.received(2)])
      expect([one, two].map((client) => client.channelEvents.map(({ data }) => data))).toEqual([
        ['for one', 'for all'],
        ['for two', 'for all'],
      ])
    })

    it('subscribes a client to the channels that it names if authorize allows them', async () => {
      const asked: string[] = []
      const authorize = async (req: HandlerRequest, channel: string): Promise<boolean> => {
        await turn()
        asked.push(`${userOf(req)} ${channel}`)
        return channel === 'news' || channel === `user:${userOf(req)}/ä&b`
      }
      const { hub, connect } = await setUp({ authorize }, { middleware })
      const client = await (
        await connect(`?channel=news&channel=${encodeURIComponent('user:1/ä&b')}&channel=news&other=x`, { 'x-user': '1' })
      ).live()
      expect(openOf(client)).toMatchObject({ channels: ['news', 'user:1/ä&b'] })
      expect(asked.toSorted()).toEqual(['1 news', '1 user:1/ä&b'])
      await hub.publish('x', 'item', 0)
      await hub.publish('user:1/ä&b', 'item', 1)
      await client.received(1)
      expect(client.data).toEqual([1])
    })

    it('answers 403 through Express, once, to a client that names one forbidden channel, and subscribes it to none', async () => {
      const { hub, connect, errors } = await setUp({ authorize: (_req, channel) => channel !== 'secret' }, { middleware })
      const refused = await connect('?channel=news&channel=secret&channel=more')
      await refused.over()
      expect([refused.status, refused.text]).toEqual([403, '{"code":"SSE_FORBIDDEN"}'])
      expect(errors).toEqual([
        expect.objectContaining({ code: 'SSE_FORBIDDEN', status: 403, message: expect.stringContaining("'secret'") as string }),
      ])
      expect(errors[0]).toBeInstanceOf(SseError)
      expectNothing(hub)
      await (await connect('?channel=news&channel=more')).live()
    })

    it('answers 406 through Express, once, to a client that does not accept event streams', async () => {
      const { hub, connect, get, errors } = await setUp({ channels: ['a'] }, { middleware })
      await get('', { accept: 'application/json' }).expect(406, { code: 'SSE_NOT_ACCEPTABLE' })
      expect(errors).toHaveLength(1)
      expectNothing(hub)
      await (await connect()).live()
    })

    it('answers HEAD with the head alone and without a subscription, but still calls authorize', async () => {
      const { hub, connect } = await setUp({ authorize: (_req, channel) => channel === 'a' }, { middleware })
      const allowed = await connect('?channel=a', {}, 'HEAD')
      const refused = await connect('?channel=b', {}, 'HEAD')
      await Promise.all([allowed.over(), refused.over()])
      expect([allowed.status, allowed.response.headers['content-type'], allowed.text]).toEqual([
        200,
        'text/event-stream; charset=utf-8',
        '',
      ])
      expect([refused.status, refused.text]).toEqual([403, ''])
      expectNothing(hub)
    })

    describe.each<[where: string, how: string, options: (mayFail: <T>(value: T) => T) => Options]>([
      ['channels', 'throws', (mayFail) => ({ channels: () => mayFail(['a', 'b']) })],
      ['channels', 'rejects', (mayFail) => ({ channels: async () => mayFail(['a', 'b']) })],
      ['authorize', 'throws', (mayFail) => ({ channels: ['a', 'b'], authorize: (_req, channel) => channel === 'a' || mayFail(true) })],
      [
        'authorize',
        'rejects',
        (mayFail) => ({ channels: ['a', 'b'], authorize: async (_req, channel) => channel === 'a' || mayFail(true) }),
      ],
      ['authorize', 'rejects for all', (mayFail) => ({ channels: ['a', 'b'], authorize: async () => mayFail(true) })],
      ['subscribe', 'throws', (mayFail) => ({ channels: ['a', 'b'], subscribe: () => mayFail({}) })],
      ['subscribe', 'rejects', (mayFail) => ({ channels: ['a', 'b'], subscribe: async () => mayFail({}) })],
    ])('if %s %s', (where, _how, optionsFor) => {
      const secret = new Error('the secret of the database')
      let isBroken = true
      beforeEach(() => (isBroken = true))
      const mayFail = <T>(value: T): T => {
        if (isBroken) throw secret
        return value
      }

      it('calls onError, and sends an event-stream client only a retry of 10 to 30 s and stream-end', async () => {
        const { hub, connect, errors, faults } = await setUp(optionsFor(mayFail), { middleware })
        const client = await connect()
        await client.over()
        expect([client.status, client.response.headers['content-type']]).toEqual([200, 'text/event-stream; charset=utf-8'])
        const [, retry] = REFUSED.exec(client.text) ?? []
        expect(Number(retry)).toBeGreaterThanOrEqual(10_000)
        expect(Number(retry)).toBeLessThanOrEqual(30_000)
        expect(faults).toEqual([[where, secret]])
        expect(errors).toEqual([])
        expectNothing(hub)
        expect(hub.stats().refusals).toBe(1)
      })

      it('answers other clients 503 with Retry-After and without the error message, and serves the next request', async () => {
        const { hub, connect, get, faults } = await setUp(optionsFor(mayFail), { middleware, defaultErrors: true })
        const answer = await get('', { accept: 'application/json' }).expect(503)
        expect(answer.headers['retry-after']).toMatch(/^(1\d|2\d|30)$/)
        expect(answer.text).not.toContain('secret')
        expect(faults).toEqual([[where, secret]])
        expectNothing(hub)
        isBroken = false
        expect(openOf(await (await connect()).live())).toMatchObject({ channels: ['a', 'b'] })
        expect(faults).toHaveLength(1)
      })
    })
  })

  describe('lets a client name channels that', () => {
    const names = (count: number): string => `?${Array.from({ length: count }, (_, n) => `channel=c${n}`).join('&')}`

    it.each<[string, string]>([
      ['no query', ''],
      ['a query without channel', '?chanel=a'],
      ['a query of another kind', '?channel[]=a&channels=b'],
      ['an empty name', '?channel='],
      ['a name without a value', '?channel'],
      ['an empty name among others', '?channel=a&channel=&channel=b'],
      ['a name of 257 units', `?channel=${'x'.repeat(257)}`],
      ['a long name among others', `?channel=a&channel=${'x'.repeat(257)}`],
      ['21 names', names(21)],
    ])('are refused with 400 before authorize is called: %s', async (_what, query) => {
      const authorize = jest.fn(allow)
      const { hub, get, errors } = await setUp({ authorize })
      await get(query, { accept: 'text/event-stream' }).expect(400, { code: 'SSE_BAD_REQUEST' })
      expect(authorize).not.toHaveBeenCalled()
      expect(errors).toHaveLength(1)
      expectNothing(hub)
    })

    it('number up to 20, have up to 256 units each, and count once if repeated', async () => {
      const { hub, connect } = await setUp({ authorize: allow })
      const client = await (await connect(`${names(19)}&channel=${'y'.repeat(256)}&channel=c0&channel=c18`)).live()
      expect(client.status).toBe(200)
      expect(hub.channel('y'.repeat(256)).subscriberCount).toBe(1)
      expect(hub.channel('c18').subscriberCount).toBe(1)
    })

    it('are limited by maxChannels', async () => {
      const { hub, connect, get } = await setUp({ authorize: allow, maxChannels: 2 })
      await get(names(3), { accept: 'text/event-stream' }).expect(400)
      expectNothing(hub)
      expect(openOf(await (await connect(`${names(2)}&channel=c1`)).live())).toMatchObject({ channels: ['c0', 'c1'] })
    })

    it('are not limited if the program names them', async () => {
      const channels = Array.from({ length: 30 }, (_, n) => `c${n}`)
      const { connect } = await setUp({ channels, maxChannels: 2 })
      expect(openOf(await (await connect('?channel=d')).live())).toMatchObject({ channels })
    })
  })

  describe.each(['channels', 'authorize', 'subscribe'] as const)('if %s throws an error', (callback) => {
    const optionsFor = (error: unknown): Options => ({
      channels: 'a',
      [callback]: () => {
        throw error
      },
    })

    it.each<[string, object, number]>([
      ['status 401', { status: 401 }, 401],
      ['status 404', { status: 404 }, 404],
      ['statusCode 429', { statusCode: 429 }, 429],
      ['the status 403 of an SseError', new SseError('SSE_FORBIDDEN', 'no'), 403],
    ])('with %s, refuses the client with it, and reports nothing', async (_what, fields, status) => {
      const error = fields instanceof Error ? fields : Object.assign(new Error('no'), fields)
      const { hub, get, errors, faults } = await setUp(optionsFor(error), { defaultErrors: true })
      await get('', { accept: 'text/event-stream' }).expect(status)
      expect([errors, faults]).toEqual([[], []])
      expectNothing(hub)
    })

    it('with a client status, passes it once to the error handler', async () => {
      const error = Object.assign(new Error('no'), { status: 401 })
      const { get, errors } = await setUp(optionsFor(error))
      await get('', { accept: 'text/event-stream' }).expect(401)
      expect(errors).toEqual([error])
    })

    it.each<[string, unknown]>([
      ['status 500', Object.assign(new Error('no'), { status: 500 })],
      ['status 200', Object.assign(new Error('no'), { status: 200 })],
      ["status '401'", Object.assign(new Error('no'), { status: '401' })],
      ['no status', new Error('no')],
      ['no error object', undefined],
    ])('with %s, reports it and makes the client reconnect later', async (_what, error) => {
      const { get, errors, faults } = await setUp(optionsFor(error))
      expect((await get('', { accept: 'text/event-stream' }).expect(200)).text).toMatch(REFUSED)
      expect([errors, faults]).toEqual([[], [[callback, error]]])
    })
  })

  describe('with channels as a function', () => {
    it.each<[string, () => readonly string[] | Promise<string[]>]>([
      ['returns', () => []],
      ['resolves to', async () => []],
    ])('that %s an empty list answers 400 without calling authorize', async (_what, channels) => {
      const authorize = jest.fn(allow)
      const { hub, get, errors } = await setUp({ channels, authorize })
      await get('', { accept: 'text/event-stream' }).expect(400, { code: 'SSE_BAD_REQUEST' })
      expect([authorize.mock.calls, errors.length]).toEqual([[], 1])
      expectNothing(hub)
    })

    it('that returns a single name subscribes to that channel', async () => {
      const { connect } = await setUp({ channels: () => 'a' })
      expect(openOf(await (await connect()).live())).toMatchObject({ channels: ['a'] })
    })

    it.each(['', 'x'.repeat(257), 'a\ud800', undefined, 7, ['a', 'b']])(
      'that returns the invalid name %j, which may originate from the client, answers 400',
      async (name) => {
        const authorize = jest.fn(allow)
        const { hub, get, errors } = await setUp({ channels: () => ['a', name as string], authorize })
        await get('', { accept: 'text/event-stream' }).expect(400, { code: 'SSE_BAD_REQUEST' })
        expect([authorize.mock.calls, errors.length]).toEqual([[], 1])
        expectNothing(hub)
      },
    )
  })

  describe('with authorize', () => {
    it.each<[string, unknown]>([
      ['false', false],
      ['undefined', undefined],
      ['null', null],
      ['1', 1],
      ["'true'", 'true'],
      ['an object', {}],
      ['a list', [true]],
      ['a promise of false', Promise.resolve(false)],
      ['a promise of undefined', Promise.resolve()],
      ['a promise of an object', Promise.resolve({ allowed: true })],
    ])('denies a channel unless the result is true: %s', async (_what, answer) => {
      const { hub, get } = await setUp({ authorize: () => answer as boolean })
      const { status, body } = await get('?channel=a', { accept: 'text/event-stream' })
      expect([status, body]).toEqual([403, { code: 'SSE_FORBIDDEN' }])
      expectNothing(hub)
    })

    it.each<[string, Options['channels']]>([
      ['a list', ['a', 'b', 'a']],
      ['a function', () => ['a', 'b', 'a']],
    ])('calls it once for every channel if channels is %s', async (_what, channels) => {
      const asked: string[] = []
      const authorize = (req: HandlerRequest, channel: string): boolean => {
        asked.push(`${userOf(req)} ${channel}`)
        return channel !== 'b' || userOf(req) === 'admin'
      }
      const { hub, connect, get } = await setUp(channels === undefined ? { authorize } : { channels, authorize })
      await get('', { 'x-user': 'guest', accept: 'text/event-stream' }).expect(403)
      expectNothing(hub)
      await (await connect('', { 'x-user': 'admin' })).live()
      expect(asked).toEqual(['guest a', 'guest b', 'admin a', 'admin b'])
    })

    it('passes it the request as the previous middleware and the route have left it', async () => {
      const hub = new Hub()
      const app = express()
      const seen: unknown[] = []
      app.use((req, _res, next) => {
        Object.assign(req, { user: { id: 7 } })
        next()
      })
      const authorize = (req: HandlerRequest & { user?: { id: number } }): boolean => {
        seen.push([req.params, { ...req.query }, req.user])
        return true
      }
      app.get('/rooms/:room', hub.handler({ channels: (req) => [`room:${req.params['room']}`], authorize }))
      const { url } = await serve(app)
      const client = await (await TestClient.open(`${url}/rooms/5?x=1`)).live()
      expect(openOf(client)).toMatchObject({ channels: ['room:5'] })
      expect(seen).toEqual([[{ room: '5' }, { x: '1' }, { id: 7 }]])
    })

    it('registers nothing and starts no timer if the client leaves while it is pending', async () => {
      const startTimers = jest.spyOn(globalThis, 'setInterval')
      const checks: ((answer: boolean) => void)[] = []
      const { hub, url, server, connect, errors, faults } = await setUp({
        authorize: (req) => (userOf(req) === 'slow' ? new Promise((resolve) => checks.push(resolve)) : true),
        subscribe: (req) => ({ owner: userOf(req) }),
      })
      const requests = [1, 2].map(() =>
        http.get(`${url}/events?channel=a`, { agent: false, headers: { 'x-user': 'slow' } }).on('error', () => {}),
      )
      await until(() => checks.length === 2, 'authorize was called')
      for (const request of requests) request.destroy()
      await connectionsLeft(server, 0)
      checks[0]?.(true)
      checks[1]?.(false)
      await until(() => errors.length > 0, 'the second client was refused')
      expect(startTimers).not.toHaveBeenCalled()
      startTimers.mockRestore()
      expectNothing(hub)
      expect([errors, faults]).toEqual([[expect.objectContaining({ code: 'SSE_FORBIDDEN' })], []])
      const next = await (await connect('?channel=a', { 'x-user': 'quick' })).live()
      next.leave()
      await until(() => hub.stats().subscribers === 0, 'no subscriber is left')
    })

    it('serves other clients while it is pending for one', async () => {
      let isAsked = false
      const { hub, connect } = await setUp({
        authorize: (req) => {
          if (userOf(req) !== 'slow') return true
          isAsked = true
          return new Promise<boolean>(() => {})
        },
      })
      void connect('?channel=a', { 'x-user': 'slow' }).catch(() => {})
      await until(() => isAsked, 'authorize was called for the slow client')
      await (await connect('?channel=a', { 'x-user': 'quick' })).live()
      expect(hub.stats().subscribers).toBe(1)
    })
  })

  describe('on a replay', () => {
    /** Publishes `a1 b1 a2 b2 …`, and returns the ids by these names. */
    async function setUpReplay(authorize: NonNullable<Options['authorize']>) {
      const all = await setUp({ authorize, subscribe: (req) => (req.query['rewind'] === undefined ? {} : { rewind: 10 }) })
      const ids: Record<string, string> = {}
      for (const n of [1, 2, 3]) {
        for (const channel of ['a', 'b']) ids[`${channel}${n}`] = await all.hub.publish(channel, 'item', `${channel}${n}`)
      }
      return { ...all, ids }
    }
    const received = (client: TestClient): string[] => client.channelEvents.map(({ data }) => data)

    it.each(['a1', 'b1'])('from %s sends the later events of the granted channels, and of no other', async (from) => {
      const { hub, ids, connect } = await setUpReplay((_req, channel) => channel === 'a')
      const client = await (await connect('?channel=a', { 'last-event-id': ids[from] })).live()
      await hub.publish('b', 'item', 'b4')
      await hub.publish('a', 'item', 'a4')
      await client.received(3)
      expect(received(client)).toEqual(['a2', 'a3', 'a4'])
      expect(client.text).not.toMatch(/data: b/)
      expect(client.text).not.toMatch(/\/b$/m)
    })

    it('refuses a channel that is not granted, for an id in the header or in the query', async () => {
      const { hub, ids, get } = await setUpReplay((_req, channel) => channel === 'a')
      const id = ids['b1'] as string
      for (const query of [
        '?channel=b',
        '?channel=a&channel=b',
        '?channel=b&rewind=1',
        `?channel=b&lastEventId=${encodeURIComponent(id)}`,
      ]) {
        const answer = await get(query, { accept: 'text/event-stream', 'last-event-id': id }).expect(403)
        expect(answer.text).toBe('{"code":"SSE_FORBIDDEN"}')
      }
      expect(hub.stats().subscribers).toBe(0)
    })

    it('calls authorize again when the client reconnects, and ignores what it granted before', async () => {
      let isRevoked = false
      const { hub, connect } = await setUpReplay((_req, channel) => channel === 'a' || !isRevoked)
      const client = await (await connect('?channel=a&channel=b&rewind=1')).live()
      expect(received(client)).toEqual(['a1', 'b1', 'a2', 'b2', 'a3', 'b3'])
      const { lastId } = client
      client.leave()
      isRevoked = true
      await hub.publish('b', 'item', 'b4')
      await hub.publish('a', 'item', 'a4')
      const refused = await connect('?channel=a&channel=b', { 'last-event-id': lastId })
      await refused.over()
      expect([refused.status, refused.text]).toEqual([403, '{"code":"SSE_FORBIDDEN"}'])
      expect(received(await (await connect('?channel=a', { 'last-event-id': lastId })).live())).toEqual(['a4'])
    })
  })

  describe('with subscribe', () => {
    it('as an object uses it as the options of all subscriptions', async () => {
      const { hub, connect } = await setUp({ channels: ['a'], subscribe: { rewind: 2, owner: 'all', filter: ({ data }) => data !== 2 } })
      for (const n of [1, 2, 3]) await hub.publish('a', 'item', n)
      const client = await (await connect()).live()
      await hub.publish('a', 'item', 4)
      await client.received(2)
      expect(client.data).toEqual([3, 4])
      expect(await hub.disconnect('all')).toBe(1)
    })

    it.each<[string, (make: (req: HandlerRequest) => SubscribeOptions) => NonNullable<Options['subscribe']>]>([
      ['a function', (make) => make],
      [
        'an async function',
        (make) => async (req) => {
          await turn()
          return make(req)
        },
      ],
    ])('as %s of the request uses its result as the options', async (_what, subscribe) => {
      const snapshot = (channels: readonly string[]): { event: string; data: unknown } => ({ event: 'state', data: { of: channels } })
      const { hub, connect } = await setUp({
        channels: ['a'],
        subscribe: subscribe((req) => ({
          owner: userOf(req),
          ...(req.query['rewind'] !== undefined && { rewind: Number(req.query['rewind']) }),
          ...(req.query['odd'] !== undefined && { filter: ({ data }: { data: unknown }) => Number(data) % 2 === 1 }),
          ...(req.query['state'] !== undefined && { snapshot }),
          ...(req.query['expired'] !== undefined && { expiresAt: new Date(0) }),
        })),
      })
      for (const n of [1, 2, 3]) await hub.publish('a', 'item', n)
      const one = await (await connect('?rewind=2', { 'x-user': '1' })).live()
      const two = await (await connect('?rewind=3&odd=1', { 'x-user': '2' })).live()
      const three = await (await connect('?state=1', { 'x-user': '3' })).live()
      const four = await connect('?expired=1', { 'x-user': '4' })
      await four.over()
      expect([one.data, two.data, three.data, four.data]).toEqual([[2, 3], [1, 3], [{ of: ['a'] }], []])
      expect(await hub.disconnect('2')).toBe(1)
      await two.over()
      expect(hub.stats().subscribers).toBe(2)
    })

    it('that returns undefined uses the defaults', async () => {
      const { hub, connect } = await setUp({ channels: ['a'], subscribe: () => undefined as unknown as SubscribeOptions })
      await hub.publish('a', 'item', 1)
      const client = await (await connect()).live()
      expect(client.data).toEqual([])
    })

    it.each<[string, unknown, string]>([
      ['null', null, 'TypeError'],
      ['an unknown option', { rewnid: 1 }, 'TypeError'],
      ['a negative rewind', { rewind: -1 }, 'RangeError'],
      ['an empty owner', { owner: '' }, 'SseError'],
      ['an invalid date', { expiresAt: new Date(NaN) }, 'RangeError'],
    ])('that returns %s calls onError, and makes the client reconnect later', async (_what, answer, name) => {
      const faults: unknown[] = []
      const hubOptions: HubOptions = { onError: (error, { where }) => faults.push([(error as Error).name, where]) }
      const { hub, get, errors } = await setUp({ channels: ['a'], subscribe: () => answer as SubscribeOptions }, { hubOptions })
      const response = await get('', { accept: 'text/event-stream' }).expect(200)
      expect(response.text).toMatch(REFUSED)
      expect([errors, faults]).toEqual([[], [[name, 'subscribe']]])
      expectNothing(hub)
    })

    it('calls it before authorize, so that access which ends in between is not granted', async () => {
      const asked: string[] = []
      let hasAccess = true
      const { hub, get } = await setUp({
        authorize: async () => {
          asked.push('authorize')
          return hasAccess
        },
        subscribe: async () => {
          asked.push('subscribe')
          hasAccess = false
          await hub.disconnect('ann')
          return { owner: 'ann' }
        },
      })
      await get('?channel=a').expect(403)
      expect(asked).toEqual(['subscribe', 'authorize'])
      expectNothing(hub)
    })
  })

  describe('opens a stream that', () => {
    it('has the options of the mounted middleware, or the defaults without one', async () => {
      const mounted = await setUp({ channels: ['a'] }, { middleware: { retryMs: 7, keepAliveMs: 4_000, headers: { 'X-Mine': 'yes' } } })
      const behind = await (await mounted.connect()).live()
      expect([behind.retries, behind.response.headers['x-mine'], openOf(behind)]).toMatchObject([[7], 'yes', { keepAliveMs: 4_000 }])
      const alone = await (await (await setUp({ channels: ['a'] }, { middleware: false })).connect()).live()
      expect([alone.retries, alone.response.headers['x-mine'], openOf(alone)]).toMatchObject([[2_000], undefined, { keepAliveMs: 15_000 }])
    })

    it('is `res.sse`, even if an earlier handler has written to it', async () => {
      const hub = new Hub()
      const app = express()
      app.use(sseMiddleware())
      app.use((_req, res, next) => {
        void res.sse.send('hello', { event: 'hello' })
        next()
      })
      app.get('/', hub.handler({ channels: ['a'] }))
      const { url } = await serve(app)
      const client = await (await TestClient.open(url)).live()
      expect(client.events.map(({ event }) => event)).toEqual(['hello', 'stream-open'])
      expect(client.retries).toEqual([2_000])
    })

    it('fails once through Express if the program has already answered, and leaves that answer unchanged', async () => {
      const hub = new Hub()
      const errors: unknown[] = []
      const app = express()
      app.use((_req, res, next) => {
        res.json('mine')
        next()
      })
      app.get('/', hub.handler({ channels: ['a'] }))
      app.use((error: unknown, _req: Request, _res: Response, _next: unknown) => void errors.push(error))
      await supertest(app).get('/').expect(200, '"mine"')
      await until(() => errors.length > 0, 'the error has arrived')
      await turn()
      expect(errors).toEqual([expect.objectContaining({ code: 'SSE_HEAD_SENT' })])
      expect(hub.stats().subscribers).toBe(0)
    })

    it('ends with a later retry if the hub closes while authorize is pending', async () => {
      const checks: (() => void)[] = []
      const { hub, connect } = await setUp({ authorize: () => new Promise((resolve) => checks.push(() => resolve(true))) })
      const connecting = connect('?channel=a')
      await until(() => checks.length === 1, 'authorize was called')
      await hub.close()
      checks[0]?.()
      const client = await connecting
      await client.over()
      expect([client.status, client.events.map(({ data }) => data)]).toEqual([200, ['{"reason":"closing"}']])
      expect(client.retries.at(-1)).toBeGreaterThanOrEqual(1_000)
      expect(client.retries.at(-1)).toBeLessThanOrEqual(5_000)
    })
  })

  it('makes the client reconnect later even if onError throws', async () => {
    const { connect } = await setUp(
      { channels: () => Promise.reject(new Error('secret')) },
      {
        hubOptions: {
          onError: () => {
            throw new Error('worse')
          },
        },
      },
    )
    const emitWarning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const client = await connect()
    await client.over()
    expect(client.text).toMatch(REFUSED)
    expect(emitWarning).toHaveBeenCalledTimes(1)
    expect(String(emitWarning.mock.calls[0]?.[0])).toContain('worse')
    emitWarning.mockRestore()
  })

  it('only reports a fault of a callback if the client has left', async () => {
    const checks: ((error: Error) => void)[] = []
    const { hub, url, server, errors, faults } = await setUp({ channels: () => new Promise((_resolve, reject) => checks.push(reject)) })
    const request = http.get(`${url}/events`, { agent: false })
    request.on('error', () => {})
    await until(() => checks.length === 1, 'channels was called')
    request.destroy()
    await connectionsLeft(server, 0)
    checks[0]?.(new Error('late'))
    await until(() => faults.length === 1, 'onError was called')
    await turn()
    expect([faults, errors]).toEqual([[['channels', new Error('late')]], []])
    expectNothing(hub)
  })
})

it('hub.handler serves a plain node:http server', async () => {
  const hub = new Hub()
  const route = hub.handler({ authorize: (_req, channel) => channel === 'a' })
  const errors: unknown[] = []
  const { url } = await serve((req, res) => {
    route(req, res, (error) => {
      errors.push(error)
      res.statusCode = (error as SseError).status
      res.end()
    })
  })
  const client = await (await TestClient.open(`${url}/?channel=a`)).live()
  await hub.publish('a', 'item', 1)
  await client.received(1)
  const refused = await TestClient.open(`${url}/?channel=b`)
  expect([client.status, refused.status, errors.length]).toEqual([200, 403, 1])
})
