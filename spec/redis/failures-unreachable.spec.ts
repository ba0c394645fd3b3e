import { Redis } from 'ioredis'
import { TestClient, until } from '../support/client.ts'
import { FakeServer } from '../support/failures/fake-server.ts'
import type { Report } from '../support/failures/hub-process.ts'
import { type HubProcess, HubProcesses } from '../support/failures/hub-processes.ts'
import { describeRedis, freshPrefix, RedisServer } from '../support/redis.ts'

const TIMEOUT_MS = 500
/** Time for other processes that use the processors too. */
const SLACK_MS = 600
/** The time during which connections are counted. */
const WATCH_MS = 3_000
/** Two connections, each of which is attempted at once and after about 75, 150, 300, 600, 1,200 and 1,500 ms. */
const MAX_ATTEMPTS = 16
const EMPTY = ['--save', '', '--appendonly', 'no']
const PASSWORD = 'correct-horse'

jest.setTimeout(30_000)

const pool = new HubProcesses()
const running: { stop(): Promise<void> }[] = []

afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.stop()))
})
afterAll(() => pool.stop())

async function startRedis(...args: readonly string[]): Promise<RedisServer> {
  const redis = await RedisServer.start(...(args.includes('--appendonly') ? [] : EMPTY), ...args)
  running.push(redis)
  return redis
}

/** Starts a Redis that requires a password. */
async function startGuarded(password: string): Promise<RedisServer> {
  const redis = await startRedis()
  await redis.command('CONFIG', 'SET', 'requirepass', password)
  return redis
}

async function startFake(answer: Parameters<typeof FakeServer.start>[0]): Promise<FakeServer> {
  const fake = await FakeServer.start(answer)
  running.push(fake)
  return fake
}

/** Starts a hub in a process, and returns the URL of its route. */
async function beginHub(url: string, { durable = false, nth = 0 } = {}): Promise<{ readonly hub: HubProcess; readonly events: string }> {
  const hub = (await pool.take(nth + 1))[nth] as HubProcess
  const port = await hub.ask('begin', { url, options: { prefix: freshPrefix(), timeoutMs: TIMEOUT_MS, probeMs: 100, durable } })
  return { hub, events: `http://127.0.0.1:${port}/events?channel=c` }
}

/** Ends the hub of a process, and returns its report. */
async function endHub(hub: HubProcess): Promise<Report> {
  const report = await hub.ask('report', null)
  expect(await hub.ask('end', null)).toBeLessThan(2_000)
  expect(report.faults).toEqual([])
  return report
}

/** An address without a usable Redis, and the error that it causes. */
interface Address {
  readonly url: string
  readonly port: number
  readonly says: RegExp
  /** Times of the connections to it. */
  readonly times: readonly number[] | null
}

function fakeAddress(fake: FakeServer, says: RegExp): Address {
  return { url: `redis://127.0.0.1:${fake.port}`, port: fake.port, says, times: fake.times }
}

const ADDRESSES: readonly (readonly [name: string, start: () => Promise<Address>])[] = [
  [
    'does not exist',
    async () => {
      const redis = await startRedis()
      await redis.kill()
      return { url: redis.url, port: redis.port, says: /ECONNREFUSED/, times: null }
    },
  ],
  ['accepts connections, but never answers', async () => fakeAddress(await startFake(() => {}), /timed out|not answered/)],
  [
    'ends every connection',
    async () => fakeAddress(await startFake((socket) => socket.destroy()), /closed|ECONNRESET|EPIPE|not answered|broke/),
  ],
  ['has too many clients', async () => fakeAddress(await startFake((socket) => socket.end('-ERR max number of clients reached\r\n')), /./)],
  [
    'has another password',
    async () => {
      const redis = await startGuarded(PASSWORD)
      return { url: `redis://:wrong-${PASSWORD}@127.0.0.1:${redis.port}`, port: redis.port, says: /WRONGPASS/, times: null }
    },
  ],
  [
    'requires a password',
    async () => {
      const redis = await startGuarded(PASSWORD)
      return { url: redis.url, port: redis.port, says: /NOAUTH/, times: null }
    },
  ],
  [
    'denies scripts to the user',
    async () => {
      const redis = await startRedis()
      await redis.command('ACL', 'SETUSER', 'limited', 'on', `>${PASSWORD}`, '~*', '&*', '+@all', '-@scripting')
      return { url: `redis://limited:${PASSWORD}@127.0.0.1:${redis.port}`, port: redis.port, says: /NOPERM/, times: null }
    },
  ],
  [
    'denies pub/sub to the user',
    async () => {
      const redis = await startRedis()
      await redis.command('ACL', 'SETUSER', 'limited', 'on', `>${PASSWORD}`, '~*', 'resetchannels', '+@all')
      return { url: `redis://limited:${PASSWORD}@127.0.0.1:${redis.port}`, port: redis.port, says: /NOPERM/, times: null }
    },
  ],
]

