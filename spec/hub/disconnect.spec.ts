import { EventSource } from 'eventsource'
import express from 'express'
import { Hub, MemoryBackplane, type SseError, sseMiddleware, type SubscribeOptions, type Subscription } from 'express-sse-hub'
import { join } from '../../lib/hub/subscribable.ts'
import { TestClient, until } from '../support/client.ts'
import { FakeConnection } from '../support/fake-connection.ts'
import { type HubApp, serveHub } from '../support/hub-app.ts'
import { serve, stopServers } from '../support/servers.ts'

const sources: EventSource[] = []
afterEach(async () => {
  for (const source of sources.splice(0)) source.close()
  await stopServers()
})

const setUp = (subscribe?: SubscribeOptions): Promise<HubApp> => serveHub({ sse: { retryMs: 10 }, subscribe })

/** The last block of text that a client received. */
const lastOf = (client: TestClient): string => client.text.slice(client.text.lastIndexOf('\n\n', client.text.length - 3) + 2)
const CLOSED = 'retry: 2000000000\nevent: stream-close\ndata: \n\n'
const ENDED = /^retry: [1-5]\d{3}\nevent: stream-end\ndata: \{"reason":"disconnected"\}\n\n$/

describe('hub.disconnect({ channel })', () => {
  it('ends the streams without another channel, after the events published before, and resolves with their number', async () => {
    const { hub, live } = await setUp()
    const gone = [await live('channels=job:1'), await live('channels=job:1&owner=u'), await live('channels=job:1,job:1')]
    const kept = [await live('channels=job:1,news'), await live('channels=job:2'), await live('channels=news')]
    for (let n = 0; n < 20; n++) void hub.publish('job:1', 'step', n)
    expect(await hub.disconnect({ channel: 'job:1' })).toBe(3)
    for (const client of gone) {
      await client.over()
      expect(client.data).toEqual(Array.from({ length: 20 }, (_, n) => n))
      expect(lastOf(client)).toMatch(ENDED)
    }
    for (const channel of ['job:1', 'job:2', 'news']) await hub.publish(channel, 'step', 999)
    for (const client of kept) await until(() => client.data.at(-1) === 999, 'the other clients still receive events')
    expect(await hub.disconnect({ channel: 'nobody' })).toBe(0)
  })
})

describe('hub.disconnect(…, { reconnect: false })', () => {
  it.each<[string, Parameters<Hub['disconnect']>[0]]>([
    ['an owner', 'u'],
    ['a channel', { channel: 'a' }],
    ['a predicate', ({ owner }) => owner === 'u'],
  ])('of %s sends stream-close, after every event published before', async (_what, target) => {
    const { hub, live, subscriptions } = await setUp()
    const client = await live('channels=a&owner=u')
    const other = await live('channels=b&owner=v')
    client.pause()
    for (let n = 0; n < 200; n++) void hub.publish('a', 'item', `${n} ${'x'.repeat(1_000)}`)
    expect(await hub.disconnect(target, { reconnect: false })).toBe(1)
    client.resume()
    await client.over()
    expect(client.channelEvents).toHaveLength(200)
    expect(lastOf(client)).toBe(CLOSED)
    await subscriptions[0]?.ended
    expect(subscriptions.map(({ isClosed }) => isClosed)).toEqual([true, false])
    await hub.publish('b', 'item', 1)
    await other.received(1)
  })

  it('keeps an EventSource from reconnecting', async () => {
    const { hub, url, subscriptions } = await setUp()
    const source = new EventSource(`${url}/?channels=a`)
    sources.push(source)
    source.addEventListener('stream-close', () => source.close())
    await until(() => subscriptions.length === 1, 'the stream is subscribed')
    await hub.disconnect({ channel: 'a' }, { reconnect: false })
    await until(() => source.readyState === EventSource.CLOSED, 'the EventSource is closed')
    expect(subscriptions).toHaveLength(1)
  })

  it('lets a stream wait for its snapshot, unless a second call ends it at once', async () => {
    const asked: unknown[] = []
    const { hub, connect } = await setUp({ snapshot: () => new Promise((_resolve) => asked.push(1)) })
    const client = await connect('channels=a&owner=u')
    await until(() => asked.length === 1, 'the snapshot is requested')
    expect([await hub.disconnect('u', { reconnect: false }), await hub.disconnect('u'), await hub.disconnect('u')]).toEqual([1, 1, 0])
    await client.over()
    expect(client.events.map(({ event }) => event)).toEqual(['stream-end'])
  })
})

