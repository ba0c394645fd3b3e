import net, { type AddressInfo } from 'node:net'
import express from 'express'
import { Redis } from 'ioredis'
import { Hub, SseError, sseMiddleware } from '../../lib/index.ts'
import { publishScript, RedisBackplane } from '../../lib/redis.ts'
import { hostWith } from '../support/backplane-host.ts'
import { TestClient, until } from '../support/client.ts'
import { FakeConnection } from '../support/fake-connection.ts'
import { subscribeTo } from '../support/subscribe.ts'
import { RedisProxy } from '../support/failures/redis-proxy.ts'
import { deleteKeys, describeRedis, freshPrefix, REDIS_URL, RedisServer, redisHub } from '../support/redis.ts'
import { sized } from '../support/scale.ts'
import { serve, stopServers } from '../support/servers.ts'
import { clockedBackplane, SET_CLOCK } from './clocked-backplane.ts'

/** Subscribes a connection without a socket. */
async function subscribe(hub: Hub, channels: readonly string[], lastEventId = '', owner?: string): Promise<FakeConnection> {
  const connection = new FakeConnection()
  const refusal = await subscribeTo(hub, channels, connection, lastEventId, { owner })
  if (refusal !== undefined) throw new Error(`refused: ${refusal.reason}`)
  return connection
}

/** Everything but intervals. */
const REAL_TIMERS = [
  'Date',
  'setImmediate',
  'clearImmediate',
  'setTimeout',
  'clearTimeout',
  'nextTick',
  'queueMicrotask',
  'performance',
  'hrtime',
] as const

