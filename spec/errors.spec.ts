import type { IncomingMessage } from 'node:http'
import vm from 'node:vm'
import { Hub, type HubOptions, SseError, type SseErrorCode, sseMiddleware, type SubscribeOptions } from 'express-sse-hub'
import express from 'express'
import request from 'supertest'
import { describeValue } from '../lib/basics/errors.ts'
import { join } from '../lib/hub/subscribable.ts'
import { TestClient, until } from './support/client.ts'
import { FakeConnection, turn } from './support/fake-connection.ts'
import { EXPRESS_VERSIONS } from './support/express-versions.ts'
import { serve, stopServers } from './support/servers.ts'

afterEach(stopServers)

const STATUS: Record<SseErrorCode, number> = {
  SSE_NOT_ACCEPTABLE: 406,
  SSE_HEAD_SENT: 500,
  SSE_INVALID_EVENT: 500,
  SSE_INVALID_DATA: 500,
  SSE_INVALID_CHANNEL: 500,
  SSE_INVALID_FILTER: 500,
  SSE_ALREADY_SUBSCRIBED: 500,
  SSE_ID_RESERVED: 500,
  SSE_HUB_CLOSED: 503,
  SSE_INVALID_KEY: 500,
  SSE_INVALID_OWNER: 500,
  SSE_INVALID_SNAPSHOT: 500,
  SSE_SNAPSHOT_NOT_SHARED: 500,
  SSE_LIMIT_REACHED: 503,
  SSE_UNAVAILABLE: 503,
  SSE_BACKPLANE_UNAVAILABLE: 503,
  SSE_BACKPLANE_MISSING: 500,
  SSE_BAD_REQUEST: 400,
  SSE_FORBIDDEN: 403,
}

describe('SseError', () => {
  it.each(Object.entries(STATUS) as [SseErrorCode, number][])('%s has the status %i', (code, status) => {
    const error = new SseError(code, 'what was wrong')
    expect([error.code, error.status, error.message, error.name]).toEqual([code, status, 'what was wrong', 'SseError'])
    expect(error.headers).toBeUndefined()
    expect(String(error)).toBe('SseError: what was wrong')
    expect(error.stack).toContain('errors.spec.ts')
  })

  it('has the headers it is given, and a cause only where there is one', () => {
    const headers = { 'Retry-After': '7' }
    const error = new SseError('SSE_LIMIT_REACHED', 'full', { headers })
    expect(error.headers).toEqual(headers)
    expect('cause' in error).toBe(false)
    expect(new SseError('SSE_INVALID_DATA', 'bad', { cause: 7 }).cause).toBe(7)
    expect('cause' in new SseError('SSE_INVALID_DATA', 'bad', { cause: undefined })).toBe(true)
  })

  it('is recognised when another copy of the package made it, and nothing else is', async () => {
    let Other = SseError
    await jest.isolateModulesAsync(async () => {
      Other = (await import('../lib/basics/errors.ts')).SseError
    })
    expect(Other).not.toBe(SseError)
    const other = new Other('SSE_FORBIDDEN', 'no')
    expect(other instanceof SseError).toBe(true)
    expect(new SseError('SSE_FORBIDDEN', 'no') instanceof Other).toBe(true)
    expect(new SseError('SSE_FORBIDDEN', 'no') instanceof Error).toBe(true)
    for (const value of [new Error('no'), { code: 'SSE_FORBIDDEN', status: 403 }, null, undefined, 'SSE_FORBIDDEN', () => {}]) {
      expect((value as unknown) instanceof SseError).toBe(false)
    }
  })

  describe.each(EXPRESS_VERSIONS)('in %s', (_, factory) => {
    it('is answered with its status and its headers, and in production with nothing of its text', async () => {
      // Express writes the errors that it answers there.
      const log = jest.spyOn(console, 'error').mockImplementation(() => {})
      const hub = new Hub({ maxSubscribers: 1 })
      const app = factory()
      app.set('env', 'production')
      app.use(sseMiddleware())
      app.get('/events', (_req, res) => res.sse.subscribe(hub, ['a']))
      app.get('/forbidden', hub.handler({ channels: ['a'], authorize: () => false }))
      app.get('/bad', hub.handler({ authorize: () => true }))
      const { url } = await serve(app)
      await (await TestClient.open(`${url}/events`)).live()
      const accept = { accept: 'application/json' }
      const full = await request(url).get('/events').set(accept)
      expect(full.status).toBe(503)
      expect(Number(full.get('Retry-After'))).toBeGreaterThanOrEqual(10)
      expect(Number(full.get('Retry-After'))).toBeLessThanOrEqual(30)
      await hub.close()
      const closed = await request(url).get('/events').set(accept)
      expect(closed.status).toBe(503)
      expect(Number(closed.get('Retry-After'))).toBeGreaterThanOrEqual(1)
      expect(Number(closed.get('Retry-After'))).toBeLessThanOrEqual(5)
      const [forbidden, bad] = [await request(url).get('/forbidden'), await request(url).get('/bad')]
      expect([forbidden.status, bad.status]).toEqual([403, 400])
      for (const { text } of [full, closed, forbidden, bad]) expect(text).not.toMatch(/maxSubscribers|hub|channel|\.ts/)
      await until(() => log.mock.calls.length >= 4, 'all are written')
      log.mockRestore()
    })

    it('is answered with its headers by an error handler of the program too', async () => {
      const hub = new Hub()
      await hub.close()
      const app = factory()
      const errors: unknown[] = []
      app.use(sseMiddleware())
      app.get('/events', (_req, res) => res.sse.subscribe(hub, ['a']))
      app.use((error: SseError, _req: express.Request, res: express.Response, _next: express.NextFunction) => {
        errors.push(error)
        res.status(error.status).json({ code: error.code })
      })
      const { url } = await serve(app)
      const { status, body, headers } = await request(url).get('/events').set({ accept: 'application/json' })
      expect([status, body]).toEqual([503, { code: 'SSE_HUB_CLOSED' }])
      expect(errors).toEqual([expect.any(SseError)])
      expect((errors[0] as SseError).headers).toEqual({ 'Retry-After': headers['retry-after'] as string })
    })
  })
})

