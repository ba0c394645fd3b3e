import { Hub, type HubOptions, sseMiddleware, type SubscribeOptions } from 'express-sse-hub'
import express from 'express'
import { join } from '../../lib/hub/subscribable.ts'
import { TestClient, until } from '../support/client.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { collectGarbage } from '../support/garbage.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

const positionOf = (id = ''): number => Number(/-(\d+)/.exec(id)?.[1])

/** A snapshot function whose calls are ended by the test. */
function controlled() {
  const calls: { channels: readonly string[]; end: (data: unknown) => void; fail: (error: Error) => void }[] = []
  const snapshot = (channels: readonly string[]) =>
    new Promise<{ data: unknown }>((resolve, reject) => {
      calls.push({ channels, end: (data) => resolve({ data }), fail: reject })
    })
  return { calls, snapshot }
}

/** Creates a hub whose clients have no sockets. */
function setUp(options: HubOptions = {}) {
  const errors: { error: unknown; where: string }[] = []
  const hub = new Hub({ onError: (error, { where }) => errors.push({ error, where }), ...options })
  const connect = (channels: string[], subscribe: SubscribeOptions, lastEventId = ''): FakeConnection => {
    const connection = new FakeConnection()
    hub[join](channels, subscribe, lastEventId).begin(connection.asConnection)
    return connection
  }
  return { hub, errors, connect }
}

const names = (connection: FakeConnection): (string | undefined)[] => connection.events.map(({ event }) => event)

async function turns(count = 3): Promise<void> {
  for (let n = 0; n < count; n++) await turn()
}

/** Publishes more events to `a` than a log of two keeps, while the connection takes nothing. */
async function outrun(hub: Hub, connection: FakeConnection): Promise<void> {
  connection.room = 1
  for (let n = 1; n <= 4; n++) {
    await hub.publish('a', 'item', n)
    await turn()
  }
  connection.writes.length = 0
}

describe('the context of a snapshot function', () => {
  it('names the owner of the subscription, on a first connect and after a reset', async () => {
    const { hub, connect } = setUp({ replay: { maxEvents: 2 } })
    const seen: unknown[] = []
    const snapshot: SubscribeOptions['snapshot'] = (channels, { owner }) => ({ data: seen.push([channels, owner]) })
    const [ann, anonymous] = [connect(['a'], { snapshot, owner: 'ann' }), connect(['a'], { snapshot })]
    await turns()
    expect(seen).toEqual([
      [['a'], 'ann'],
      [['a'], undefined],
    ])
    await outrun(hub, ann)
    ann.drain()
    await turns()
    expect(seen.slice(2)).toEqual([[['a'], 'ann']])
    expect(names(anonymous)).toContain('snapshot')
  })

  it('is the same for all clients that share a call: those of one owner, one function and the same channels', async () => {
    const { connect } = setUp()
    const { calls, snapshot } = controlled()
    const clients = ['ann', 'ann', 'bob', undefined, undefined, 'ann'].map((owner) => ({
      owner,
      connection: connect(['a'], { snapshot, owner }),
    }))
    await turns()
    expect(calls).toHaveLength(3)
    calls.forEach(({ end }, n) => end(n))
    await turns()
    const received = clients.map(({ connection }) => connection.events.find(({ event }) => event === 'snapshot')?.data)
    expect(received).toEqual(['0', '0', '1', '2', '2', '0'])
  })
})

describe.each(EXPRESS_VERSIONS)('a snapshot on %s', (_name, factory) => {
  it('is the first event, with the position at which it was requested, and the events since then follow it', async () => {
    const hub = new Hub()
    const { calls, snapshot } = controlled()
    const app = factory()
    app.use(sseMiddleware())
    app.get('/', (_req, res) => void res.sse.subscribe(hub, ['a', 'b'], { snapshot }))
    const { url } = await serve(app)
    const before = await hub.publish('a', 'item', 1)
    const client = await TestClient.open(url)
    await until(() => calls.length === 1, 'the snapshot is requested')
    await hub.publish('a', 'item', 2)
    await hub.publish('b', 'item', 3)
    calls[0]?.end({ last: 3 })
    await client.received(3)
    await client.live()
    expect(calls[0]?.channels).toEqual(['a', 'b'])
    expect(client.events.map(({ event, data }) => [event, data])).toEqual([
      ['snapshot', '{"last":3}'],
      ['stream-open', '{"channels":["a","b"],"replayed":0,"keepAliveMs":15000}'],
      ['item', '2'],
      ['item', '3'],
    ])
    expect(positionOf(client.named('snapshot')[0]?.id)).toBe(positionOf(before))
  })

  it('is not taken for a client that resumes, and has an id to resume from', async () => {
    const hub = new Hub()
    let calls = 0
    const snapshot = () => ({ event: 'state', data: ++calls })
    const app = factory()
    app.use(sseMiddleware())
    app.get('/', (_req, res) => void res.sse.subscribe(hub, ['a'], { snapshot }))
    const { url } = await serve(app)
    const first = await TestClient.open(url)
    await until(() => first.named('state').length === 1, 'the snapshot has arrived')
    first.leave()
    await hub.publish('a', 'item', 'missed')
    const second = await TestClient.open(url, { headers: { 'last-event-id': first.lastId } })
    await second.live()
    expect(second.channelEvents.map(({ event, data }) => [event, data])).toEqual([['item', 'missed']])
    expect(calls).toBe(1)
  })
})

