import diagnosticsChannel from 'node:diagnostics_channel'
import { type DiagnosticMessages, type HubOptions, type SubscribeOptions, type Subscription, Hub, SseError } from 'express-sse-hub'
import type express from 'express'
import { join } from '../../lib/hub/subscribable.ts'
import { TestClient, until } from '../support/client.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { type HubApp, serveHub } from '../support/hub-app.ts'
import { stopServers } from '../support/servers.ts'

type Kind = keyof DiagnosticMessages
interface Heard {
  readonly kind: Kind
  readonly message: { readonly hub: object; readonly [field: string]: unknown }
}

const KINDS: readonly Kind[] = ['publish', 'subscribe', 'reset', 'stall', 'refuse', 'close']
const stops: (() => void)[] = []

/** Listens until the test ends or calls `stop`. */
function listen(kinds: readonly Kind[] = KINDS): { heard: Heard[]; stop: () => void } {
  const heard: Heard[] = []
  const listeners = kinds.map((kind) => {
    const listener = (message: unknown): void => void heard.push({ kind, message: message as Heard['message'] })
    diagnosticsChannel.subscribe(`express-sse-hub:${kind}`, listener)
    return () => diagnosticsChannel.unsubscribe(`express-sse-hub:${kind}`, listener)
  })
  const stop = (): void => {
    for (const unsubscribe of listeners) unsubscribe()
  }
  stops.push(stop)
  return { heard, stop }
}

afterEach(stopServers)
afterEach(() => {
  for (const stop of stops.splice(0)) stop()
})

/** The messages about a hub, without the hub itself, each with its kind. */
function of(hub: Hub, heard: readonly Heard[], kind?: Kind): unknown[] {
  return heard
    .filter((one) => one.message.hub === hub && (kind === undefined || one.kind === kind))
    .map((one) => {
      const { hub: _, ...rest } = one.message
      return kind === undefined ? { kind: one.kind, ...rest } : rest
    })
}

interface SetUpOptions extends HubOptions {
  readonly stallTimeoutMs?: number
  readonly subscribe?: SubscribeOptions
}

const setUp = ({ stallTimeoutMs = 30_000, subscribe: options, ...hub }: SetUpOptions = {}): Promise<HubApp> =>
  serveHub({ hub, sse: { stallTimeoutMs, keepAliveMs: false }, subscribe: options })