describe('hub.disconnect', () => {
  it('reaches the other processes even if the hub is closed right after it', async () => {
    const backplane = new MemoryBackplane()
    const [one, other] = [new Hub({ backplane }), new Hub({ backplane: new MemoryBackplane(backplane) })]
    const connection = new FakeConnection()
    other[join]('a', { owner: 'u' }, '').begin(connection.asConnection)
    // It waits for answers that a closed hub does not receive.
    void one.disconnect('u').catch(() => {})
    const closed = one.close()
    await until(() => !connection.isOpen, 'the stream of the other hub has ended')
    await closed
    expect(other.stats().subscribers).toBe(0)
  })

  it.each<[string, unknown, unknown, string, RegExp]>([
    ['an empty owner', '', {}, 'SSE_INVALID_OWNER', /disconnect: the owner must be .*''/],
    ['an empty channel', { channel: '' }, {}, 'SSE_INVALID_CHANNEL', /disconnect: a channel name must be .*''/],
    [
      'a channel that is undefined',
      { channel: undefined },
      {},
      'SSE_INVALID_OWNER',
      /disconnect: the first argument must be an owner, \{ channel \} or a predicate/,
    ],
    ['two conditions', { channel: 'a', owner: 'u' }, {}, 'SSE_INVALID_OWNER', /an owner, \{ channel \} or a predicate/],
    ['nothing', undefined, {}, 'SSE_INVALID_OWNER', /an owner, \{ channel \} or a predicate.*undefined/],
    ['an unknown option', 'u', { reconect: false }, 'TypeError', /disconnect: there is no option 'reconect'/],
    ['an option of another type', 'u', { reconnect: 'no' }, 'TypeError', /disconnect: reconnect must be a boolean.*'no'/],
  ])('rejects %s, and ends no stream', async (_what, target, options, code, message) => {
    const { hub, live } = await setUp()
    const client = await live('channels=a&owner=u')
    const error: unknown = await hub.disconnect(target as string, options as object).catch((reason: unknown) => reason)
    expect([(error as SseError).code ?? (error as Error).name, (error as Error).message]).toEqual([code, expect.stringMatching(message)])
    await hub.publish('a', 'item', 1)
    await client.received(1)
    expect(hub.stats().subscribers).toBe(1)
  })
})

describe('Subscription.ended', () => {
  it('resolves when the subscription is closed, left, or ended by the hub, and at once if it never began', async () => {
    const { hub, live, subscriptions } = await setUp()
    const clients = [await live('channels=a'), await live('channels=b'), await live('channels=c')]
    const ended = subscriptions.map((subscription) => subscription.ended)
    let count = 0
    for (const each of ended) void each.then(() => count++)
    await hub.publish('a', 'item', 1)
    expect([count, subscriptions.map(({ isClosed }) => isClosed)]).toEqual([0, [false, false, false]])
    subscriptions[0]?.close()
    clients[1]?.leave()
    await hub.disconnect({ channel: 'c' })
    await Promise.all(ended)
    expect(subscriptions.map(({ isClosed }) => isClosed)).toEqual([true, true, true])
    // Also if it is read only afterwards.
    await subscriptions[0]?.ended
    const head = await TestClient.open((await serveHead(hub)).url, { method: 'HEAD' })
    await head.over()
    expect(await headSubscription?.ended).toBeUndefined()
  })
})

let headSubscription: Subscription | undefined

async function serveHead(hub: Hub) {
  const app = express()
  app.use(sseMiddleware())
  app.get('/', async (_req, res) => {
    headSubscription = await res.sse.subscribe(hub, 'a')
  })
  return serve(app)
}
