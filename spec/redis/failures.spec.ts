import { until } from '../support/client.ts'
import { HubProcesses } from '../support/failures/hub-processes.ts'
import { RedisProxy } from '../support/failures/redis-proxy.ts'
import { FLAWLESS, type Outcome, type Size, Trial, type TrialOptions } from '../support/failures/trial.ts'
import { describeRedis, RedisServer } from '../support/redis.ts'

/** Without `FAILURES` the load is small. `FAILURES=full` runs the full load, and `tell` prints the outcome of each test. */
const isFull = process.env['FAILURES'] === 'full'
const isTold = isFull || process.env['FAILURES'] === 'tell'
const SEED = Number(process.env['FAILURES_SEED'] ?? 1)
const SIZE: Size = isFull
  ? { processes: 4, clients: 200, events: 20_000, perSecond: 1_000, meanBytes: 60_000, patienceMs: 160_000 }
  : { processes: 3, clients: 40, events: 2_100, perSecond: 700, meanBytes: 15_000, patienceMs: 20_000 }

jest.setTimeout(isFull ? 400_000 : 60_000)

const EMPTY = ['--save', '', '--appendonly', 'no', '--enable-debug-command', 'yes']
const ALWAYS = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'always']
const EVERYSEC = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'everysec']

const pool = new HubProcesses()
const servers: RedisServer[] = []
const proxies: RedisProxy[] = []

afterEach(async () => {
  await Promise.all(proxies.splice(0).map((proxy) => proxy.close()))
  await Promise.all(servers.splice(0).map((server) => server.stop()))
})
afterAll(() => pool.stop())

/** Starts a Redis for one test. */
async function startRedis(...args: readonly string[]): Promise<RedisServer> {
  const redis = await RedisServer.start(...args)
  servers.push(redis)
  return redis
}

async function startProxy(redis: RedisServer): Promise<{ readonly proxy: RedisProxy; readonly url: string }> {
  const proxy = new RedisProxy(redis.port)
  proxies.push(proxy)
  return { proxy, url: await proxy.listen() }
}

type Options = Partial<Omit<TrialOptions, 'seed' | 'redis'>>

/** Runs a load over a Redis, and returns the outcome. */
async function load(redis: RedisServer, options: Options, failure: (trial: Trial) => Promise<void>): Promise<Outcome> {
  const outcome = await Trial.run({ size: SIZE, ...options, seed: SEED, redis }, pool, failure)
  const { currentTestName } = expect.getState()
  if (isTold) console.log(currentTestName, outcome)
  return outcome
}

/** Kills the connections of one kind: each process of the load and the trial itself have one. Returns their number. */
async function killConnections(redis: RedisServer, type: 'pubsub' | 'normal'): Promise<number> {
  return (await redis.command('CLIENT', 'KILL', 'TYPE', type)) as number
}

/** Times at which a failure happens, as parts of the load. */
const OFTEN = Array.from({ length: 10 }, (_, n) => 0.1 + n * 0.065)

const LARGE_BYTES = 32_000
/** Short limits, for failures that must last longer than `timeoutMs`. Under the full load an answer takes longer. */
const HASTY = { probeMs: 100, timeoutMs: isFull ? 1_500 : 400 }

const { processes, clients } = SIZE

