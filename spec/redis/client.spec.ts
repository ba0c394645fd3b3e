import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import { Hub, type HubOptions } from '../../lib/index.ts'
import { RedisBackplane, type RedisConnection } from '../../lib/redis.ts'
import { until } from '../support/client.ts'
import { FakeConnection } from '../support/fake-connection.ts'
import { subscribeTo } from '../support/subscribe.ts'
import { deleteKeys, describeRedis, freshPrefix, REDIS_URL } from '../support/redis.ts'

async function subscribe(hub: Hub, channels: readonly string[], owner?: string): Promise<FakeConnection> {
  const connection = new FakeConnection()
  const refusal = await subscribeTo(hub, channels, connection, '', { owner })
  if (refusal !== undefined) throw new Error(`refused: ${refusal.reason}`)
  return connection
}

const dataOf = (connection: FakeConnection): string[] => connection.channelEvents.map(({ data }) => data)

describeRedis.each([
  ['ioredis 6', (options: object) => new Redis(REDIS_URL, options)],
  ['ioredis 5', (options: object) => new Redis5(REDIS_URL, options)],
] as const)('a client of %s', (_, makeClient) => {
  const hubs: Hub[] = []
  const clients: { disconnect(): void }[] = []
  const admin = new Redis(REDIS_URL, { lazyConnect: true })
  let prefix = ''

  const clientOf = (options: object = {}): Redis | Redis5 => {
    const client = makeClient(options)
    clients.push(client)
    return client
  }
  const hubOver = (connection: RedisConnection, options: HubOptions = {}): Hub => {
    hubs.push(new Hub({ ...options, backplane: new RedisBackplane(connection, { prefix }) }))
    return hubs.at(-1) as Hub
  }

  beforeEach(() => (prefix = freshPrefix()))

  afterEach(async () => {
    await Promise.all(hubs.splice(0).map((hub) => hub.close()))
    for (const client of clients.splice(0)) client.disconnect()
    await deleteKeys([prefix])
  })
  afterAll(() => admin.disconnect())

  it('provides its options, and is not used itself', async () => {
    const client = clientOf({ enableOfflineQueue: true })
    const hub = hubOver({ client })
    const events = hub.events(['a'])
    // The iterator must deliver everything that this process publishes from now on, connected or not.
    await hub.publish('a', 'e', 1)
    expect((await events.next()).value).toMatchObject({ event: 'e', data: 1 })
    await hub.close()
    expect(await client.ping()).toBe('PONG')
  })

  it('keeps hubs apart by its keyPrefix: their events, idempotency keys, owners and processes', async () => {
    const limits = { maxSubscribersPerOwner: 1 }
    const all = ['one:', '{two}:', ''].map((keyPrefix) => hubOver({ client: clientOf({ keyPrefix }) }, limits))
    all.push(hubOver({ url: `${REDIS_URL}?keyPrefix=three:` }, limits))
    const streams = await Promise.all(all.map((hub) => subscribe(hub, ['a'], 'u')))
    const ids = await Promise.all(all.map((hub, n) => hub.publish('a', 'e', `of ${n}`, { idempotencyKey: 'once' })))
    expect(new Set(ids).size).toBe(4)
    for (const [n, hub] of all.entries()) {
      await hub.publish('a', 'e', `marker of ${n}`)
      const stream = streams[n] as FakeConnection
      await until(() => dataOf(stream).includes(`marker of ${n}`), 'the marker has arrived')
      expect(await hub.stats({ all: true })).toMatchObject({ processes: 1, missing: 0, published: 2 })
    }
    expect(streams.map(dataOf)).toEqual(all.map((_hub, n) => [`of ${n}`, `marker of ${n}`]))
    // A hub with the same keyPrefix is the same hub.
    const same = hubOver({ client: clientOf({ keyPrefix: 'one:' }) }, limits)
    await expect(subscribe(same, ['a'], 'u')).rejects.toThrow('refused: maxSubscribersPerOwner')
    const keys = await admin.keys(`*{${prefix}}*`)
    expect(keys).toEqual(expect.arrayContaining([`one:{${prefix}}`, `{two}:{${prefix}}`, `{${prefix}}`, `three:{${prefix}}`]))
  })

  it('names the connections of the hub, which otherwise have the name of the library', async () => {
    const id = prefix.slice(-8)
    const known = new Set(((await admin.client('LIST')) as string).match(/^id=\d+/gm))
    const named = hubOver({ client: clientOf({ connectionName: `app-${id}` }) })
    const unnamed = hubOver({ client: clientOf() })
    await until(() => named.health() && unnamed.health(), 'both are there')
    const lines = ((await admin.client('LIST')) as string).split('\n').filter((line) => !known.has(line.split(' ')[0] ?? ''))
    const namesOf = (line: string): string | undefined => / name=(\S*) /.exec(line)?.[1]
    const count = (name: string): number => lines.filter((line) => namesOf(line) === name).length
    // The two connections of the hub, and the client itself.
    expect(count(`app-${id}`)).toBe(3)
    expect(count('express-sse-hub')).toBeGreaterThanOrEqual(2)
  })

  it('does not change how the hub sends commands and reads replies', async () => {
    const odd = { stringNumbers: true, enableAutoPipelining: true, reconnectOnError: () => 2, socketTimeout: 100, replyMapping: 'resp3' }
    const backplane = new RedisBackplane({ client: clientOf(odd) }, { prefix })
    const hub = new Hub({ maxSubscribersPerOwner: 1, backplane })
    hubs.push(hub)
    const stream = await subscribe(hub, ['a'], 'u')
    await expect(subscribe(hub, ['a'], 'u')).rejects.toThrow('refused: maxSubscribersPerOwner')
    await hub.publish('a', 'e', 1)
    await until(() => stream.channelEvents.length === 1, 'it is delivered')
    expect(hub.stats().published).toBe(1)
    // With the client's own `reconnectOnError`, it would be sent again forever.
    const bounds = { maxEvents: 1, maxBytes: 1, maxAgeMs: 1, latestPerKey: false }
    const wrong = backplane.publish({
      channel: 'a',
      event: 'stream-x',
      text: '',
      isString: true,
      key: undefined,
      idempotencyKey: undefined,
      bounds,
    })
    await expect(wrong).rejects.toThrow('it refused')
  })
})