describeRedis.each(ADDRESSES)('a Redis that %s', (_, start) => {
  it('makes publish reject and refuses subscribe in time; the error has the address and the reason', async () => {
    const { url, port, says } = await start()
    const { hub, events } = await beginHub(url)
    const askedAt = performance.now()
    const publish = [1, 2, 3].map(() => hub.ask('once', { channel: 'c', data: 'x' }))
    const other = TestClient.open(events, { headers: { accept: 'application/json' } })
    const client = await TestClient.open(events)
    await client.over()
    expect(performance.now() - askedAt).toBeLessThan(TIMEOUT_MS + SLACK_MS)
    expect(client.status).toBe(200)
    const retry = client.retries.at(-1) ?? 0
    expect(client.text).toBe(`retry: ${retry}\nevent: stream-end\ndata: {"reason":"unavailable"}\n\n`)
    expect(retry).toBeGreaterThanOrEqual(1_000)
    expect(retry).toBeLessThanOrEqual(5_000)

    const { status, response } = await other
    expect(status).toBe(503)
    expect(response.headers['retry-after']).toMatch(/^[1-5]$/)

    const answers = await Promise.all(publish)
    for (const answer of answers) {
      expect(answer).toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE', message: expect.stringContaining(`127.0.0.1:${port}`) as string })
      expect(answer.ms).toBeLessThan(TIMEOUT_MS + SLACK_MS)
    }
    expect(hub.progress.isHealthy).toBe(false)

    const { errors, stats } = await endHub(hub)
    expect(stats).toMatchObject({ published: 0, refusals: 2, subscribers: 0 })
    const [first, ...rest] = errors.filter((error) => error.startsWith('backplane: '))
    expect(first).toContain(`127.0.0.1:${port}`)
    expect(first).toMatch(says)
    // The connections report once, and so does the reader of the log.
    expect(rest.length).toBeLessThanOrEqual(1)
    for (const text of [...errors, ...answers.map((answer) => JSON.stringify(answer))]) expect(text).not.toContain(PASSWORD)
  })
})

describeRedis('a Redis that cannot be used', () => {
  it('is tried again at growing intervals, and not by all hubs at the same time', async () => {
    const fakes = [
      await startFake(() => {}),
      await startFake((socket) => socket.destroy()),
      await startFake((socket) => socket.end('-ERR max number of clients reached\r\n')),
      await startFake((socket) => socket.on('data', () => socket.write('-ERR no\r\n'.repeat(20)))),
    ]
    await pool.take(fakes.length)
    const hubs = await Promise.all(fakes.map(({ port }, n) => beginHub(`redis://127.0.0.1:${port}`, { nth: n })))
    const before = await Promise.all(hubs.map(({ hub }) => hub.ask('report', null)))
    const begunAt = performance.now()
    // A fixed wait: the test counts attempts in a period of time.
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS))
    const all = fakes.map((fake) => fake.times.map((time) => time - begunAt))
    for (const [n, times] of all.entries()) {
      const { cpuMs } = await endHub(hubs[n]?.hub as HubProcess)
      expect(times.length).toBeLessThanOrEqual(MAX_ATTEMPTS)
      expect(times.filter((time) => time > WATCH_MS / 2).length).toBeLessThanOrEqual(MAX_ATTEMPTS / 2)
      expect(times.filter((time) => time > 300)).not.toEqual([])
      expect(cpuMs - (before[n]?.cpuMs ?? 0)).toBeLessThan(WATCH_MS / 3)
    }
    // Neither the two connections of a hub nor the hubs keep step.
    const late = all.flat().filter((time) => time > 300)
    const alone = late.filter((time) => late.every((other) => other === time || Math.abs(other - time) > 10))
    expect(alone.length).toBeGreaterThan(late.length / 4)
  })

  it('is tried again until it is there, without a restart of the process', async () => {
    const redis = await startRedis()
    await redis.kill()
    const { hub, events } = await beginHub(redis.url)
    expect(await hub.ask('once', { channel: 'c', data: 'x' })).toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE' })
    await redis.run()
    await until(() => hub.progress.isHealthy, 'the hub is healthy')
    const client = await (await TestClient.open(events)).live()
    expect(await hub.ask('once', { channel: 'c', data: 'y' })).toMatchObject({ id: expect.any(String) as string })
    await client.received(1)
    expect(client.channelEvents[0]?.data).toBe('y')
    client.leave()
    await endHub(hub)
  })

  it('is used as soon as it accepts the password', async () => {
    const redis = await startGuarded('another')
    const { hub, events } = await beginHub(`redis://:${PASSWORD}@127.0.0.1:${redis.port}`)
    expect(await hub.ask('once', { channel: 'c', data: 'x' })).toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE' })
    const admin = new Redis(`redis://:another@127.0.0.1:${redis.port}`)
    await admin.config('SET', 'requirepass', PASSWORD)
    admin.disconnect()
    await until(() => hub.progress.isHealthy, 'the hub is healthy')
    const client = await (await TestClient.open(events)).live()
    await hub.ask('once', { channel: 'c', data: 'y' })
    await client.received(1)
    client.leave()
    await endHub(hub)
  })

  it('leaves streams open, which resume when it is back', async () => {
    const redis = await startRedis('--save', '', '--appendonly', 'yes', '--appendfsync', 'always')
    const { hub, events } = await beginHub(redis.url, { durable: true })
    const clients = await Promise.all([1, 2, 3].map(async () => (await TestClient.open(events)).live()))
    await hub.ask('once', { channel: 'c', data: 'before' })
    await redis.kill()
    expect(await hub.ask('once', { channel: 'c', data: 'never' })).toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE' })
    await until(() => !hub.progress.isHealthy, 'the hub is unhealthy')
    const comments = clients.map((client) => client.comments.length)
    await until(() => clients.every((client, n) => client.comments.length >= (comments[n] ?? 0) + 3), 'they are kept alive')
    await redis.run()
    await until(() => hub.progress.isHealthy, 'the hub is healthy')
    await hub.ask('once', { channel: 'c', data: 'after' })
    for (const client of clients) {
      await client.received(2)
      expect(client.channelEvents.map(({ data }) => data)).toEqual(['before', 'after'])
      expect(client.named('stream-reset')).toEqual([])
      expect(client.ended).toBe(false)
      client.leave()
    }
    await endHub(hub)
  })
})
