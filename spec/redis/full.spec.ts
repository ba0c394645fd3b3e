import { Redis } from 'ioredis'
import type { Hub } from '../../lib/index.ts'
import { until } from '../support/client.ts'
import { FakeConnection } from '../support/fake-connection.ts'
import { subscribeTo } from '../support/subscribe.ts'
import { RedisProxy } from '../support/failures/redis-proxy.ts'
import { describeRedis, RedisServer, redisHub } from '../support/redis.ts'

const OPTIONS = { probeMs: 50, timeoutMs: 2_000 }

async function subscribe(hub: Hub, lastEventId: string, owner: string): Promise<FakeConnection> {
  const connection = new FakeConnection()
  const refusal = await subscribeTo(hub, ['a'], connection, lastEventId, { owner })
  if (refusal !== undefined) throw new Error(`refused: ${refusal.reason}`)
  return connection
}

const dataOf = (connection: FakeConnection): number[] => connection.channelEvents.map(({ data }) => Number(data))
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, n) => from + n)

describeRedis('a Redis that is full and evicts nothing', () => {
  let server: RedisServer
  let redis: Redis
  const hubs: Hub[] = []
  const errors: unknown[] = []
  const hubOf = (url = server.url): Hub => {
    hubs.push(redisHub('p', { maxSubscribersPerOwner: 2, onError: (error) => void errors.push(error) }, OPTIONS, url))
    return hubs.at(-1) as Hub
  }

  beforeEach(async () => {
    server = await RedisServer.start('--save', '', '--appendonly', 'no', '--maxmemory-policy', 'noeviction')
    redis = new Redis(server.url)
  })

  afterEach(async () => {
    await Promise.all(hubs.splice(0).map((hub) => hub.close()))
    redis.disconnect()
    await server.stop()
    errors.length = 0
  })

  const used = async (): Promise<number> => Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1])

  /** Fills the memory of Redis, then lowers its limit a little below that. */
  async function fill(): Promise<void> {
    await redis.config('SET', 'maxmemory', (await used()) + 20_000_000)
    for (let n = 0, isFull = false; !isFull; n++) {
      isFull = await redis.set(`filler:${n}`, 'x'.repeat(1_000_000)).then(
        () => false,
        () => true,
      )
    }
    await redis.config('SET', 'maxmemory', (await used()) - 5_000_000)
  }

  async function free(): Promise<void> {
    await redis.unlink(...(await redis.keys('filler:*')))
  }

  /** Waits until the hubs have probed a few times, and checks that they stay healthy. */
  async function probed(): Promise<void> {
    const reads = async (): Promise<number> => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1])
    for (const end = (await reads()) + 6 * hubs.length; (await reads()) < end;) {
      expect(hubs.map((hub) => hub.health())).toEqual(hubs.map(() => true))
    }
  }

  it('accepts no event, but serves reconnects, disconnects, limits and health; later events reach everyone', async () => {
    const [one, two] = [hubOf(), hubOf()]
    const stream = await subscribe(one, '', 'u')
    const ids: string[] = []
    for (const n of numbers(0, 10)) ids.push(await one.publish('a', 'e', n))
    await fill()
    for (const hub of [one, two]) {
      await expect(hub.publish('a', 'e', 'too much')).rejects.toMatchObject({
        code: 'SSE_BACKPLANE_UNAVAILABLE',
        message: expect.stringContaining('OOM') as string,
      })
    }
    await probed()
    // A process that starts now works too.
    const three = hubOf()
    const late = await subscribe(three, ids[3] as string, 'v')
    expect(dataOf(late)).toEqual(numbers(4, 10))
    await subscribe(two, '', 'v')
    await expect(subscribe(one, '', 'v')).rejects.toThrow('refused: maxSubscribersPerOwner')
    await until(() => hubs.every((hub) => hub.health()), 'all are healthy')
    expect(await two.disconnect('u')).toBe(1)
    expect(stream.isOpen).toBe(false)
    expect(await three.stats({ all: true })).toMatchObject({ processes: 3, missing: 0, subscribers: 2 })
    await probed()
    const back = await subscribe(two, ids[9] as string, 'u')
    await free()
    for (const n of numbers(10, 20)) await three.publish('a', 'e', n)
    await until(() => [late, back].every((each) => dataOf(each).at(-1) === 19), 'every event has arrived')
    expect([dataOf(stream), dataOf(late), dataOf(back)]).toEqual([numbers(0, 10), numbers(4, 20), numbers(10, 20)])
    expect([stream, late, back].flatMap(({ events }) => events.filter(({ event }) => event === 'stream-reset'))).toEqual([])
    expect(errors).toEqual([])
  })

  it('receives the number of streams that an owner has left when it is back', async () => {
    const proxy = new RedisProxy(server.port)
    const hub = hubOf(await proxy.listen())
    const streams = [await subscribe(hub, '', 'u'), await subscribe(hub, '', 'u')]
    await fill()
    proxy.cut()
    await until(() => !hub.health(), 'the outage is noticed')
    streams[0]?.leave()
    proxy.mend()
    await until(() => hub.health(), 'it is back')
    const end = Date.now() + 10_000
    for (let counts: string[] = []; counts.join() !== '1'; counts = await redis.hvals('{p}:owner:u')) expect(Date.now()).toBeLessThan(end)
    expect((await subscribe(hub, '', 'u')).isOpen).toBe(true)
    await hub.close()
    await proxy.close()
  })
})