describeRedis('a hub over Redis', () => {
  const prefixes: string[] = []
  const hubs: Hub[] = []
  const servers: RedisServer[] = []
  /** Starts a server for one test, which is stopped after it. */
  const startServer = async (): Promise<RedisServer> => {
    servers.push(await RedisServer.start())
    return servers.at(-1) as RedisServer
  }
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
    await Promise.all(servers.splice(0).map((server) => server.stop()))
  })

  describe('the cost in Redis', () => {
    let server: RedisServer
    beforeAll(async () => {
      server = await RedisServer.start()
    })
    afterAll(() => server.stop())
    afterEach(() => void jest.useRealTimers())

    const calls = async (): Promise<Record<string, number>> => {
      const text = String(await server.command('INFO', 'commandstats'))
      return Object.fromEntries([...text.matchAll(/cmdstat_(\w+):calls=(\d+)/g)].map(([, name = '', count]) => [name, Number(count)]))
    }

    it('is one subscription for all streams of a channel, and none a while after the last one has ended', async () => {
      // The interval of the sweep that drops unused channels is fake. The timers that wait for Redis are real.
      jest.useFakeTimers({ doNotFake: [...REAL_TIMERS] })
      const name = prefix()
      const hub = hubOf(name, {}, {}, server.url)
      const connections = await Promise.all(Array.from({ length: 50 }, () => subscribe(hub, ['a', 'b'])))
      expect(await server.command('PUBSUB', 'NUMSUB', `{${name}}:channel:a`, `{${name}}:channel:b`)).toEqual([
        `{${name}}:channel:a`,
        1,
        `{${name}}:channel:b`,
        1,
      ])
      const { subscribe: commands } = await calls()
      // One on connecting, and one for both channels.
      expect(commands).toBe(2)
      for (const connection of connections) connection.leave()
      const again = await subscribe(hub, ['a'])
      expect((await calls())['subscribe']).toBe(2)
      again.leave()
      // The hub's clock is ten seconds later.
      const later = performance.now() + 10_000
      const now = jest.spyOn(performance, 'now').mockImplementation(() => later)
      try {
        jest.advanceTimersByTime(2_500)
        await until(() => hub.stats().channels === 0, 'the channels are forgotten')
      } finally {
        now.mockRestore()
      }
      expect(await server.command('PUBSUB', 'NUMSUB', `{${name}}:channel:a`, `{${name}}:channel:b`)).toEqual([
        `{${name}}:channel:a`,
        0,
        `{${name}}:channel:b`,
        0,
      ])
    })

    it('is one read of each channel for a storm of reconnects', async () => {
      const name = prefix()
      const writer = hubOf(name, {}, {}, server.url)
      const id = await writer.publish('a', 'e', 0)
      for (let n = 1; n <= 100; n++) await writer.publish(n % 2 ? 'a' : 'b', 'e', n)
      await server.command('CONFIG', 'RESETSTAT')
      const hub = hubOf(name, {}, { probeMs: 5_000 }, server.url)
      const connections = await Promise.all(Array.from({ length: sized(5_000, 1_000) }, () => subscribe(hub, ['a', 'b', 'never'], id)))
      await until(() => hub.stats().delivered === connections.length * 100, 'every stream has every event')
      for (const connection of [connections[0], connections.at(-1)]) {
        expect(connection?.channelEvents.map(({ data }) => Number(data))).toEqual(Array.from({ length: 100 }, (_, i) => i + 1))
      }
      const { xrange, subscribe: commands, evalsha = 0 } = await calls()
      // One on connecting, and one for the channels.
      expect({ xrange, commands }).toEqual({ xrange: 2, commands: 2 })
      // The reads of both hubs, and their probes.
      expect(evalsha).toBeLessThan(20)
      for (const connection of connections) connection.leave()
    })

    it('is one command per publish, sent without a wait for the previous answers', async () => {
      const name = prefix()
      const ports = { redis: server.port }
      // A proxy between the hub and Redis, which can hold back all answers.
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
        for (const [socket, other] of [
          [client, redis],
          [redis, client],
        ] as const) {
          socket.on('error', () => {}).on('close', () => other.destroy())
        }
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

  it('counts the streams of an owner in all processes, except those of a dead process', async () => {
    const name = prefix()
    const redis = new Redis(REDIS_URL)
    const make = (): Hub => {
      const hub = new Hub({
        maxSubscribersPerOwner: 3,
        backplane: clockedBackplane({ prefix: name, probeMs: 50 }, { time: SET_CLOCK }),
      })
      hubs.push(hub)
      return hub
    }
    let now = 1_800_000_000_000_000
    await redis.set(`{${name}}:now`, now)
    const [one, two] = [make(), make()]
    const first = await subscribe(one, ['a'], '', 'u')
    await subscribe(two, ['a'], '', 'u')
    await subscribe(two, ['a'], '', 'u')
    await expect(subscribe(one, ['a'], '', 'u')).rejects.toThrow('refused: maxSubscribersPerOwner')
    await expect(subscribe(two, ['a'], '', 'u')).rejects.toThrow('refused: maxSubscribersPerOwner')
    await subscribe(one, ['a'], '', 'somebody else')
    first.leave()
    await until(() => one.stats().subscribers === 1, 'the first has left')
    await subscribe(one, ['a'], '', 'u')
    // A process that crashed has left its count, and no longer probes.
    await redis.hset(`{${name}}:owner:w`, 'crashed', 3)
    await redis.zadd(`{${name}}:processes`, now / 1_000 + 150, 'crashed')
    await expect(subscribe(one, ['a'], '', 'w')).rejects.toThrow('refused: maxSubscribersPerOwner')
    now += 200_000
    await redis.set(`{${name}}:now`, now)
    await subscribe(one, ['a'], '', 'w')
    // If it was only busy, its streams count again at once.
    await redis.zadd(`{${name}}:processes`, now / 1_000 + 150, 'crashed')
    await expect(subscribe(one, ['a'], '', 'w')).rejects.toThrow('refused: maxSubscribersPerOwner')
    now += 181_000_000
    await redis.set(`{${name}}:now`, now)
    for (let score: string | null = ''; score !== null; score = await redis.zscore(`{${name}}:processes`, 'crashed'));
    await subscribe(one, ['a'], '', 'w')
    expect(await redis.hvals(`{${name}}:owner:w`)).toEqual(['2'])
    // The streams of a process that closes no longer count.
    await two.close()
    await subscribe(one, ['a'], '', 'u')
    await subscribe(one, ['a'], '', 'u')
    redis.disconnect()
  })

  it('applies the limit to its own streams while Redis cannot count', async () => {
    const server = await startServer()
    const hub = hubOf(prefix(), { maxSubscribersPerOwner: 2, onError() {} }, { timeoutMs: 2_000 }, server.url)
    await subscribe(hub, ['a'], '', 'u')
    await server.kill()
    await until(() => !hub.health(), 'it is noticed')
    await subscribe(hub, ['a'], '', 'u')
    await expect(subscribe(hub, ['a'], '', 'u')).rejects.toThrow('refused: maxSubscribersPerOwner')
    await hub.close()
  })

  it('ends the streams of an owner in every process, and rejects if one did not answer', async () => {
    const name = prefix()
    const [one, two] = [hubOf(name), hubOf(name)]
    const here = await subscribe(one, ['a'], '', 'u')
    const there = await subscribe(two, ['a'], '', 'u')
    const other = await subscribe(two, ['a'], '', 'v')
    expect(await one.disconnect('u')).toBe(2)
    expect([here, there, other].map(({ isOpen }) => isOpen)).toEqual([false, false, true])
    // A process that counts as alive, but does not answer.
    const redis = new Redis(REDIS_URL)
    await redis.zadd(`{${name}}:processes`, Date.now() + 5_000, 'silent')
    const error: unknown = await one.disconnect('v').catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SseError)
    expect(error).toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE', status: 503, message: expect.stringContaining('1 of 3') as string })
    expect(other.isOpen).toBe(false)
    expect(await two.stats({ all: true })).toMatchObject({ processes: 2, missing: 1, subscribers: 0 })
    redis.disconnect()
  })

  describe('a process that was away during a disconnect', () => {
    let server: RedisServer
    let proxy: RedisProxy
    beforeEach(async () => {
      server = await RedisServer.start()
      proxy = new RedisProxy(server.port)
    })
    afterEach(async () => {
      await Promise.all(hubs.splice(0).map((hub) => hub.close()))
      await proxy.close()
      await server.stop()
    })

    /** A process whose connections can be cut, with one stream that has an owner and one without, and another process. */
    async function away(): Promise<{ hub: Hub; other: Hub; keyed: FakeConnection; unkeyed: FakeConnection }> {
      const name = prefix()
      const options = { probeMs: 50, timeoutMs: 5_000 }
      const limits = { maxSubscribersPerOwner: 1 }
      const [hub, other] = [
        hubOf(name, { ...limits, onError() {} }, options, await proxy.listen()),
        hubOf(name, limits, options, server.url),
      ]
      const [keyed, unkeyed] = [await subscribe(hub, ['a'], '', 'u'), await subscribe(hub, ['a'])]
      await until(() => other.health(), 'the other is there')
      proxy.cut()
      await until(() => !hub.health(), 'the outage is noticed')
      return { hub, other, keyed, unkeyed }
    }

    it('ends the streams with an owner when it is back, even if a newcomer waits for that', async () => {
      const { hub, other, keyed, unkeyed } = await away()
      await expect(other.disconnect('u')).rejects.toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE' })
      const newcomer = subscribe(hub, ['b'])
      proxy.mend()
      await until(() => !keyed.isOpen, 'the stream with an owner is ended')
      expect([unkeyed.isOpen, (await newcomer).isOpen]).toEqual([true, true])
    })

    it('does so if Redis lost all its data meanwhile', async () => {
      const { other, keyed, unkeyed } = await away()
      await server.command('FLUSHALL')
      // The other process is the only one in the new epoch.
      expect(await other.disconnect('u')).toBe(0)
      proxy.mend()
      await until(() => !keyed.isOpen, 'the stream with an owner is ended')
      expect(unkeyed.isOpen).toBe(true)
    })

    it('receives all control messages in order when it is back', async () => {
      const { hub, other, keyed, unkeyed } = await away()
      await Promise.allSettled([other.disconnect('u'), other.disconnect({ channel: 'a' }, { reconnect: false })])
      proxy.mend()
      await until(() => !unkeyed.isOpen, 'the stream that has no owner is ended by its channel')
      expect([keyed.isOpen, hub.stats().subscribers]).toEqual([false, 0])
    })

    it('ends every stream that may have been meant if Redis no longer has the control messages', async () => {
      const { other, keyed, unkeyed } = await away()
      await expect(other.disconnect('nobody')).rejects.toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE' })
      for (const key of String(await server.command('KEYS', '*:control-log:*')).split(/\s+/)) await server.command('DEL', key)
      proxy.mend()
      await until(() => !keyed.isOpen && !unkeyed.isOpen, 'both are ended')
    })

    it('reports the streams that have ended meanwhile when it is back', async () => {
      const { hub, other, keyed } = await away()
      await expect(subscribe(other, ['a'], '', 'u')).rejects.toThrow('refused: maxSubscribersPerOwner')
      keyed.leave()
      proxy.mend()
      await until(() => hub.health(), 'it is back')
      expect((await subscribe(other, ['a'], '', 'u')).isOpen).toBe(true)
    })

    it('ends no stream if there was no disconnect', async () => {
      const { hub, other, keyed } = await away()
      await other.publish('a', 'e', 'meanwhile')
      await other.stats({ all: true })
      proxy.mend()
      await until(() => hub.health(), 'it is back')
      await until(() => keyed.channelEvents.length === 1, 'it has caught up')
      // That holds after a few probes too.
      await other.publish('a', 'e', 'after')
      await until(() => keyed.channelEvents.length === 2, 'it goes on')
      expect(keyed.isOpen).toBe(true)
    })
  })

  it('refuses a stream whose owner is disconnected while it is prepared', async () => {
    const name = prefix()
    const [one, two] = [hubOf(name, {}), hubOf(name, {})]
    await until(() => one.health() && two.health(), 'both are there')
    const refused = await Promise.all(
      Array.from({ length: 10 }, async (_, n) => {
        const waiting = subscribe(two, [`fresh ${n}`], '', `user ${n}`).then(
          () => 'let in',
          () => 'refused',
        )
        expect(await (n % 2 ? one : two).disconnect(`user ${n}`)).toBe(0)
        return waiting
      }),
    )
    expect(refused).toEqual(refused.map(() => 'refused'))
    const waiting = subscribe(two, ['another'], '', 'user').then(
      () => 'let in',
      () => 'refused',
    )
    await two.disconnect(({ channels }) => channels.includes('another'))
    expect(await waiting).toBe('refused')
    // The owner may subscribe again.
    expect((await subscribe(two, ['fresh 1'], '', 'user 1')).isOpen).toBe(true)
  })

  it('resumes events of a worker without subscribers over HTTP, whichever process the client reconnects to', async () => {
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

  it('delivers events that another program publishes with the script', async () => {
    const redis = new Redis(REDIS_URL)
    const name = prefix()
    const hub = hubOf(name)
    const events = hub.events(['a b', 'log'])
    const id = await hub.publish('log', 'e', 'first')
    expect((await events.next()).value).toMatchObject({ id, data: 'first' })
    const serverRunId = /run_id:(\w+)/.exec(await redis.info('server'))?.[1] ?? ''
    const publish = (...args: string[]): Promise<unknown> => redis.eval(publishScript, 1, `{${name}}`, serverRunId, 'abcdefghij', ...args)
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

  it('does not reveal the password of an invalid URL', () => {
    expect(() => new RedisBackplane({ url: 'http://user:secret@127.0.0.1' })).toThrow(
      expect.not.objectContaining({ message: expect.stringContaining('secret') as string }),
    )
  })

  it('shares nothing with a hub of the same prefix in another database', async () => {
    const name = prefix()
    const [one, two] = [hubOf(name), hubOf(name, {}, {}, `${REDIS_URL}/1`)]
    const streams = [await subscribe(one, ['a'], '', 'u'), await subscribe(two, ['a'], '', 'u')]
    await one.publish('a', 'e', 'of one')
    await two.publish('a', 'e', 'of two')
    expect(await one.stats({ all: true })).toMatchObject({ processes: 1, missing: 0 })
    expect(await two.disconnect('u')).toBe(1)
    expect(streams.map((stream) => [stream.isOpen, stream.channelEvents.map(({ data }) => data)])).toEqual([
      [true, ['of one']],
      [false, ['of two']],
    ])
    await deleteKeys([`${name}:1`], `${REDIS_URL}/1`)
  })

  it('reports a text that is not a control message of a hub, and goes on', async () => {
    const name = prefix()
    const errors: unknown[] = []
    const hub = hubOf(name, { onError: (error) => void errors.push(error) })
    const stream = await subscribe(hub, ['a'])
    const redis = new Redis(REDIS_URL)
    const epoch = await redis.hget(`{${name}}`, 'epoch')
    const texts = ['', 'x', `${epoch} 0\nno json`, `${epoch} 0\n{"id":1,"from":"x","request":{"kind":"disconnect","target":{}}}`]
    for (const text of texts) await redis.publish(`{${name}}:control`, text)
    // A request of a later version gets no answer.
    await redis.publish(`{${name}}:control`, `${epoch} 0\n{"id":2,"from":"x","request":{"kind":"weather"}}`)
    await hub.publish('a', 'e', 'on')
    await until(() => stream.channelEvents.length === 1, 'it goes on')
    await until(() => errors.length >= texts.length, 'all were reported')
    expect(errors).toHaveLength(texts.length)
    redis.disconnect()
  })

  it('asks Redis once for all clients with ids of unknown epochs', async () => {
    const server = await startServer()
    const hub = hubOf(prefix(), {}, { probeMs: 5_000 }, server.url)
    await subscribe(hub, ['a'])
    await server.command('CONFIG', 'RESETSTAT')
    for (let n = 0; n < 100; n++) {
      const stream = await subscribe(hub, ['a'], '0123456789-1800000000000000/a')
      expect(stream.events.filter(({ event }) => event === 'stream-reset')).toHaveLength(1)
      stream.leave()
    }
    const ids = Array.from({ length: 100 }, (_, n) => `${String(n).padStart(10, 'x')}-1800000000000000/a`)
    const streams = await Promise.all(ids.map((id) => subscribe(hub, ['a'], id)))
    for (const stream of streams) stream.leave()
    const text = String(await server.command('INFO', 'commandstats'))
    expect(Number(/cmdstat_evalsha:calls=(\d+)/.exec(text)?.[1])).toBeLessThan(8)
    await hub.close()
  })

  it('begins events() and streams without an id after the events that it has published', async () => {
    const hub = hubOf(prefix())
    const consumer = await subscribe(hub, ['a'])
    for (let n = 0; n < 50; n++) {
      await hub.publish('a', 'e', `before ${n}`)
      const events = hub.events(['a'])
      const stream = subscribe(hub, ['a'])
      await hub.publish('a', 'e', `after ${n}`)
      expect((await events.next()).value).toMatchObject({ data: `after ${n}` })
      await events.return()
      const connection = await stream
      await until(() => connection.channelEvents.length > 0, 'the stream has something')
      expect(connection.channelEvents[0]?.data).toBe(`after ${n}`)
      connection.leave()
    }
    // A stream that begins late may receive the last event a turn earlier.
    await until(() => consumer.channelEvents.length >= 100, 'the consumer has all')
    expect(consumer.channelEvents.length).toBe(100)
  })

  it('has the lastEventId of events() from the beginning, and after a failure', async () => {
    const server = await startServer()
    const hub = hubOf(prefix(), { onError() {} }, { timeoutMs: 1_000 }, server.url)
    const id = await hub.publish('a', 'e', 1)
    const events = hub.events(['a'], { lastEventId: id })
    expect(events.lastEventId).toBe(id)
    await server.kill()
    const failing = hub.events(['never used'], { lastEventId: id })
    await expect(failing.next()).rejects.toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE' })
    expect(failing.lastEventId).toBe(id)
    await hub.close()
  })

  it('keeps counting the streams of an owner while Redis is away, and after Redis lost the counts', async () => {
    const server = await startServer()
    const name = prefix()
    const options = { maxSubscribersPerOwner: 2, onError() {} }
    const [one, two] = [
      hubOf(name, options, { probeMs: 50, timeoutMs: 2_000 }, server.url),
      hubOf(name, options, { probeMs: 50, timeoutMs: 2_000 }, server.url),
    ]
    const count = async (): Promise<number> =>
      ((await server.command('HVALS', `{${name}}:owner:u`)) as string[]).reduce((sum, value) => sum + Number(value), 0)
    const counted = async (wanted: number): Promise<void> => {
      for (const end = performance.now() + 10_000; (await count()) !== wanted;) expect(performance.now()).toBeLessThan(end)
    }
    const streams = [await subscribe(one, ['a'], '', 'u'), await subscribe(two, ['a'], '', 'u')]
    await expect(subscribe(one, ['a'], '', 'u')).rejects.toThrow('refused: maxSubscribersPerOwner')
    // One stream ends while Redis cannot be reached, and one more is accepted.
    server.signal('SIGSTOP')
    streams[0]?.leave()
    await until(() => !one.health(), 'it is away')
    const more = await subscribe(one, ['a'], '', 'u')
    streams[1]?.leave()
    server.signal('SIGCONT')
    await until(() => one.health() && two.health(), 'it is back')
    await counted(1)
    // The limit is exact again.
    const again = await subscribe(two, ['a'], '', 'u')
    await expect(subscribe(two, ['a'], '', 'u')).rejects.toThrow('refused: maxSubscribersPerOwner')
    await server.command('FLUSHALL')
    await counted(2)
    more.leave()
    again.leave()
    await counted(0)
    expect(await server.command('KEYS', `{${name}}:owner:*`)).toEqual([])
    await Promise.all([one.close(), two.close()])
  })

  it('does not begin if INFO does not reveal the run id of the server, unless it is durable', async () => {
    const server = await startServer()
    await server.command('ACL', 'SETUSER', 'limited', 'on', '>pw', '~*', '&*', '+@all', '-info')
    const url = server.url.replace('//', '//limited:pw@')
    const errors: string[] = []
    // The ready check of ioredis logs a warning.
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {})
    const hub = hubOf(prefix(), { onError: (error) => void errors.push(String(error)) }, { timeoutMs: 200 }, url)
    await expect(hub.publish('a', 'e', 1)).rejects.toMatchObject({
      code: 'SSE_BACKPLANE_UNAVAILABLE',
      message: expect.stringContaining('INFO') as string,
    })
    expect(hub.health()).toBe(false)
    expect(errors.join()).toContain('durable')
    const durable = hubOf(prefix(), {}, { durable: true }, url)
    await durable.publish('a', 'e', 1)
    expect(durable.stats().published).toBe(1)
    await Promise.all([hub.close(), durable.close()])
    warn.mockRestore()
  })

  it('keeps receiving the other channels when one is unwatched and watched again at once', async () => {
    const backplane = new RedisBackplane({ url: REDIS_URL }, { prefix: prefix() })
    const received: string[] = []
    const host = hostWith({ event: (_, channel) => void received.push(channel) })
    backplane.open(host)
    await backplane.watch(['a', 'b'])
    backplane.unwatch(['a'])
    await backplane.watch(['a'])
    const bounds = { maxEvents: 10, maxBytes: 1_000, maxAgeMs: 1_000, latestPerKey: false }
    for (const channel of ['b', 'a']) {
      await backplane.publish({ channel, event: 'e', text: 'x', isString: true, key: undefined, idempotencyKey: undefined, bounds })
    }
    await until(() => received.length === 2, 'both are received')
    expect(received).toEqual(['b', 'a'])
    await backplane.close()
  })

  it.each([
    [[{}], TypeError, 'url'],
    [[{ url: '' }], TypeError, 'begin with redis:'],
    [[{ url: 'redis://127.0.0.1/abc' }], TypeError, 'number of a database'],
    [[{ client: { duplicate() {}, options: {} } }], TypeError, 'client must be'],
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
  ])('refuses invalid options: %j', (args, type, text) => {
    const make = (): unknown => new RedisBackplane(...(args as unknown as ConstructorParameters<typeof RedisBackplane>))
    expect(make).toThrow(type)
    expect(make).toThrow(text)
  })

  it('refuses an object that is not a backplane, and a backplane of another hub', () => {
    expect(() => new Hub({ backplane: {} as never })).toThrow('backplane must be a Backplane')
    const backplane = new RedisBackplane({ url: REDIS_URL }, { prefix: prefix() })
    hubs.push(new Hub({ backplane }))
    expect(() => new Hub({ backplane })).toThrow('belongs to one hub')
  })
})
