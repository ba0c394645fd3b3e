import { Hub, type HubOptions, type HubStats, type SubscribeOptions } from 'express-sse-hub'
import { join } from '../../lib/hub/subscribable.ts'
import { TestClient, until } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { type HubApp, serveHub } from '../support/hub-app.ts'
import { stopServers } from '../support/servers.ts'
import { subscribe } from '../support/subscribe.ts'

afterEach(stopServers)
afterEach(() => {
  jest.useRealTimers()
})

const NOTHING: HubStats = { channels: 0, subscribers: 0, logBytes: 0, published: 0, delivered: 0, resets: 0, stalls: 0, refusals: 0 }

interface SetUpOptions extends HubOptions {
  readonly stallTimeoutMs?: number
  readonly subscribe?: SubscribeOptions
}

const setUp = ({ stallTimeoutMs = 30_000, subscribe: options, ...hub }: SetUpOptions = {}): Promise<HubApp> =>
  serveHub({ hub, sse: { stallTimeoutMs, keepAliveMs: false }, subscribe: options })

/** The bytes of the channel events that a client has received. */
const bytesOf = (text: string): number =>
  text
    .replace(/^retry: .*\n/, '')
    .split(/(?<=\n\n)/)
    .filter((block) => block.startsWith('id: ') && !/^event: stream-/m.test(block))
    .reduce((sum, block) => sum + Buffer.byteLength(block), 0)