describe('show', () => {
  it.each<[string, unknown, string]>([
    ['a string', 'a b', "'a b'"],
    ['an empty string', '', "''"],
    ['a string with line breaks', 'a\r\nb', "'a\\r\\nb'"],
    ['an error, by its message on one line', new TypeError('a\nb'), '[TypeError: a b]'],
    ['what prints itself on several lines', { [Symbol.for('nodejs.util.inspect.custom')]: () => 'a\n  b' }, 'a b'],
    ['a number', -0, '-0'],
    ['a BigInt', 1n, '1n'],
    ['undefined', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a symbol', Symbol('s'), 'Symbol(s)'],
    ['a function', function named() {}, '[Function: named]'],
    ['an object, one level deep', { a: 1, b: { c: 2 } }, '{ a: 1, b: [Object] }'],
    ['the beginning of an array', [1, 2, 3, 4, 5, 6], '[ 1, 2, 3, 4, ... 2 more items ]'],
    ['the beginning of a long string', 'x'.repeat(300), `'${'x'.repeat(60)}'... 240 more characters`],
  ])('shows %s', (_, value, text) => {
    expect(describeValue(value)).toBe(text)
  })

  it('cuts no character in half', () => {
    for (let n = 0; n < 4; n++) {
      expect(describeValue({ ['x'.repeat(n + 1)]: '😀'.repeat(28), y: '😀'.repeat(60) }).isWellFormed()).toBe(true)
    }
  })

  it('cuts what is long, and says so', () => {
    const text = describeValue(Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`key${n}`, 'x'.repeat(50)])))
    expect(text).toHaveLength(121)
    expect(text).toMatch(/^\{ key0: 'xxx.*…$/)
    // 120 units are not too long.
    expect(describeValue({ ['k'.repeat(113)]: 1 })).toBe(`{ ${'k'.repeat(113)}: 1 }`)
    expect(describeValue({ ['k'.repeat(114)]: 1 })).toBe(`{ ${'k'.repeat(114)}: 1 …`)
  })

  it('says of what types are that cannot be shown', () => {
    const broken = {
      [Symbol.for('nodejs.util.inspect.custom')]: () => {
        throw new Error('no')
      },
    }
    expect(describeValue(broken)).toBe('object')
    expect(describeValue(Object.assign(() => {}, broken))).toBe('function')
  })

  it('calls nothing of what it shows', () => {
    const called: string[] = []
    const value = {
      get data() {
        called.push('getter')
        return 1
      },
      toString: () => called.push('toString'),
      toJSON: () => called.push('toJSON'),
    }
    expect(describeValue(value)).toBe('{ data: [Getter], toString: [Function: toString], toJSON: [Function: toJSON] }')
    expect(called).toEqual([])
  })

  it('shows what comes from another realm', () => {
    expect(describeValue(vm.runInNewContext('({ a: [1] })'))).toBe('{ a: [Array] }')
  })
})

