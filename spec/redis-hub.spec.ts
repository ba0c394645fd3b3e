import net, { type AddressInfo } from 'node:net'
import express from 'express'
import { Redis } from 'ioredis'
import { Hub, SseError, sseMiddleware } from '../lib/index.ts'
import { publishScript, RedisBackplane } from '../lib/redis.ts'
import { join } from '../lib/stream/subscribable.ts'
import { TestClient, until } from './support/client.ts'
import { FakeConnection } from './support/fake-connection.ts'
import { deleteKeys, describeRedis, freshPrefix, REDIS_URL, RedisServer, redisHub } from './support/redis.ts'
import { serve, stopServers } from './support/servers.ts'

/** Subscribes a connection without a socket. */
async function subscribe(hub: Hub, channels: readonly string[], lastEventId = '', key?: string): Promise<FakeConnection> {
  const connection = new FakeConnection()
  const plan = hub[join](channels, { key })
  if (plan.refusal() !== undefined || (await plan.prepare(lastEventId)) !== undefined) {
    plan.cancel()
    throw new Error('refused')
  }
  plan.start(connection.asConnection, lastEventId)
  plan.cancel()
  return connection
}

describeRedis('a hub over Redis', () => {
  const prefixes: string[] = []
  const hubs: Hub[] = []
  const prefix = (): string => {
    prefixes.push(freshPrefix())
    return prefixes.at(-1) as string
  }
  const hubOf = (...args: Parameters<typeof redisHub>): Hub => {
    hubs.push(redisHub(...args))
    return hubs.at(-1) as Hub
  }

  afterEach(async () => {
    await Promise.all(hubs.splice(0).map((hub) => hub.close()))
    await deleteKeys(prefixes.splice(0))
  })

  describe('what it costs', () => {
    let server: RedisServer
    beforeAll(async () => {
      server = await RedisServer.start()
    })
    afterAll(() => server.stop())

    const calls = async (): Promise<Record<string, number>> => {
      const text = String(await server.command('INFO', 'commandstats'))
      return Object.fromEntries([...text.matchAll(/cmdstat_(\w+):calls=(\d+)/g)].map(([, name = '', count]) => [name, Number(count)]))
    }

    it('is one subscription for all who follow the same channels, and none a while after the last has gone', async () => {
      const name = prefix()
      const hub = hubOf(name, {}, {}, server.url)
      const connections = await Promise.all(Array.from({ length: 50 }, () => subscribe(hub, ['a', 'b'])))
      expect(await server.command('PUBSUB', 'NUMSUB', `{${name}}:c:a`, `{${name}}:c:b`)).toEqual([`{${name}}:c:a`, 1, `{${name}}:c:b`, 1])
      const { subscribe: commands } = await calls()
      // One when it connected, and one for both channels.
      expect(commands).toBe(2)
      for (const connection of connections) connection.leave()
      const again = await subscribe(hub, ['a'])
      expect((await calls())['subscribe']).toBe(2)
      again.leave()
      await until(() => hub.stats().channels === 0, 'the channels are forgotten', 18_000)
      expect(await server.command('PUBSUB', 'NUMSUB', `{${name}}:c:a`, `{${name}}:c:b`)).toEqual([`{${name}}:c:a`, 0, `{${name}}:c:b`, 0])
    })

    it('is one read of each channel for a storm of reconnects', async () => {
      const name = prefix()
      const writer = hubOf(name, {}, {}, server.url)
      const id = await writer.publish('a', 'e', 0)
      for (let n = 1; n <= 100; n++) await writer.publish(n % 2 ? 'a' : 'b', 'e', n)
      await server.command('CONFIG', 'RESETSTAT')
      const hub = hubOf(name, {}, { probeMs: 5_000 }, server.url)
      const connections = await Promise.all(Array.from({ length: 5_000 }, () => subscribe(hub, ['a', 'b', 'never'], id)))
      await until(() => hub.stats().delivered === 500_000, 'all have all')
      for (const connection of [connections[0], connections[4_999]]) expect(connection?.channelEvents.map(({ data }) => Number(data))).toEqual(Array.from({ length: 100 }, (_, i) => i + 1))
      const { xrange, subscribe: commands, evalsha = 0 } = await calls()
      // One when it connected, and one for the channels.
      expect({ xrange, commands }).toEqual({ xrange: 2, commands: 2 })
      // The reads of both hubs, and what they ask now and then.
      expect(evalsha).toBeLessThan(20)
      for (const connection of connections) connection.leave()
    })

    it('is one command for each publish, sent without waiting for those before it', async () => {
      const name = prefix()
      const ports = { redis: server.port }
      // What is between the hub and Redis holds back all answers, once it is told to.
      let isHolding = false
      let seen = ''
      const held: (() => void)[] = []
      const between = net.createServer((client) => {
        const redis = net.connect(ports.redis, '127.0.0.1')
        client.on('data', (data) => {
          if (isHolding) seen += data.toString('latin1')
          redis.write(data)
        })
        redis.on('data', (data) => {
          if (isHolding) held.push(() => client.write(data))
          else client.write(data)
        })
        for (const [socket, other] of [[client, redis], [redis, client]] as const) socket.on('error', () => {}).on('close', () => other.destroy())
      })
      await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve))
      const hub = hubOf(name, {}, { probeMs: 5_000 }, `redis://127.0.0.1:${(between.address() as AddressInfo).port}`)
      await hub.publish('a', 'e', 'first')
      isHolding = true
      const publishing = Promise.all(Array.from({ length: 1_000 }, (_, n) => hub.publish('a', 'e', n)))
      await until(() => (seen.match(/evalsha/gi) ?? []).length >= 1_000, 'all have been sent')
      isHolding = false
      for (const release of held) release()
      const positions = (await publishing).map((id) => Number(/-(\d+)\//.exec(id)?.[1]))
      expect(positions).toEqual(positions.toSorted((a, b) => a - b))
      await hub.close()
      between.close()
    })
  })

  it('counts the streams of a key in all processes, and not those of a process that is gone', async () => {
    const name = prefix()
    const redis = new Redis(REDIS_URL)
    const time = "(function() local us = tonumber(redis.call('GET', base .. ':now')) return { math.floor(us / 1000000), us % 1000000 } end)()"
    const make = (): Hub => {
      const hub = new Hub({ maxSubscribersPerKey: 3, backplane: new RedisBackplane({ url: REDIS_URL }, { prefix: name, probeMs: 50 }, { time }) })
      hubs.push(hub)
      return hub
    }
    let now = 1_800_000_000_000_000
    await redis.set(`{${name}}:now`, now)
    const [one, two] = [make(), make()]
    const first = await subscribe(one, ['a'], '', 'u')
    await subscribe(two, ['a'], '', 'u')
    await subscribe(two, ['a'], '', 'u')
    await expect(subscribe(one, ['a'], '', 'u')).rejects.toThrow('refused')
    await expect(subscribe(two, ['a'], '', 'u')).rejects.toThrow('refused')
    await subscribe(one, ['a'], '', 'somebody else')
    first.leave()
    await until(() => one.stats().subscribers === 1, 'the first has left')
    await subscribe(one, ['a'], '', 'u')
    // A process that crashed: its count is there, and nothing is heard of it.
    await redis.hset(`{${name}}:l:w`, 'crashed', 3)
    await redis.zadd(`{${name}}:p`, now / 1_000, 'crashed')
    await expect(subscribe(one, ['a'], '', 'w')).rejects.toThrow('refused')
    now += 20_000_000
    await redis.set(`{${name}}:now`, now)
    await subscribe(one, ['a'], '', 'w')
    expect(await redis.hkeys(`{${name}}:l:w`)).toHaveLength(1)
    // One that closes takes its streams with it.
    await two.close()
    await subscribe(one, ['a'], '', 'u')
    await subscribe(one, ['a'], '', 'u')
    redis.disconnect()
  })

  it('lets in by the limit of its own while Redis cannot count', async () => {
    const server = await RedisServer.start()
    const hub = hubOf(prefix(), { maxSubscribersPerKey: 2, onError() {} }, { timeoutMs: 300 }, server.url)
    await subscribe(hub, ['a'], '', 'u')
    await server.kill()
    await until(() => !hub.health(), 'it is noticed')
    await subscribe(hub, ['a'], '', 'u')
    await expect(subscribe(hub, ['a'], '', 'u')).rejects.toThrow('refused')
    await hub.close()
    await server.stop()
  })

  it('ends the streams of a key in every process, and says so where one did not answer', async () => {
    const name = prefix()
    const [one, two] = [hubOf(name), hubOf(name)]
    const here = await subscribe(one, ['a'], '', 'u')
    const there = await subscribe(two, ['a'], '', 'u')
    const other = await subscribe(two, ['a'], '', 'v')
    expect(await one.disconnect('u')).toBe(2)
    expect([here, there, other].map(({ isOpen }) => isOpen)).toEqual([false, false, true])
    // A process that is taken for alive, and does not answer.
    const redis = new Redis(REDIS_URL)
    await redis.zadd(`{${name}}:p`, Date.now() + 5_000, 'silent')
    const error: unknown = await one.disconnect('v').catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SseError)
    expect(error).toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE', status: 503, message: expect.stringContaining('1 of 3') as string })
    expect(other.isOpen).toBe(false)
    expect(await two.stats({ all: true })).toMatchObject({ processes: 2, missing: 1, subscribers: 0 })
    redis.disconnect()
  })

  it('ends the streams that have a key when it returns, where the others went on without it', async () => {
    const server = await RedisServer.start()
    const name = prefix()
    const hub = hubOf(name, { onError() {} }, { timeoutMs: 500, probeMs: 100 }, server.url)
    const [keyed, unkeyed] = [await subscribe(hub, ['a'], '', 'u'), await subscribe(hub, ['a'])]
    // It cannot reach Redis for a while, in which a signal is sent, and it is forgotten.
    await server.kill()
    await until(() => !hub.health(), 'the outage is noticed')
    const now = performance.now.bind(performance)
    jest.spyOn(performance, 'now').mockImplementation(() => now() + 11_000)
    await server.run()
    await until(() => hub.health(), 'it is back')
    await until(() => !keyed.isOpen, 'the stream with a key is ended')
    expect(unkeyed.isOpen).toBe(true)
    jest.restoreAllMocks()
    await hub.close()
    await server.stop()
  })

  it('resumes over HTTP what a worker without subscribers published, in whichever process the client comes back to', async () => {
    const name = prefix()
    const worker = hubOf(name)
    const apps = await Promise.all(
      [hubOf(name), hubOf(name)].map(async (hub) => {
        const app = express().use(sseMiddleware())
        app.get('/', (_req, res) => res.sse.subscribe(hub, ['jobs']))
        return serve(app)
      }),
    )
    const [one, two] = apps.map(({ url }) => url) as [string, string]
    let client = await TestClient.open(one)
    await until(() => client.events.length === 1, 'the stream is open')
    const seen: number[] = []
    for (let n = 0; n < 20; n++) {
      await worker.publish('jobs', 'step', n)
      if (n % 5 !== 4) continue
      await until(() => client.events.some(({ data, event }) => event === 'step' && Number(data) === n), `step ${n} has come`)
      seen.push(...client.events.filter(({ event }) => event === 'step').map(({ data }) => Number(data)))
      const lastEventId = client.events.at(-1)?.id ?? ''
      client.leave()
      await worker.publish('jobs', 'step', ++n)
      client = await TestClient.open(n % 2 ? two : one, { headers: { 'last-event-id': lastEventId } })
    }
    await until(() => client.events.some(({ event }) => event === 'stream-open'), 'the last has caught up')
    seen.push(...client.events.filter(({ event }) => event === 'step').map(({ data }) => Number(data)))
    expect(seen).toEqual(Array.from({ length: seen.length }, (_, i) => i))
    expect(seen.length).toBeGreaterThan(20)
    client.leave()
    await stopServers()
  })

  it('delivers what another program publishes by the script', async () => {
    const redis = new Redis(REDIS_URL)
    const name = prefix()
    const hub = hubOf(name)
    const events = hub.events(['a b', 'log'])
    const id = await hub.publish('log', 'e', 'first')
    expect((await events.next()).value).toMatchObject({ id, data: 'first' })
    const run = /run_id:(\w+)/.exec(await redis.info('server'))?.[1] ?? ''
    const publish = (...args: string[]): Promise<unknown> => redis.eval(publishScript, 1, `{${name}}`, run, 'abcdefghij', ...args)
    const bounds = ['1000', '1048576', '300000', '0']
    const answer = await publish('a b', 'created', '{"n":1}', '0', '', 'once', ...bounds)
    const [epoch, position] = answer as [string, string, number]
    expect(await publish('a b', 'created', '{"n":1}', '0', '', 'once', ...bounds)).toEqual([epoch, position, 0])
    await publish('log', 'line', '{"n":1}', '1', '', '', ...bounds)
    expect((await events.next()).value).toEqual({ id: `${epoch}-${position}/a%20b`, channel: 'a b', event: 'created', data: { n: 1 } })
    expect((await events.next()).value).toMatchObject({ channel: 'log', event: 'line', data: '{"n":1}' })
    expect(publishScript).toContain('-- ARGV[12]')
    redis.disconnect()
  })

  it('takes the options of a client, and leaves the client alone', async () => {
    const client = new Redis(REDIS_URL, { keyPrefix: 'not used', enableOfflineQueue: true })
    const name = prefix()
    const hub = new Hub({ backplane: new RedisBackplane({ client }, { prefix: name }) })
    hubs.push(hub)
    const events = hub.events(['a'])
    // What this process publishes from now on is due, connected or not.
    await hub.publish('a', 'e', 1)
    expect((await events.next()).value).toMatchObject({ event: 'e', data: 1 })
    await hub.close()
    expect(await client.ping()).toBe('PONG')
    client.disconnect()
  })

  it.each([
    [[{}], TypeError, 'url'],
    [[{ url: '' }], TypeError, "got ''"],
    [[{ url: 'http://127.0.0.1' }], TypeError, 'redis://'],
    [[{ url: 7 }], TypeError, 'got 7'],
    [[{ client: {} }], TypeError, 'client must be'],
    [[{ uri: REDIS_URL }], TypeError, "no option 'uri'"],
    [[{ url: REDIS_URL }, { prefix: '' }], TypeError, 'prefix'],
    [[{ url: REDIS_URL }, { prefix: 'a{b}' }], TypeError, 'prefix'],
    [[{ url: REDIS_URL }, { timeoutMs: 5 }], RangeError, 'timeoutMs'],
    [[{ url: REDIS_URL }, { probeMs: 10_000 }], RangeError, 'probeMs'],
    [[{ url: REDIS_URL }, { durable: 1 }], TypeError, 'durable'],
    [[{ url: REDIS_URL }, { retries: 1 }], TypeError, "no option 'retries'"],
  ])('refuses options that are wrong: %j', (args, type, text) => {
    const make = (): unknown => new RedisBackplane(...(args as unknown as ConstructorParameters<typeof RedisBackplane>))
    expect(make).toThrow(type)
    expect(make).toThrow(text)
  })

  it('refuses a backplane that is none, and one that belongs to another hub', () => {
    expect(() => new Hub({ backplane: {} as never })).toThrow('backplane must be a Backplane')
    const backplane = new RedisBackplane({ url: REDIS_URL }, { prefix: prefix() })
    hubs.push(new Hub({ backplane }))
    expect(() => new Hub({ backplane })).toThrow('belongs to one hub')
  })
})