describe('hub.stats()', () => {
  it('is zero at the start, and is not changed by handles, refused calls or queries', async () => {
    const hub = new Hub()
    expect(hub.stats()).toStrictEqual(NOTHING)
    expect(hub.channel('a').lastEventId).toBe('')
    await expect(hub.publish('a', 'e', 1n)).rejects.toThrow(/could not be serialised/)
    expect(() => hub[join]([''], {}, '')).toThrow(/channel name/)
    expect(hub[join](['a'], {}, '').refusal()).toBeUndefined()
    expect(await hub.disconnect('nobody')).toBe(0)
    expect(hub.stats()).toStrictEqual(NOTHING)
  })

  it('is a snapshot of the present counters', async () => {
    const hub = new Hub()
    const before = hub.stats()
    await hub.publish('a', 'e', 1)
    expect(before).toStrictEqual(NOTHING)
    expect(hub.stats()).not.toBe(hub.stats())
  })

  it('counts two hubs separately', async () => {
    const [one, other] = [new Hub(), new Hub()]
    subscribe(one, ['a'], 'forged')
    await one.publish('a', 'e', 1)
    await turn()
    expect(one.stats()).toMatchObject({ subscribers: 1, published: 1, delivered: 1, resets: 1 })
    expect(other.stats()).toStrictEqual(NOTHING)
  })

  it('channels: those with events or subscribers, and for a while those that had some', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] })
    const hub = new Hub({ replay: { maxAgeMs: 1_000 } })
    const connection = subscribe(hub, ['quiet', 'a', 'a'])
    expect(hub.stats().channels).toBe(2)
    const events = hub.events(['worker'])
    expect(hub.stats().channels).toBe(3)
    for (const channel of ['a', 'b', 'b']) await hub.publish(channel, 'e', 1)
    expect(hub.stats().channels).toBe(4)
    await turn()
    // A channel that never had an event is forgotten at once.
    connection.leave()
    await events.return?.()
    expect(hub.stats().channels).toBe(2)
    jest.advanceTimersByTime(900)
    expect(hub.stats().channels).toBe(2)
    jest.advanceTimersByTime(2_000)
    expect(hub.stats()).toStrictEqual({ ...NOTHING, published: 3, delivered: 1 })
  })

  it('subscribers: the streams that are subscribed now, without events()', async () => {
    const { hub, connect, subscriptions } = await setUp()
    const events = hub.events(['a'])
    const clients = await Promise.all(['channels=a,b', 'owner=ann', ''].map(async (query) => (await connect(query)).live()))
    expect(hub.stats().subscribers).toBe(3)
    clients[0]?.leave()
    await until(() => hub.stats().subscribers === 2, 'the client has left')
    expect(hub.channel('a').subscriberCount).toBe(3)
    subscriptions.find(({ isClosed }) => !isClosed)?.close()
    expect(hub.stats().subscribers).toBe(1)
    for (const client of clients) client.leave()
    await until(() => hub.stats().subscribers === 0, 'every client has left')
    await events.return?.()
    expect(hub.channel('a').subscriberCount).toBe(0)
  })

  it('subscribers: no longer those that left silently, while being ended, or during a storm', async () => {
    const { hub, connect } = await setUp()
    for (let round = 0; round < 5; round++) {
      const clients = await Promise.all(Array.from({ length: 20 }, (_, n) => connect(`owner=${n % 2}`)))
      await until(() => hub.stats().subscribers === 20, 'every client is subscribed')
      for (const [n, client] of clients.entries()) if (n % 4 === 0) client.leave()
      await hub.disconnect('1')
      await until(() => hub.stats().subscribers === 5, 'only the clients that were not ended are left')
      for (const client of clients) client.leave()
      await until(() => hub.stats().subscribers === 0, 'every client has left')
    }
    expect(hub.stats()).toStrictEqual(NOTHING)
  })

  it('subscribers: not those whose stream was ended and is still connected', async () => {
    const hub = new Hub()
    const connection = subscribe(hub, ['a'])
    expect(hub.stats().subscribers).toBe(1)
    // The client has not taken the end of its stream.
    connection.feed?.released()
    expect(hub.stats().subscribers).toBe(0)
    connection.feed?.finished()
    expect(hub.stats().subscribers).toBe(0)
  })

  it('logBytes: the bytes that the logs hold, with the pages and objects around the events', async () => {
    const { hub, connect } = await setUp({ replay: (channel) => ({ maxEvents: channel === 'a' ? 3 : 10 }), subscribe: { rewind: 100 } })
    for (let n = 0; n < 20; n++) await hub.publish(n % 2 === 0 ? 'a' : 'ö', 'item', { n, text: 'ü'.repeat(n) })
    const client = await (await connect('channels=a,ö')).live()
    expect(client.channelEvents).toHaveLength(13)
    // Two channels, each with one page that is at most half full.
    const { logBytes } = hub.stats()
    expect(logBytes).toBeGreaterThan(bytesOf(client.text) + 2 * 2_000)
    expect(logBytes).toBeLessThan(2 * bytesOf(client.text) + 2 * 3_000 + 20 * 50)
  })

  it('logBytes: includes events that were not offered yet, until they are dropped', async () => {
    const hub = new Hub({ replay: { maxEvents: 0 } })
    const connection = subscribe(hub, ['a'])
    for (let n = 0; n < 5; n++) void hub.publish('a', 'e', 'x'.repeat(1_000))
    expect(hub.stats().logBytes).toBeGreaterThan(5_000)
    await turn()
    expect(connection.channelEvents).toHaveLength(5)
    expect(hub.stats().logBytes).toBe(0)
  })

  it('logBytes: shrinks with age, and is bounded by maxTotalBytes', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] })
    const hub = new Hub({ maxTotalBytes: 100_000, replay: { maxAgeMs: 1_000 } })
    let most = 0
    for (let n = 0; n < 500; n++) {
      await hub.publish(`c${n % 7}`, 'e', 'x'.repeat(2 * n))
      most = Math.max(most, hub.stats().logBytes)
    }
    expect(most).toBeLessThanOrEqual(100_000)
    expect(hub.stats().logBytes).toBeGreaterThan(90_000)
    jest.advanceTimersByTime(3_000)
    expect(hub.stats()).toMatchObject({ channels: 0, logBytes: 0 })
  })

  it('logBytes: is not negative when events() gives its last events after close()', async () => {
    const hub = new Hub({ replay: { maxEvents: 0 } })
    const events = hub.events(['a'])
    void hub.publish('a', 'e', 'last')
    await hub.close()
    expect((await events.next()).value).toMatchObject({ data: 'last' })
    await turn()
    expect(hub.stats()).toMatchObject({ channels: 0, logBytes: 0 })
  })

  it('published: the stored events, with or without subscribers', async () => {
    const { hub, connect } = await setUp({ replay: { latestPerKey: true } })
    await hub.publish('nobody', 'e', 1)
    const client = await (await connect()).live()
    for (let n = 0; n < 5; n++) await hub.channel('a').publish('e', n, { key: 'same' })
    const again = { idempotencyKey: 'k' }
    expect(await hub.publish('a', 'e', 'x', again)).toBe(await hub.publish('a', 'e', 'x', again))
    await expect(hub.publish('a', '', 1)).rejects.toThrow(/event name/)
    await until(() => client.channelEvents.at(-1)?.data === 'x', 'the last event has arrived')
    expect(hub.stats().published).toBe(7)
  })

  it('delivered: one for each event and subscriber, live and replayed', async () => {
    const { hub, connect } = await setUp()
    const clients = await Promise.all(['channels=a', 'channels=a,b', 'channels=b'].map(async (query) => (await connect(query)).live()))
    const ids: string[] = []
    for (const channel of ['a', 'b', 'a', 'c']) ids.push(await hub.publish(channel, 'e', 1))
    await Promise.all(clients.map((client, n) => client.received([2, 3, 1][n] ?? 0)))
    expect(hub.stats().delivered).toBe(6)
    // The last two events of a, and the one of c.
    const late = await (await connect('channels=a,b,c', ids[0])).live()
    expect(late.channelEvents).toHaveLength(3)
    expect(hub.stats()).toMatchObject({ published: 4, delivered: 9, resets: 0 })
  })

  it('delivered: not unwanted events, snapshots, events of the hub itself, or direct sends', async () => {
    const { hub, app, connect, url } = await setUp({ subscribe: { filter: ({ data }) => data === 1 } })
    app.get('/snapshot', async (_req, res) => {
      await res.sse.subscribe(hub, ['a'], { snapshot: () => ({ data: 'state' }) })
      await res.sse.send('direct')
    })
    const filtered = await (await connect('', 'forged')).live()
    const whole = await (await TestClient.open(`${url}/snapshot`)).live()
    for (const data of [0, 1, 0, 1, 0]) await hub.publish('a', 'e', data)
    await Promise.all([filtered.received(2), whole.received(7)])
    expect(hub.stats()).toMatchObject({ published: 5, delivered: 7, resets: 1 })
  })

  it('delivered: events that a slow client takes, when it takes them, and not the lost ones', async () => {
    const hub = new Hub({ replay: { maxEvents: 3 } })
    const connection = subscribe(hub, ['a'])
    connection.output.full = true
    for (let n = 0; n < 3; n++) await hub.publish('a', 'e', n)
    await turn()
    expect(hub.stats()).toMatchObject({ delivered: 0, resets: 0 })
    connection.drain()
    await turn()
    expect(hub.stats()).toMatchObject({ delivered: 3, resets: 0 })
    connection.output.full = true
    for (let n = 0; n < 4; n++) await hub.publish('a', 'e', n)
    await turn()
    connection.drain()
    await turn()
    expect(connection.channelEvents).toHaveLength(3)
    expect(hub.stats()).toMatchObject({ published: 7, delivered: 3, resets: 1 })
  })

  it('delivered: also to events()', async () => {
    const hub = new Hub()
    const events = hub.events(['a', 'b'])
    for (const channel of ['a', 'b', 'c']) await hub.publish(channel, 'e', 1)
    for (const channel of ['a', 'b']) expect((await events.next()).value).toMatchObject({ channel })
    expect(hub.stats()).toMatchObject({ subscribers: 0, delivered: 2 })
  })

  it('resets: one for each stream-reset, whatever its reason', async () => {
    const { hub, connect } = await setUp({ replay: { maxEvents: 1 } })
    const id = await hub.publish('a', 'e', 1)
    for (const channel of ['b', 'a', 'b', 'a', 'b']) await hub.publish(channel, 'e', 2)
    const clients: TestClient[] = []
    const places = [
      ['channels=a,b', id],
      ['channels=a', id],
      ['channels=a', 'forged'],
      ['channels=c', id],
      ['channels=a', ''],
    ] as const
    for (const [query, from] of places) {
      clients.push(await (await connect(query, from)).live())
    }
    expect(clients.map((client) => client.named('stream-reset').length)).toEqual([1, 1, 1, 0, 0])
    expect(hub.stats().resets).toBe(3)
    expect((await hub.events(['a'], { lastEventId: 'forged' }).next()).value).toMatchObject({ event: 'stream-reset' })
    expect(hub.stats().resets).toBe(4)
  })

  it('stalls: the clients that were destroyed because they do not read, and none that left', async () => {
    const { hub, connect } = await setUp({ stallTimeoutMs: 100, replay: { maxEvents: 5 } })
    const [reading, leaving, ...stalled] = await Promise.all(Array.from({ length: 4 }, async () => (await connect()).live()))
    for (const client of stalled) client.pause()
    leaving?.leave()
    for (let n = 1; hub.stats().stalls < 2; n++) {
      await hub.publish('a', 'e', 'x'.repeat(500_000))
      await reading?.received(n)
    }
    await hub.publish('a', 'e', 'marker')
    await until(() => reading?.channelEvents.at(-1)?.data === 'marker', 'the client that reads still receives events')
    expect(hub.stats()).toMatchObject({ subscribers: 1, stalls: 2 })
    reading?.leave()
    await until(() => hub.stats().subscribers === 0, 'every client has left')
    expect(hub.stats().stalls).toBe(2)
  })

  it('refusals: the streams that were refused, and no invalid call, HEAD request or unacceptable client', async () => {
    const { hub, app, connect, url } = await setUp({ maxSubscribers: 2, maxSubscribersPerOwner: 1, onError: () => {} })
    app.get('/fault', hub.handler({ channels: () => Promise.reject(new Error('no')) }))
    app.get('/forbidden', hub.handler({ channels: ['a'], authorize: () => false }))
    app.get('/bad', hub.handler({ authorize: () => true }))
    const refusals = (): number => hub.stats().refusals
    const first = await (await connect('owner=ann')).live()
    await (await connect('owner=ann')).over()
    expect(refusals()).toBe(1)
    await (await connect('owner=bob')).live()
    await (await connect()).over()
    expect(refusals()).toBe(2)
    expect((await TestClient.open(`${url}/`, { headers: { accept: 'text/html' } })).status).toBe(503)
    expect(refusals()).toBe(3)
    await (await TestClient.open(`${url}/fault`)).over()
    expect(refusals()).toBe(4)
    expect((await TestClient.open(`${url}/forbidden`)).status).toBe(403)
    expect((await TestClient.open(`${url}/bad`)).status).toBe(400)
    await (await connect('', '', 'HEAD')).over()
    expect(refusals()).toBe(4)
    first.leave()
    await until(() => hub.stats().subscribers === 1, 'there is room again')
    expect((await TestClient.open(`${url}/`, { headers: { accept: 'text/html' } })).status).toBe(406)
    await (await connect('owner=ann')).live()
    expect(refusals()).toBe(4)
    await hub.close()
    await (await connect()).over()
    expect(refusals()).toBe(5)
  })

  it('keeps its counters after close(), while the present values are zero', async () => {
    const { hub, connect } = await setUp()
    const queries = ['channels=a', 'channels=a,b', 'channels=b']
    const clients = await Promise.all(queries.map(async (query) => (await connect(query, 'forged')).live()))
    for (const channel of ['a', 'b', 'c']) await hub.publish(channel, 'e', 1)
    await Promise.all(clients.map((client, n) => client.received([1, 2, 1][n] ?? 0)))
    const counted = { published: 3, delivered: 4, resets: 3, stalls: 0, refusals: 0 }
    expect(hub.stats()).toStrictEqual({ ...counted, channels: 3, subscribers: 3, logBytes: hub.stats().logBytes })
    const closing = hub.close()
    await closing
    expect(hub.stats()).toStrictEqual({ ...counted, channels: 0, subscribers: 0, logBytes: 0 })
    await (await connect()).over()
    await expect(hub.publish('a', 'e', 1)).rejects.toMatchObject({ code: 'SSE_HUB_CLOSED' })
    expect(await hub.events(['a', 'late']).next()).toMatchObject({ done: true })
    hub.events(['never pulled'])
    expect(hub.stats()).toStrictEqual({ ...counted, refusals: 1, channels: 0, subscribers: 0, logBytes: 0 })
  })
})