describeRedis('a load of publishers and reconnecting clients', () => {
  it('is delivered if nothing fails', async () => {
    const outcome = await load(await startRedis(...EMPTY), {}, async () => {})
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, rejected: 0, recognised: 0, errors: [], lives: 1 })
  })

  it('loses nothing when the pub/sub connections break repeatedly', async () => {
    let killed = 0
    const outcome = await load(await startRedis(...EMPTY), {}, async (trial) => {
      for (const part of OFTEN) {
        await trial.reached(part)
        killed += await killConnections(trial.redis, 'pubsub')
      }
    })
    expect(killed).toBeGreaterThan(OFTEN.length)
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, rejected: 0, lives: 1 })
  })

  it('loses nothing when all connections break repeatedly', async () => {
    let killed = 0
    const outcome = await load(await startRedis(...EMPTY), {}, async (trial) => {
      for (const part of OFTEN) {
        await trial.reached(part)
        killed += (await killConnections(trial.redis, 'normal')) + (await killConnections(trial.redis, 'pubsub'))
      }
    })
    expect(killed).toBeGreaterThan(2 * OFTEN.length)
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, lives: 1 })
    expect(outcome.rejected).toBeGreaterThan(0)
  })

  it('loses nothing when Redis is busy for less and for more than timeoutMs', async () => {
    const outcome = await load(await startRedis(...EMPTY), { backplane: HASTY }, async (trial) => {
      for (const [part, times] of [
        [0.15, 0.5],
        [0.35, 2.5],
        [0.55, 0.5],
      ] as const) {
        await trial.reached(part)
        await trial.redis.command('DEBUG', 'SLEEP', (times * HASTY.timeoutMs) / 1_000)
      }
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, lives: 1 })
    expect(outcome.rejected).toBeGreaterThan(0)
  })

  it('loses nothing, and is unhealthy, when Redis stops for longer than the probe', async () => {
    const outcome = await load(await startRedis(...EMPTY), { backplane: HASTY }, async (trial) => {
      await trial.reached(0.3)
      expect(trial.processes.map(({ progress }) => progress.isHealthy)).toEqual(trial.processes.map(() => true))
      trial.redis.signal('SIGSTOP')
      await trial.allHealthy(false)
      await until(() => trial.rejected >= 2 * processes, 'publishers were rejected')
      trial.redis.signal('SIGCONT')
      await trial.allHealthy(true)
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, lives: 1 })
  })

  describe('when Redis crashes and restarts', () => {
    async function crash(args: readonly string[], durable: boolean): Promise<Outcome> {
      return load(await startRedis(...args), { backplane: { durable } }, async (trial) => {
        await trial.reached(0.3)
        await trial.redis.kill()
        await trial.allHealthy(false)
        await trial.redis.run()
        await trial.allHealthy(true)
      })
    }

    it.each([
      ['appendfsync always', ALWAYS],
      ['appendfsync everysec', EVERYSEC],
    ] as const)('with the data that %s kept, resets every client, because some may be gone', async (_, args) => {
      const outcome = await crash(args, false)
      expect(outcome).toMatchObject({ ...FLAWLESS, lives: 2, resets: { restarted: clients } })
    })

    it('with the data that appendfsync always kept, and durable hubs, loses nothing', async () => {
      const outcome = await crash(ALWAYS, true)
      expect(outcome).toMatchObject({ ...FLAWLESS, lives: 1, resets: {} })
    })

    it.each([false, true])('without data, resets every client (durable: %s)', async (durable) => {
      const outcome = await crash(EMPTY, durable)
      expect(outcome).toMatchObject({ ...FLAWLESS, lives: 2, resets: { restarted: clients } })
    })
  })

  it('resets every client each time Redis is flushed', async () => {
    const outcome = await load(await startRedis(...EMPTY), {}, async (trial) => {
      for (const [n, part] of [0.2, 0.5].entries()) {
        await trial.reached(part)
        await trial.redis.command('FLUSHALL')
        await trial.allReset(n + 1)
      }
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, lives: 3, resets: { restarted: 2 * clients } })
  })

  it('resets every client when Redis has lost the hash but not the streams', async () => {
    const outcome = await load(await startRedis(...EMPTY), {}, async (trial) => {
      await trial.reached(0.3)
      expect(await trial.deleteKeys('')).toBe(1)
      await trial.allReset(1)
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, lives: 2, resets: { restarted: clients } })
  })

  it('resets the clients that need the streams when Redis has lost them but not the hash', async () => {
    const away = Math.floor(clients / 4)
    const outcome = await load(await startRedis(...EMPTY), {}, async (trial) => {
      await trial.reached(0.2)
      const some = trial.clients.slice(0, away)
      for (const client of some) client.stayAway()
      await trial.reached(0.4)
      expect(await trial.deleteKeys(':events:*')).toBeGreaterThan(0)
      // The new process has to read what they missed. Other clients may reconnect to it too.
      const { port } = await trial.addProcess()
      for (const client of some) client.comeBack(port)
      await until(() => some.every(({ resets }) => resets > 0), 'the clients that were away were reset')
      for (const client of some) client.comeBack(trial.port)
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, lives: 1 })
    expect(Object.keys(outcome.resets)).toEqual(['expired'])
    expect(outcome.resets['expired']).toBeGreaterThanOrEqual(away)
    expect(outcome.resets['expired']).toBeLessThanOrEqual(clients)
    expect(outcome.covered).toBeGreaterThan(0)
  })

  it('delivers nothing twice when the answers to publishers are lost', async () => {
    const redis = await startRedis(...EMPTY)
    const { proxy, url } = await startProxy(redis)
    const outcome = await load(redis, { url }, async (trial) => {
      for (const part of OFTEN) {
        await trial.reached(part)
        proxy.loseAnswers()
      }
    })
    expect(proxy.lost).toBeGreaterThan(OFTEN.length)
    expect(outcome.recognised).toBeGreaterThan(0)
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, lives: 1 })
  })

  it('loses nothing when Redis drops connections that read too slowly', async () => {
    const redis = await startRedis(...EMPTY)
    const { proxy, url } = await startProxy(redis)
    await redis.command('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 1mb 0 0')
    // With events of that size, a connection that is cut within each of them would never reach the next.
    const size = { ...SIZE, meanBytes: 20 * LARGE_BYTES }
    // Long limits, so that the hubs do not notice it by themselves first.
    const backplane = { probeMs: 5_000, timeoutMs: 15_000 }
    const outcome = await load(redis, { size, url, backplane, large: isFull ? 1_200 : 600, largeBytes: LARGE_BYTES }, async (trial) => {
      await trial.reached(0.05)
      await trial.allHealthy(true)
      const before = await subscribersOf(redis)
      expect(before.size).toBe(processes)
      proxy.stall()
      await dropped(redis, before)
      proxy.flow()
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, rejected: 0, lives: 1 })
  })

  it('loses nothing, and is unhealthy, when connections are open but silent', async () => {
    const redis = await startRedis(...EMPTY)
    const { proxy, url } = await startProxy(redis)
    const outcome = await load(redis, { url, backplane: HASTY }, async (trial) => {
      await trial.reached(0.2)
      proxy.stall()
      await trial.allHealthy(false)
      await trial.reached(0.5)
      proxy.flow()
      await trial.allHealthy(true)
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, lives: 1 })
  })

  it('loses nothing when Redis is out of memory', async () => {
    const outcome = await load(await startRedis(...EMPTY), {}, async (trial) => {
      await trial.reached(0.3)
      await trial.redis.command('CONFIG', 'SET', 'maxmemory', 1)
      await until(() => trial.rejected >= 50 * processes, 'publishers were rejected repeatedly')
      await trial.redis.command('CONFIG', 'SET', 'maxmemory', 0)
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, lives: 1 })
    expect(Object.keys(outcome.rejections).join()).toContain('OOM')
  })

  it('does not notice that Redis has forgotten the scripts', async () => {
    const outcome = await load(await startRedis(...EMPTY), {}, async (trial) => {
      for (const part of OFTEN) {
        await trial.reached(part)
        await trial.redis.command('SCRIPT', 'FLUSH')
      }
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, rejected: 0, refused: 0, errors: [], lives: 1 })
  })

  it('begins when Redis starts, if it was not there', async () => {
    const redis = await startRedis(...EMPTY)
    await redis.kill()
    const outcome = await load(redis, { isDown: true, backplane: HASTY }, async (trial) => {
      await until(
        () => trial.rejected >= 20 && trial.clients.every(({ refusals }) => refusals > 0),
        'publishers were rejected, and clients refused',
      )
      expect(trial.processes.map(({ progress }) => progress.isHealthy)).toEqual(trial.processes.map(() => false))
      await redis.run()
      await trial.allHealthy(true)
      await trial.allBegun()
    })
    expect(outcome).toMatchObject({ ...FLAWLESS, resets: {}, lives: 1 })
  })
})

/** Ids of the connections that subscribe. */
async function subscribersOf(redis: RedisServer): Promise<Set<string>> {
  const list = (await redis.command('CLIENT', 'LIST', 'TYPE', 'pubsub')) as string
  return new Set([...list.matchAll(/^id=(\d+)/gm)].map(([, id]) => id ?? ''))
}

/** Waits until all of these connections are gone. */
async function dropped(redis: RedisServer, ids: ReadonlySet<string>): Promise<void> {
  for (const end = Date.now() + 30_000; ;) {
    const now = await subscribersOf(redis)
    if ([...ids].every((id) => !now.has(id))) return
    if (Date.now() > end) throw new Error('Redis has dropped no connection')
  }
}