interface SetUpOptions extends HubOptions {
  readonly subscribe?: SubscribeOptions
}

async function setUp({ subscribe = {}, ...options }: SetUpOptions = {}) {
  const hub = new Hub(options)
  const app = express()
  app.use(sseMiddleware())
  app.get('/events', (_req, res) => res.sse.subscribe(hub, ['a'], subscribe))
  const { url } = await serve(app)
  return { hub, app, url, connect: () => TestClient.open(`${url}/events`) }
}

/** Faults as a hook was told of them. */
interface Fault {
  readonly where: string
  readonly error: unknown
}

function recorder(): { faults: Fault[]; onError: HubOptions['onError'] } {
  const faults: Fault[] = []
  return { faults, onError: (error, { where }) => void faults.push({ error, where }) }
}

const no = new Error('no')
const fails = (): never => {
  throw no
}
const rejects = async (): Promise<never> => Promise.reject(no)

describe('onError of a hub', () => {
  it.each<[string, NonNullable<SubscribeOptions['filter']>, unknown[]]>([
    ['throws', fails, [no]],
    ['returns a promise', (async () => true) as unknown as () => boolean, [expect.objectContaining({ code: 'SSE_INVALID_FILTER' })]],
    ['returns a promise that rejects', rejects as unknown as () => boolean, [expect.objectContaining({ code: 'SSE_INVALID_FILTER' }), no]],
  ])('is told of a filter that %s, which takes nothing from others', async (_, filter, errors) => {
    const { faults, onError } = recorder()
    const { hub, app, connect, url } = await setUp({ onError })
    app.get('/filtered', (_req, res) => res.sse.subscribe(hub, ['a'], { filter }))
    const [filtered, other] = await Promise.all([(await TestClient.open(`${url}/filtered`)).live(), (await connect()).live()])
    await hub.publish('a', 'e', 1)
    await other.received(1)
    await until(() => faults.length >= errors.length, 'the fault is reported')
    expect(faults).toEqual(errors.map((error) => ({ where: 'filter', error })))
    expect(filtered.channelEvents).toEqual([])
    expect(filtered.ended).toBe(false)
  })

  it('is told of a deserialize that throws, and a worker is not given what cannot be read', async () => {
    const { faults, onError } = recorder()
    const hub = new Hub({ onError, deserialize: (text) => (text === '{"n":2}' ? fails() : (JSON.parse(text) as unknown)) })
    const events = hub.events(['a'])
    for (const n of [1, 2, 3]) await hub.publish('a', 'e', { n })
    expect([(await events.next()).value, (await events.next()).value]).toMatchObject([{ data: { n: 1 } }, { data: { n: 3 } }])
    expect(faults).toEqual([{ where: 'deserialize', error: no }])
  })

  it.each<[string, SubscribeOptions['snapshot'], unknown]>([
    ['throws', fails, no],
    ['rejects', rejects, no],
    ['gives no snapshot', () => 7 as unknown as { data: unknown }, expect.objectContaining({ code: 'SSE_INVALID_SNAPSHOT' })],
    ['gives what has no text', () => ({ data: 1n }), expect.objectContaining({ code: 'SSE_INVALID_DATA' })],
  ])('is told of a snapshot that %s, and the client comes back to ask again', async (_, snapshot, error) => {
    const { faults, onError } = recorder()
    const { connect } = await setUp({ onError, subscribe: { snapshot } })
    const client = await connect()
    await client.over()
    expect(faults).toEqual([{ where: 'snapshot', error }])
    expect(client.events.map(({ data }) => data)).toEqual(['{"reason":"unavailable"}'])
    expect(client.retries.at(-1)).toBeGreaterThanOrEqual(1_000)
    expect(client.text).not.toContain('no')
  })

  it.each<[string, 'channels' | 'authorize' | 'subscribe']>([
    ['gives the channels', 'channels'],
    ['authorizes', 'authorize'],
    ['gives the options', 'subscribe'],
  ])('is told of the callback of a route that %s, whether it throws or rejects, and the client is told nothing of it', async (_, where) => {
    const { faults, onError } = recorder()
    const { hub, app, url } = await setUp({ onError })
    for (const [path, callback] of [
      ['/throws', fails],
      ['/rejects', rejects],
    ] as const) {
      app.get(path, hub.handler({ channels: ['a'], [where]: callback as (req: IncomingMessage) => never }))
      const client = await TestClient.open(url + path)
      await client.over()
      expect([client.status, client.events.map(({ data }) => data)]).toEqual([200, ['{"reason":"unavailable"}']])
      expect(client.text).not.toMatch(/no|Error/)
    }
    expect(faults).toEqual([
      { where, error: no },
      { where, error: no },
    ])
    expect(hub.stats().refusals).toBe(2)
  })

  it('is process.emitWarning where there is none', async () => {
    const warning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    try {
      const hub = new Hub()
      const filters = [
        fails,
        () => {
          // oxlint-disable-next-line no-throw-literal, typescript/only-throw-error -- what a program may do all the same
          throw 'a string'
        },
      ]
      for (const filter of filters) hub[join](['a'], { filter }, '').begin(new FakeConnection().asConnection)
      await hub.publish('a', 'e', 1)
      await turn()
      const warned = warning.mock.calls.map(([text, options]) => [String(text).split('\n')[0], options])
      expect(warned).toHaveLength(2)
      expect(warned).toContainEqual(['filter: Error: no', { type: 'ExpressSseHubWarning' }])
      expect(warned).toContainEqual(['filter: a string', { type: 'ExpressSseHubWarning' }])
      expect(warning.mock.calls.map(([text]) => String(text)).join()).toContain('errors.spec.ts')
    } finally {
      warning.mockRestore()
    }
  })

  it.each<[string, HubOptions['onError']]>([
    ['throws', fails],
    // oxlint-disable-next-line typescript/no-misused-promises -- what a program may do all the same
    ['rejects', rejects],
  ])('that %s itself becomes a warning, and stops nothing', async (_, onError) => {
    const warning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    try {
      const { hub, app, connect, url } = await setUp({ onError })
      app.get('/filtered', (_req, res) => res.sse.subscribe(hub, ['a'], { filter: ({ data }) => (data === 1 ? fails() : true) }))
      app.get('/fault', hub.handler({ channels: fails }))
      const [filtered, other] = await Promise.all([(await TestClient.open(`${url}/filtered`)).live(), (await connect()).live()])
      await hub.publish('a', 'e', 1)
      await hub.publish('a', 'e', 2)
      await Promise.all([filtered.received(1), other.received(2)])
      await (await TestClient.open(`${url}/fault`)).over()
      await until(() => warning.mock.calls.length >= 2, 'there are warnings')
      expect(filtered.data).toEqual([2])
      expect(other.data).toEqual([1, 2])
      expect(warning.mock.calls.map(([text, options]) => [String(text).split('\n')[0], options])).toEqual([
        ['onError: Error: no', { type: 'ExpressSseHubWarning' }],
        ['onError: Error: no', { type: 'ExpressSseHubWarning' }],
      ])
    } finally {
      warning.mockRestore()
    }
  })

  it('is called with the fault itself, and nothing else than where it was', async () => {
    const onError = jest.fn()
    const hub = new Hub({ onError })
    hub[join](['a'], { filter: fails }, '').begin(new FakeConnection().asConnection)
    await hub.publish('a', 'e', 1)
    await turn()
    expect(onError.mock.calls).toEqual([[no, { where: 'filter' }]])
    expect((onError.mock.calls[0] as unknown[])[0]).toBe(no)
  })
})