describe('diagnostics_channel', () => {
  it('publishes each stored event on express-sse-hub:publish', async () => {
    const { heard } = listen()
    const hub = new Hub({ replay: { maxEvents: 0 } })
    const ids = [await hub.publish('a', 'created', { n: 1 }), await hub.channel('b').publish('message', 'text', { idempotencyKey: 'k' })]
    // None of these is stored.
    expect(await hub.publish('b', 'message', 'text', { idempotencyKey: 'k' })).toBe(ids[1])
    for (const [channel, event, data] of [
      ['', 'e', 1],
      ['a', 'stream-x', 1],
      ['a', 'e', 1n],
    ] as const) {
      await expect(hub.publish(channel, event, data)).rejects.toThrow(SseError)
    }
    await expect(hub.publish('a', 'e', 1, { key: 'k' })).rejects.toThrow(SseError)
    await hub.close()
    await expect(hub.publish('a', 'e', 1)).rejects.toThrow(SseError)
    expect(heard).toHaveLength(2)
    expect(of(hub, heard)).toStrictEqual([
      { kind: 'publish', channel: 'a', event: 'created', id: ids[0] },
      { kind: 'publish', channel: 'b', event: 'message', id: ids[1] },
    ])
  })

  it('reports an event when it is stored, before its delivery', async () => {
    const hub = new Hub()
    const connection = new FakeConnection()
    hub[join](['a'], {}, '').begin(connection.asConnection)
    const seen: unknown[] = []
    const listener = (message: unknown): void => {
      const { channel, id } = message as DiagnosticMessages['publish']
      seen.push([hub.channel(channel).lastEventId === id, hub.stats().published, connection.channelEvents.length])
    }
    diagnosticsChannel.subscribe('express-sse-hub:publish', listener)
    stops.push(() => diagnosticsChannel.unsubscribe('express-sse-hub:publish', listener))
    void hub.publish('a', 'e', 1)
    expect(seen).toEqual([[true, 1, 0]])
    await turn()
    expect(connection.channelEvents).toHaveLength(1)
  })

  it('reports each stream on express-sse-hub:subscribe, with the id that it resumes from', async () => {
    const { heard } = listen()
    const { hub, connect } = await setUp()
    const client = await (await connect('channels=a,b,a&owner=ann')).live()
    client.leave()
    await until(() => of(hub, heard, 'close').length === 1, 'the client has left')
    await (await connect('channels=b', client.lastId)).live()
    await (await connect('', 'forged')).live()
    expect(of(hub, heard, 'subscribe')).toStrictEqual([
      { channels: ['a', 'b'], owner: 'ann', lastEventId: '' },
      { channels: ['b'], owner: undefined, lastEventId: client.lastId },
      { channels: ['a'], owner: undefined, lastEventId: 'forged' },
    ])
  })

  it('reports no subscription for HEAD, a bad channel, a second subscription, or a client that does not accept it', async () => {
    const { heard } = listen()
    const { hub, app, connect, url } = await setUp()
    const codes: string[] = []
    app.get('/second', async (_req, res) => {
      await res.sse.subscribe(hub, ['a'])
      await res.sse.subscribe(hub, ['a']).catch(({ code }: SseError) => codes.push(code))
      res.sse.close()
    })
    app.get('/impossible', (_req, res) => res.sse.subscribe(hub, ['']))
    expect((await TestClient.open(`${url}/impossible`)).status).toBe(400)
    await (await connect('', '', 'HEAD')).over()
    const unacceptable = await TestClient.open(`${url}/`, { headers: { accept: 'text/html' } })
    expect(unacceptable.status).toBe(406)
    expect(of(hub, heard)).toEqual([])
    await (await TestClient.open(`${url}/second`)).over()
    expect(codes).toEqual(['SSE_ALREADY_SUBSCRIBED'])
    expect(of(hub, heard)).toStrictEqual([
      { kind: 'subscribe', channels: ['a'], owner: undefined, lastEventId: '' },
      { kind: 'close', channels: ['a'], owner: undefined },
    ])
  })

  it('reports each stream-reset once on express-sse-hub:reset, with the lost channels', async () => {
    const { heard } = listen()
    const { hub, connect } = await setUp({ replay: (channel) => ({ maxEvents: channel === 'a' ? 1 : 100 }) })
    const id = await hub.publish('a', 'e', 1)
    for (let n = 2; n < 5; n++) await hub.publish('a', 'e', n)
    const clients = [
      await (await connect('channels=a,b&owner=ann', id)).live(),
      await (await connect('channels=b', 'zzzzzzzzzz-1/b')).live(),
      await (await connect('channels=b', 'forged')).live(),
      await (await connect('channels=b', id)).live(),
    ]
    expect(of(hub, heard, 'reset')).toStrictEqual([
      { channels: ['a', 'b'], owner: 'ann', lost: ['a'], reason: 'expired' },
      { channels: ['b'], owner: undefined, lost: ['b'], reason: 'restarted' },
      { channels: ['b'], owner: undefined, lost: ['b'], reason: 'unknown-id' },
    ])
    expect(clients.map((client) => client.named('stream-reset').length)).toEqual([1, 1, 1, 0])
    expect(hub.stats().resets).toBe(3)
  })

  it('reports the reset of a slow client', async () => {
    const { heard } = listen()
    const hub = new Hub({ replay: { maxEvents: 2 } })
    const connection = new FakeConnection()
    hub[join](['a', 'b'], { owner: 'slow' }, '').begin(connection.asConnection)
    connection.output.full = true
    for (let n = 0; n < 5; n++) {
      void hub.publish('b', 'e', n)
      await turn()
    }
    expect(of(hub, heard, 'reset')).toEqual([])
    connection.drain()
    await turn()
    expect(of(hub, heard, 'reset')).toStrictEqual([{ channels: ['a', 'b'], owner: 'slow', lost: ['b'], reason: 'slow' }])
  })

  it('reports the reset of a stream with a snapshot, which has no id', async () => {
    const { heard } = listen()
    const { hub, connect } = await setUp({ subscribe: { snapshot: () => ({ data: 'state' }) } })
    const client = await (await connect('channels=a', 'forged')).live()
    expect(client.named('snapshot')).toHaveLength(1)
    expect(of(hub, heard, 'reset')).toStrictEqual([{ channels: ['a'], owner: undefined, lost: ['a'], reason: 'unknown-id' }])
  })

  it('reports the reset of hub.events(), without an owner', async () => {
    const { heard } = listen()
    const hub = new Hub()
    for await (const event of hub.events(['a', 'b'], { lastEventId: 'forged' })) {
      expect(event.event).toBe('stream-reset')
      break
    }
    expect(of(hub, heard)).toStrictEqual([
      { kind: 'reset', channels: ['a', 'b'], owner: undefined, lost: ['a', 'b'], reason: 'unknown-id' },
    ])
  })

  it('reports a client that was destroyed because it does not read on express-sse-hub:stall, and then its close', async () => {
    const { heard } = listen()
    const { hub, connect } = await setUp({ stallTimeoutMs: 100, replay: { maxEvents: 5 } })
    const stalled = await (await connect('channels=a,b&owner=stalled')).live()
    const reading = await (await connect('channels=a&owner=reading')).live()
    stalled.pause()
    for (let n = 1; hub.stats().stalls === 0; n++) {
      await hub.publish('a', 'e', 'x'.repeat(500_000))
      await reading.received(n)
    }
    await until(() => of(hub, heard, 'close').length === 1, 'the response is destroyed')
    await hub.publish('a', 'e', 'marker')
    await until(() => reading.channelEvents.at(-1)?.data === 'marker', 'the other client still receives events')
    const about = { channels: ['a', 'b'], owner: 'stalled' }
    expect(of(hub, heard).slice(-3)).toStrictEqual([
      { kind: 'stall', ...about },
      { kind: 'close', ...about },
      { kind: 'publish', channel: 'a', event: 'e', id: reading.lastId },
    ])
    expect([of(hub, heard, 'stall').length, of(hub, heard, 'close').length]).toEqual([1, 1])
  })

  it('reports the close of a client that does not take the end of its stream, and then its stall', async () => {
    const { heard } = listen()
    const { hub, connect, subscriptions, responses } = await setUp({ stallTimeoutMs: 1_000 })
    const client = await connect()
    await until(() => subscriptions.length === 1, 'the stream is subscribed')
    const [res] = responses as [express.Response]
    client.pause()
    // The kernel may take more bytes shortly after it first took none.
    for (let fullTurns = 0; fullTurns < 50; fullTurns = (res.socket?.writableLength ?? 0) > 0 ? fullTurns + 1 : 0) {
      void hub.publish('a', 'e', 'x'.repeat(100_000))
      await turn()
    }
    res.sse.close()
    await until(() => of(hub, heard, 'stall').length === 1, 'the client is destroyed')
    await until(() => res.destroyed, 'the response is destroyed')
    expect(of(hub, heard).slice(-2)).toStrictEqual([
      { kind: 'close', channels: ['a'], owner: undefined },
      { kind: 'stall', channels: ['a'], owner: undefined },
    ])
    expect(hub.stats().stalls).toBe(1)
  })

  it('reports each refused stream on express-sse-hub:refuse, with the limit', async () => {
    const { heard } = listen()
    const { hub, connect, url } = await setUp({ maxSubscribers: 2, maxSubscribersPerOwner: 1 })
    await (await connect('owner=ann')).live()
    await (await connect('channels=a,b&owner=ann')).over()
    await (await connect('owner=bob')).live()
    await (await connect('channels=c')).over()
    const unacceptable = await TestClient.open(`${url}/?owner=bob`, { headers: { accept: 'text/html' } })
    expect(unacceptable.status).toBe(503)
    expect(of(hub, heard, 'refuse')).toStrictEqual([
      { channels: ['a', 'b'], owner: 'ann', reason: 'maxSubscribersPerOwner' },
      { channels: ['c'], owner: undefined, reason: 'maxSubscribers' },
      { channels: ['a'], owner: 'bob', reason: 'maxSubscribers' },
    ])
    expect(of(hub, heard, 'subscribe')).toHaveLength(2)
    expect(of(hub, heard, 'close')).toEqual([])
  })

  it('reports streams that are refused because the hub closes or a callback fails', async () => {
    const { heard } = listen()
    const { hub, app, connect, url } = await setUp({ onError: () => {} })
    const fails = (): never => {
      throw new Error('no')
    }
    app.get('/channels', hub.handler({ channels: fails }))
    app.get('/authorize', hub.handler({ channels: ['a', 'b'], authorize: fails }))
    await (await TestClient.open(`${url}/channels`)).over()
    await (await TestClient.open(`${url}/authorize`)).over()
    await hub.close()
    await (await connect('channels=b&owner=ann')).over()
    expect(of(hub, heard)).toStrictEqual([
      { kind: 'refuse', channels: [], owner: undefined, reason: 'fault' },
      { kind: 'refuse', channels: ['a', 'b'], owner: undefined, reason: 'fault' },
      { kind: 'refuse', channels: ['b'], owner: 'ann', reason: 'closing' },
    ])
  })

  it.each<[string, (parts: { hub: Hub; client: TestClient; subscription: Subscription; res: express.Response }) => unknown]>([
    ['the client leaves', ({ client }) => client.leave()],
    ['the subscription is closed', ({ subscription }) => subscription.close()],
    ['the stream is closed', ({ res }) => res.sse.close()],
    ['the stream is closed for good', ({ res }) => res.sse.close({ reconnect: false })],
    ['the program destroys the response', ({ res }) => res.destroy()],
    ['its owner is disconnected', ({ hub }) => hub.disconnect('ann')],
    ['the hub is closed', ({ hub }) => hub.close()],
  ])('reports the end of a subscription once on express-sse-hub:close when %s', async (_, end) => {
    const { heard } = listen()
    const { hub, connect, subscriptions, responses } = await setUp()
    const client = await (await connect('channels=a,b&owner=ann')).live()
    await until(() => subscriptions.length === 1, 'the stream is subscribed')
    const [subscription] = subscriptions as [Subscription]
    const [res] = responses as [express.Response]
    expect(of(hub, heard, 'close')).toEqual([])
    await end({ hub, client, subscription, res })
    await until(() => subscription.isClosed, 'the subscription has ended')
    // Everything else that can end it does so now.
    subscription.close()
    res.sse.close()
    await hub.close()
    client.leave()
    await client.over()
    await until(() => res.closed, 'the response has ended')
    expect(of(hub, heard)).toStrictEqual([
      { kind: 'subscribe', channels: ['a', 'b'], owner: 'ann', lastEventId: '' },
      { kind: 'close', channels: ['a', 'b'], owner: 'ann' },
    ])
  })

  it('names the hub, so that two hubs can be distinguished', async () => {
    const { heard } = listen()
    const [one, other] = [new Hub(), new Hub()]
    for (const hub of [one, other]) {
      const connection = new FakeConnection()
      hub[join](['a'], {}, 'forged').begin(connection.asConnection)
      await hub.publish('a', 'e', 1)
      connection.leave()
      await hub.close()
      hub[join](['a'], {}, '').refusal()
    }
    expect(heard.map(({ kind, message }) => [kind, message.hub === one, message.hub === other])).toEqual(
      [one, other].flatMap((hub) => ['subscribe', 'reset', 'publish', 'close', 'refuse'].map((kind) => [kind, hub === one, hub === other])),
    )
  })

  it('reaches every listener, and none after it has stopped listening', async () => {
    const hub = new Hub()
    const session = async (): Promise<void> => {
      const connection = new FakeConnection()
      hub[join](['a'], {}, 'forged').begin(connection.asConnection)
      await hub.publish('a', 'e', 1)
      connection.feed?.stalled()
      connection.leave()
    }
    const [first, second] = [listen(), listen()]
    await session()
    const all = ['subscribe', 'reset', 'publish', 'stall', 'close']
    expect(first.heard.map(({ kind }) => kind)).toEqual(all)
    expect(second.heard).toEqual(first.heard)
    first.stop()
    await session()
    expect([first.heard.length, second.heard.length]).toEqual([5, 10])
    second.stop()
    await session()
    await hub.close()
    hub[join](['a'], {}, '').refusal()
    expect([first.heard.length, second.heard.length]).toEqual([5, 10])
  })

  it('gives the same message to all listeners, without the payload', async () => {
    const [first, second] = [listen(['publish']), listen(['publish'])]
    const hub = new Hub()
    await hub.publish('a', 'e', { secret: 'payload' })
    expect(first.heard[0]?.message).toBe(second.heard[0]?.message)
    expect(JSON.stringify(first.heard.map(({ message }) => ({ ...message, hub: null })))).not.toContain('payload')
  })

  it('creates no message without a listener', async () => {
    const asked: string[] = []
    const made: string[] = []
    // There is one channel per process and name, so the hub writes to these.
    const channels = KINDS.map((kind) => diagnosticsChannel.channel(`express-sse-hub:${kind}`))
    const restore: (() => void)[] = []
    for (const [n, channel] of channels.entries()) {
      const kind = KINDS[n] as Kind
      Object.defineProperty(channel, 'hasSubscribers', {
        configurable: true,
        get: () => {
          asked.push(kind)
          return false
        },
      })
      Object.defineProperty(channel, 'publish', { configurable: true, value: () => made.push(kind) })
      restore.push(() => {
        Reflect.deleteProperty(channel, 'hasSubscribers')
        Reflect.deleteProperty(channel, 'publish')
      })
    }
    try {
      const hub = new Hub()
      const connection = new FakeConnection()
      hub[join](['a'], {}, 'forged').begin(connection.asConnection)
      await hub.publish('a', 'e', 1)
      connection.feed?.stalled()
      connection.leave()
      for await (const event of hub.events(['a'], { lastEventId: 'forged' })) {
        expect(event.event).toBe('stream-reset')
        break
      }
      await hub.close()
      hub[join](['a'], {}, '').refusal()
      expect(hub.stats()).toMatchObject({ published: 1, resets: 2, stalls: 1, refusals: 1 })
      expect(asked).toEqual(['subscribe', 'reset', 'publish', 'stall', 'close', 'reset', 'refuse'])
      expect(made).toEqual([])
    } finally {
      for (const undo of restore) undo()
    }
  })

  it('is sent after the counters have changed', async () => {
    const hub = new Hub({ maxSubscribers: 1 })
    const seen: Record<string, number> = {}
    const kinds = { publish: 'published', subscribe: 'subscribers', reset: 'resets', stall: 'stalls', refuse: 'refusals' } as const
    for (const [kind, figure] of Object.entries(kinds)) {
      const listener = (): void => void (seen[kind] = hub.stats()[figure])
      diagnosticsChannel.subscribe(`express-sse-hub:${kind}`, listener)
      stops.push(() => diagnosticsChannel.unsubscribe(`express-sse-hub:${kind}`, listener))
    }
    const connection = new FakeConnection()
    hub[join](['a'], {}, 'forged').begin(connection.asConnection)
    await hub.publish('a', 'e', 1)
    connection.feed?.stalled()
    hub[join](['a'], {}, '').refusal()
    expect(seen).toEqual({ publish: 1, subscribe: 1, reset: 1, stall: 1, refuse: 1 })
  })
})
