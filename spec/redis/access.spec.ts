import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import { Hub } from '../../lib/index.ts'
import { RedisBackplane, type RedisConnection } from '../../lib/redis.ts'
import { until } from '../support/client.ts'
import { FakeConnection } from '../support/fake-connection.ts'
import { subscribeTo } from '../support/subscribe.ts'
import { describeRedis, RedisServer } from '../support/redis.ts'

/** Channels that begin with `!` are denied to the user `app`. */
const REFUSED = '!x'
const CHANNELS_ALLOWED = ['resetchannels', '&{p}:control', '&{p}:process:*', '&{p}:channel:[^!]*']
const KEYS_ALLOWED = ['resetkeys', '~{p}', '~{p}:[^ek]*', '~{p}:events:??????????:[^!]*', '~{p}:keys:??????????:[^!]*']

/** Subscribes a connection without a socket. Returns the reason if it is refused. */
async function subscribe(hub: Hub, channels: readonly string[], lastEventId = ''): Promise<FakeConnection | string> {
  const connection = new FakeConnection()
  const refusal = await subscribeTo(hub, channels, connection, lastEventId)
  return refusal?.reason ?? connection
}

async function stream(hub: Hub, channels: readonly string[], lastEventId = ''): Promise<FakeConnection> {
  const connection = await subscribe(hub, channels, lastEventId)
  if (typeof connection === 'string') throw new Error(`refused: ${connection}`)
  return connection
}

const dataOf = (connection: FakeConnection): string[] => connection.channelEvents.map(({ data }) => data)
const lastIdOf = (connection: FakeConnection): string => connection.events.findLast(({ id }) => id !== undefined)?.id ?? ''