describe('snapshots', () => {
  it('are shared by clients that connect together, as the same buffer', async () => {
    const { calls, snapshot } = controlled()
    const { connect } = setUp()
    const connections = Array.from({ length: 500 }, () => connect(['a', 'b'], { snapshot }))
    await turn()
    connections.push(connect(['b', 'a'], { snapshot }))
    expect(calls).toHaveLength(1)
    calls[0]?.end('state')
    // On a busy machine the time slices end early, so that more turns are needed.
    await until(() => connections.every(({ writes }) => writes.length === 3), 'every client has the snapshot')
    for (const connection of connections) {
      expect(names(connection)).toEqual(['snapshot', 'stream-open'])
      expect(connection.writes[1]).toBe(connections[0]?.writes[1])
      expect(connection.writes[1]?.toString()).toBe('event: snapshot\ndata: state\n\n')
    }
  })

  it('are shared in the turn in which they end, and taken again after it', async () => {
    let calls = 0
    const snapshot = () => ({ data: ++calls })
    const { connect } = setUp()
    connect(['a'], { snapshot })
    await Promise.resolve()
    await Promise.resolve()
    const late = connect(['a'], { snapshot })
    await turns()
    connect(['a'], { snapshot })
    await turns()
    expect(late.events[0]?.data).toBe('1')
    expect(calls).toBe(2)
  })

  it('are not shared between channels or functions, because users may see different things', async () => {
    const { connect } = setUp()
    const own = (data: string) => () => ({ data })
    const connections = [
      connect(['a'], { snapshot: own('of one user') }),
      connect(['a'], { snapshot: own('of another') }),
      connect(['a', 'b'], { snapshot: own('of both channels') }),
    ]
    await turns()
    expect(connections.map(({ events }) => events[0]?.data)).toEqual(['of one user', 'of another', 'of both channels'])
  })

  it('cause one warning if many are taken at once that could have been one', async () => {
    const { connect, errors } = setUp()
    for (let n = 0; n < 40; n++) connect(['a'], { snapshot: async () => ({ data: n }) })
    await turns()
    expect(errors).toHaveLength(1)
    expect(errors[0]).toMatchObject({ where: 'snapshot', error: { code: 'SSE_SNAPSHOT_NOT_SHARED' } })
  })

  it('are taken again if the log no longer reaches back to the call in progress', async () => {
    const { calls, snapshot } = controlled()
    const { hub, connect } = setUp({ replay: { maxEvents: 2 } })
    connect(['a'], { snapshot }).leave()
    for (let n = 1; n <= 5; n++) await hub.publish('a', 'item', n)
    const late = connect(['a'], { snapshot })
    await turns()
    expect(calls).toHaveLength(2)
    calls[0]?.end('too old')
    calls[1]?.end('new')
    await turns()
    expect(late.events.map(({ event, data }) => [event, data])).toEqual([
      ['snapshot', 'new'],
      ['stream-open', expect.any(String)],
    ])
  })

  it('are not shared with a call that has taken longer than ten seconds', async () => {
    const { calls, snapshot } = controlled()
    const { connect } = setUp()
    const now = jest.spyOn(performance, 'now').mockReturnValue(1_000)
    try {
      connect(['a'], { snapshot })
      now.mockReturnValue(11_000)
      connect(['a'], { snapshot })
      now.mockReturnValue(11_001)
      const late = connect(['a'], { snapshot })
      await turns()
      expect(calls).toHaveLength(2)
      calls[1]?.end('now')
      await turns()
      expect(late.events[0]?.data).toBe('now')
    } finally {
      now.mockRestore()
    }
  })

  it('follow a reset without an id, and nothing is sent between the two, not even a keep-alive with an id', async () => {
    const { calls, snapshot } = controlled()
    const { hub, connect } = setUp({ replay: { maxEvents: 2 } })
    const connection = connect(['a', 'b'], { snapshot })
    await turn()
    calls[0]?.end('first')
    await turns()
    await outrun(hub, connection)
    const head = await hub.publish('b', 'item', 'b1')
    connection.drain()
    await turns()
    expect(connection.events).toEqual([{ event: 'stream-reset', data: '{"channels":["a"],"reason":"slow"}' }])
    expect(calls[1]?.channels).toEqual(['a'])
    expect(connection.feed?.keepAlive()).toBe(false)
    await hub.publish('a', 'item', 5)
    await turns()
    expect(names(connection)).toEqual(['stream-reset'])
    calls[1]?.end('second')
    await turns()
    expect(connection.events.slice(1).map(({ event, data }) => [event, data])).toEqual([
      ['snapshot', 'second'],
      ['item', 'b1'],
      ['item', '5'],
    ])
    const ids = connection.events.slice(1).map(({ id }) => positionOf(id))
    // The complete channel continues at its position, so the snapshot moves the id no further than that.
    expect(ids[0]).toBeLessThan(positionOf(head))
    expect(ids).toEqual(ids.toSorted((a, b) => a - b))
  })

  it('are taken for an id that is no longer known', async () => {
    const { hub, connect } = setUp()
    await hub.publish('a', 'item', 1)
    const snapshot = (channels: readonly string[]) => ({ data: { of: channels } })
    const connection = connect(['a', 'b'], { snapshot }, '0123456789-5/a')
    await turns()
    expect(connection.events.map(({ event, data, id }) => [event, data, id !== undefined])).toEqual([
      ['stream-reset', '{"channels":["a","b"],"reason":"restarted"}', false],
      ['snapshot', '{"of":["a","b"]}', true],
      ['stream-open', expect.any(String), true],
    ])
  })

  it('are one body in memory for all clients that share the call, at whatever position', async () => {
    const { hub, connect } = setUp({ replay: { maxEvents: 2 } })
    const snapshot = () => ({ data: 'x'.repeat(1_000) })
    const ids = [await hub.publish('b', 'item', 1), await hub.publish('b', 'item', 2)]
    for (let n = 1; n <= 4; n++) await hub.publish('a', 'item', n)
    const connections = ids.map((id) => connect(['a', 'b'], { snapshot }, id))
    await turns()
    const [first, second] = connections.map(({ writes }) => writes.slice(1, 3)) as [Buffer[], Buffer[]]
    expect(first[0]?.toString()).not.toBe(second[0]?.toString())
    expect(first[1]).toBe(second[1])
    expect(connections.map(({ channelEvents }) => channelEvents.map(({ data }) => data.length))).toEqual([[1_000, 1], [1_000]])
  })

  it('that are large are split, without other events inside them', async () => {
    const hub = new Hub()
    const state = 'x'.repeat(300_000)
    const app = express()
    app.use(sseMiddleware())
    app.get('/', (_req, res) => void res.sse.subscribe(hub, ['a'], { snapshot: () => ({ data: state }) }))
    const { url } = await serve(app)
    const client = await TestClient.open(url)
    await until(() => hub.stats().subscribers === 1, 'the client is subscribed')
    for (let n = 0; n < 5; n++) await hub.publish('a', 'item', n)
    await until(() => client.named('item').length === 5, 'all events have arrived')
    expect(client.named('snapshot')[0]?.data).toBe(state)
  })

  it('let the function publish, and close the subscription that it is called for', async () => {
    const { hub, connect } = setUp()
    const publishing = connect(['a'], {
      snapshot: () => {
        void hub.publish('a', 'item', 'from within')
        return { data: 'state' }
      },
    })
    let closing: FakeConnection | null = null
    closing = connect(['b'], {
      snapshot: () => {
        closing?.leave()
        return { data: 'state' }
      },
    })
    await turns()
    expect(names(publishing)).toEqual(['snapshot', 'stream-open', 'item'])
    expect(closing.events).toEqual([])
    expect(hub.channel('b').subscriberCount).toBe(0)
  })

  it('that fail end the streams of all waiting clients, which reconnect, and are reported once', async () => {
    const failures: readonly [name: string, snapshot: () => unknown][] = [
      ['rejected', () => Promise.reject(new Error('the database is away'))],
      [
        'thrown',
        () => {
          throw new Error('the database is away')
        },
      ],
      ['not an object', () => 'state'],
      ['nothing', () => undefined],
      ['no data', () => ({ event: 'state' })],
      ['an id', () => ({ data: 1, id: '7' })],
      ['a reserved name', () => ({ event: 'stream-open', data: 1 })],
      ['a line break in the name', () => ({ event: 'a\nb', data: 1 })],
      ['no text form', () => ({ data: undefined })],
    ]
    for (const [name, snapshot] of failures) {
      const { hub, errors, connect } = setUp()
      const waiting = [1, 2, 3].map(() => connect(['a'], { snapshot: snapshot as never }))
      await turns()
      expect([name, waiting.map(({ isOpen }) => isOpen)]).toEqual([name, [false, false, false]])
      expect([name, waiting.flatMap(({ events }) => events)]).toEqual([name, []])
      expect([name, errors.map(({ where }) => where)]).toEqual([name, ['snapshot']])
      expect(hub.stats().subscribers).toBe(0)
    }
  })

  it('that fail end a real stream with a retry of 1 to 5 s, without the text of the error', async () => {
    const hub = new Hub({ onError: () => {} })
    const app = express()
    app.use(sseMiddleware())
    app.get('/', (_req, res) => void res.sse.subscribe(hub, ['a'], { snapshot: () => Promise.reject(new Error('secret')) }))
    const { url } = await serve(app)
    const client = await TestClient.open(url)
    await client.over()
    expect(client.status).toBe(200)
    expect(client.retries.at(-1)).toBeGreaterThanOrEqual(1_000)
    expect(client.retries.at(-1)).toBeLessThanOrEqual(5_000)
    expect(client.text).not.toContain('secret')
  })

  it('retain nothing of clients that left while they waited, even if they never end', async () => {
    const { snapshot } = controlled()
    const { connect } = setUp()
    const left = await (async () => {
      const connections = Array.from({ length: 100 }, () => connect(['a'], { snapshot }))
      await turns()
      for (const connection of connections) connection.leave()
      return connections.map((connection) => new WeakRef(connection))
    })()
    await turns()
    collectGarbage()
    expect(left.filter((held) => held.deref() !== undefined).length).toBeLessThan(5)
  })

  it('retain nothing of requests with a function of their own, even if they never end', async () => {
    const { connect } = setUp()
    const made = await (async () => {
      const functions = Array.from({ length: 100 }, () => () => new Promise<{ data: unknown }>(() => {}))
      const connections = functions.map((snapshot) => connect(['a'], { snapshot }))
      await turns()
      for (const connection of connections) connection.leave()
      return functions.map((snapshot) => new WeakRef(snapshot))
    })()
    await turns()
    collectGarbage()
    expect(made.filter((held) => held.deref() !== undefined).length).toBeLessThan(5)
  })

  it('that never end keep a stream that is closed for good only for stallTimeoutMs, and the client reconnects', async () => {
    const hub = new Hub()
    const { snapshot } = controlled()
    const app = express()
    app.use(sseMiddleware({ stallTimeoutMs: 100 }))
    app.get('/', async (_req, res) => {
      await res.sse.subscribe(hub, ['a'], { snapshot })
      res.sse.close({ reconnect: false })
    })
    const { url } = await serve(app)
    const client = await TestClient.open(url)
    await client.over()
    expect(client.events.map(({ data }) => data)).toEqual(['{"reason":"unavailable"}'])
    expect(client.retries.at(-1)).toBeLessThanOrEqual(5_000)
    expect(hub.stats().subscribers).toBe(0)
  })

  it('delay the end of a stream that is closed for good, but not that of the hub', async () => {
    const { calls, snapshot } = controlled()
    const { hub, connect } = setUp()
    const connection = connect(['a'], { snapshot })
    await turn()
    let isDone = false
    expect(connection.feed?.finish(() => (isDone = true))).toBe(false)
    calls[0]?.end('state')
    await turns()
    expect([isDone, names(connection)]).toEqual([true, ['snapshot', 'stream-open']])
    const other = connect(['b'], { snapshot })
    await turn()
    await hub.close()
    expect([other.isOpen, other.events]).toEqual([false, []])
  })

  it('delay keep-alive ids and the end of a stream also after a reset of all channels', async () => {
    const { calls, snapshot } = controlled()
    const { hub, connect } = setUp({ replay: { maxEvents: 2 } })
    const connection = connect(['a'], { snapshot })
    await turn()
    calls[0]?.end('first')
    await turns()
    await outrun(hub, connection)
    connection.drain()
    await turns()
    expect(connection.feed?.keepAlive()).toBe(false)
    let isDone = false
    expect(connection.feed?.finish(() => (isDone = true))).toBe(false)
    expect(names(connection)).toEqual(['stream-reset'])
    calls[1]?.end('second')
    await turns()
    expect([isDone, names(connection)]).toEqual([true, ['stream-reset', 'snapshot']])
  })

  it('exclude rewind, and must come from a function', async () => {
    const { hub } = setUp()
    const subscribe = (options: object) => () => hub[join](['a'], options, '')
    expect(subscribe({ snapshot: () => ({ data: 1 }), rewind: 3 })).toThrow(
      new RangeError('subscribe: rewind and snapshot exclude each other, because a snapshot contains the events before it; got rewind 3'),
    )
    expect(subscribe({ snapshot: { data: 1 } })).toThrow(new TypeError('subscribe: snapshot must be a function, got { data: 1 }'))
    expect(subscribe({ snapshot: () => ({ data: 1 }), rewind: 0 })).not.toThrow()
  })
})