describeRedis.each([
  ['ioredis 6', (url: string): RedisConnection & { readonly client?: Redis } => ({ url })],
  ['ioredis 5', (url: string): RedisConnection => ({ client: new Redis5(url, { lazyConnect: true }) })],
] as const)('a Redis that refuses one channel to its user, over %s', (_, connect) => {
  let server: RedisServer
  let admin: Redis
  const hubs: Hub[] = []
  const errors: string[] = []

  const hubOf = (user: 'app' | 'default'): Hub => {
    const connection = user === 'app' ? connect(server.url.replace('//', '//app:pw@')) : { url: server.url }
    const onError = (error: unknown): void => void errors.push((error as Error).message)
    hubs.push(new Hub({ onError, backplane: new RedisBackplane(connection, { prefix: 'p', probeMs: 50 }) }))
    return hubs.at(-1) as Hub
  }
  const allow = (...rules: readonly string[]): Promise<unknown> => admin.call('ACL', 'SETUSER', 'app', 'on', '>pw', '+@all', ...rules)
  /** The ids of the connections that receive events. */
  const subscribers = async (): Promise<string[]> => String(await admin.call('CLIENT', 'LIST', 'TYPE', 'pubsub')).match(/^id=\d+/gm) ?? []

  beforeEach(async () => {
    server = await RedisServer.start()
    admin = new Redis(server.url)
    errors.length = 0
  })

  afterEach(async () => {
    await Promise.all(hubs.splice(0).map((hub) => hub.close()))
    admin.disconnect()
    await server.stop()
  })

  it('delivers all events of the other channels while clients keep asking for that one', async () => {
    await allow('allkeys', ...CHANNELS_ALLOWED)
    const [hub, publisher] = [hubOf('app'), hubOf('default')]
    const streams = [await stream(hub, ['a', 'b']), await stream(hub, ['b'])]
    await until(() => publisher.health(), 'the publisher is there')
    const connections = await subscribers()
    const published: string[] = []
    const answers: unknown[] = []
    for (let n = 0; n < 200; n++) {
      const late = `late ${n}`
      const [refused, iterated, fresh] = await Promise.all([
        subscribe(hub, n % 2 ? ['a', REFUSED] : [REFUSED]),
        hub
          .events([REFUSED])
          .next()
          .catch((error: unknown) => error),
        stream(hub, [late]),
        publisher.publish(n % 3 ? 'b' : 'a', 'e', `${n}`),
        publisher.publish(REFUSED, 'e', `${n}`),
      ])
      answers.push(refused)
      expect(iterated).toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE', message: expect.stringMatching(/'!x'.*NOPERM/) as string })
      published.push(`${n}`)
      await publisher.publish(late, 'e', 'x')
      await until(() => dataOf(fresh).length === 1, 'a channel that is asked for beside it is live')
      fresh.leave()
    }
    await until(() => streams.every((each) => dataOf(each).includes('199')), 'the last event has arrived')
    expect(new Set(answers)).toEqual(new Set(['backplane']))
    expect(dataOf(streams[0]!)).toEqual(published)
    expect(dataOf(streams[1]!)).toEqual(published.filter((text) => Number(text) % 3 > 0))
    // No connection was replaced, and the channel was reported once.
    expect(await subscribers()).toEqual(connections)
    expect(errors).toEqual([expect.stringMatching(/^RedisBackplane: Redis at 127.0.0.1:\d+: it refuses the channel '!x': NOPERM/)])
    expect([hub.health(), hub.stats().refusals]).toEqual([true, 200])
    await allow('allchannels')
    const mended = await stream(hub, [REFUSED])
    await publisher.publish(REFUSED, 'e', 'mended')
    await until(() => dataOf(mended).length === 1, 'it is delivered')
  })

  it('stores nothing that it may not announce', async () => {
    await allow('allkeys', ...CHANNELS_ALLOWED)
    const hub = hubOf('app')
    await expect(hub.publish(REFUSED, 'e', 1)).rejects.toMatchObject({
      code: 'SSE_BACKPLANE_UNAVAILABLE',
      message: expect.stringContaining('NOPERM') as string,
    })
    expect([await admin.hexists('{p}', `channel:${REFUSED}`), await admin.keys('{p}:events:*')]).toEqual([0, []])
    await hub.publish('a', 'e', 1)
    expect(await admin.keys('{p}:events:*')).toHaveLength(1)
  })

  it('ends the streams of the channel when the right is revoked, and resumes them when it is granted again', async () => {
    await allow('allkeys', 'allchannels')
    const [hub, publisher] = [hubOf('app'), hubOf('default')]
    const [both, other] = [await stream(hub, [REFUSED, 'a']), await stream(hub, ['a'])]
    const events = hub.events([REFUSED])
    await publisher.publish(REFUSED, 'e', 'before')
    expect((await events.next()).value).toMatchObject({ data: 'before' })
    await until(() => dataOf(both).length === 1, 'it has arrived')
    // Redis closes the connections that have such a subscription.
    await allow(...CHANNELS_ALLOWED)
    await publisher.publish(REFUSED, 'e', 'missed')
    await publisher.publish('a', 'e', 'after')
    await until(() => dataOf(other).length === 1, 'the other goes on')
    await until(() => !both.isOpen, 'the stream of both is ended')
    await expect(events.next()).rejects.toThrow('NOPERM')
    expect(dataOf(both)).toEqual(['before'])
    expect(await subscribe(hub, ['a', REFUSED], lastIdOf(both))).toBe('backplane')
    await allow('allchannels')
    const again = await stream(hub, ['a', REFUSED], lastIdOf(both))
    expect(dataOf(again)).toEqual(['missed', 'after'])
    expect(other.isOpen).toBe(true)
  })

  it('does the same if the channel may be subscribed to, but its log may not be read', async () => {
    await allow('allchannels', 'allkeys')
    const [hub, publisher] = [hubOf('app'), hubOf('default')]
    const [both, other] = [await stream(hub, [REFUSED, 'a']), await stream(hub, ['a'])]
    await publisher.publish(REFUSED, 'e', 'before')
    await until(() => dataOf(both).length === 1, 'it has arrived')
    await allow(...KEYS_ALLOWED)
    // A later event makes the hub read what the channel has.
    await publisher.publish(REFUSED, 'e', 'between')
    await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await publisher.publish(REFUSED, 'e', 'missed')
    await until(() => !both.isOpen, 'its stream is ended')
    const published: string[] = []
    for (let n = 0; n < 50; n++) {
      const [refused] = await Promise.all([subscribe(hub, [REFUSED, 'a'], lastIdOf(both)), publisher.publish('a', 'e', `${n}`)])
      expect(refused).toBe('backplane')
      published.push(`${n}`)
    }
    await expect(hub.events([REFUSED], { lastEventId: lastIdOf(both) }).next()).rejects.toThrow(/'!x'/)
    await until(() => dataOf(other).length === 50, 'the other has all')
    expect([dataOf(other), hub.health()]).toEqual([published, true])
    expect(errors.filter((text) => text.includes("'!x'"))).toHaveLength(1)
    await allow('allkeys')
    const again = await stream(hub, ['a', REFUSED], lastIdOf(both))
    expect([...dataOf(both), ...dataOf(again)]).toEqual(['before', 'between', 'missed', ...published])
  })
})
