import { Hub, type HubOptions, type ReplayOptions, type SubscribeOptions } from 'express-sse-hub'
import { until } from '../support/client.ts'
import { type FakeConnection, turn } from '../support/fake-connection.ts'
import { times } from '../support/scale.ts'
import { type HubApp, serveHub } from '../support/hub-app.ts'
import { stopServers } from '../support/servers.ts'
import { subscribe } from '../support/subscribe.ts'

afterEach(stopServers)
afterEach(() => {
  jest.useRealTimers()
})

const latest = (options: ReplayOptions = {}): ReplayOptions => ({ latestPerKey: true, ...options })

/** A hub whose channels keep the latest event per key, except for `log`. */
function makeHub(options: ReplayOptions = {}): Hub {
  return new Hub({ replay: (channel) => (channel === 'log' ? {} : latest(options)) })
}

/** Resolves with a client without a socket, when the client is live. */
async function subscribeLive(hub: Hub, channels: string[], lastEventId = '', options: SubscribeOptions = {}): Promise<FakeConnection> {
  const connection = subscribe(hub, channels, lastEventId, options)
  while (connection.events.at(-1)?.event !== 'stream-open') await turn()
  return connection
}

/** Resolves with a live client whose socket is full. */
async function full(hub: Hub, channels: string[], options: SubscribeOptions = {}): Promise<FakeConnection> {
  const connection = await subscribeLive(hub, channels, '', options)
  connection.output.full = true
  return connection
}

/** The data of the channel events that a client has received. */
const data = (client: { channelEvents: readonly { data: string }[] }): string[] => client.channelEvents.map((event) => event.data)
const resets = (client: { events: readonly { event?: string | undefined; data: string }[] }): unknown[] =>
  client.events.filter(({ event }) => event === 'stream-reset').map((event) => JSON.parse(event.data) as unknown)
const opened = (client: FakeConnection): unknown =>
  JSON.parse(client.events.find(({ event }) => event === 'stream-open')?.data ?? '') as unknown

const setUp = (hub: HubOptions): Promise<HubApp> => serveHub({ hub })

describe('close({ reconnect: false }) on a channel that keeps the latest per key', () => {
  it('delivers the events that have replaced the due ones, because the client does not reconnect', async () => {
    const hub = makeHub()
    const connection = await full(hub, ['a', 'log'])
    void hub.publish('a', 'price', 'old', { key: 'ACME' })
    let isDone = false
    expect(connection.feed?.finish(() => (isDone = true))).toBe(false)
    void hub.publish('a', 'price', 'new', { key: 'ACME' })
    connection.drain()
    for (let n = 0; n < 5; n++) await turn()
    expect([isDone, data(connection)]).toEqual([true, ['new']])
  })
})

describe('replay: { latestPerKey: true }', () => {
  it('replays the newest event of each key and every event without a key, in the order of publishing', async () => {
    const { hub, connect } = await setUp({ replay: latest() })
    const client = await (await connect('channels=rates')).live()
    await hub.publish('rates', 'rate', 'usd 1', { key: 'usd' })
    await client.received(1)
    client.leave()
    await until(() => hub.channel('rates').subscriberCount === 0, 'the client has left')
    const published: [string, string | undefined][] = [
      ['usd 2', 'usd'],
      ['note 1', undefined],
      ['eur 1', 'eur'],
      ['usd 3', 'usd'],
      ['gbp 1', 'gbp'],
      ['note 2', undefined],
      ['eur 2', 'eur'],
    ]
    const ids: string[] = []
    for (const [text, key] of published) ids.push(await hub.publish('rates', 'rate', text, { key }))
    const again = await (await connect('channels=rates', client.lastId)).live()
    expect(again.channelEvents.map(({ id, data: text }) => [text, id])).toEqual([
      ['note 1', ids[1]],
      ['usd 3', ids[3]],
      ['gbp 1', ids[4]],
      ['note 2', ids[5]],
      ['eur 2', ids[6]],
    ])
    expect(resets(again)).toEqual([])
    // Events that the client has are not repeated, whichever id it resumes from.
    const third = await (await connect('channels=rates', ids[4])).live()
    expect(data(third)).toEqual(['note 2', 'eur 2'])
  })

  it('delivers every update to a client that keeps up', async () => {
    const { hub, connect } = await setUp({ replay: latest() })
    const client = await (await connect('channels=rates')).live()
    for (let n = 1; n <= 50; n++) {
      await hub.publish('rates', 'rate', `${n}`, { key: `${n % 3}` })
      await client.received(n)
    }
    expect(data(client)).toEqual(Array.from({ length: 50 }, (_, n) => `${n + 1}`))
  })

  it('delivers a key once that was published several times in one turn', async () => {
    const hub = makeHub()
    const connection = await subscribeLive(hub, ['rates'])
    for (let n = 1; n <= 50; n++) void hub.publish('rates', 'rate', `${n}`, { key: n === 7 ? 'other' : 'same' })
    await turn()
    expect(data(connection)).toEqual(['7', '50'])
  })

  it.each([
    ['one channel', ['rates']],
    ['several', ['rates', 'log', 'more']],
  ])('lets a slow client of %s catch up with the newest state without a reset, after any number of updates', async (_, channels) => {
    const hub = makeHub({ maxEvents: 5 })
    const connection = await full(hub, channels)
    for (let n = 1; n <= 20_000; n++) {
      const key = ['usd', 'eur', 'gbp'][n % 3]
      await hub.publish('rates', 'rate', `${key} ${n}`, { key })
    }
    expect(data(connection)).toEqual([])
    connection.drain()
    await until(() => connection.channelEvents.length >= 3, 'the client has caught up')
    await hub.publish('rates', 'rate', 'marker')
    await until(() => data(connection).includes('marker'), 'the client is live')
    expect(data(connection)).toEqual(['usd 19998', 'eur 19999', 'gbp 20000', 'marker'])
    expect(resets(connection)).toEqual([])
  })

  it('delivers the newest events in order to a client that reads a little now and then, and finally the whole state', async () => {
    const hub = makeHub({ maxEvents: 20 })
    const connection = await full(hub, ['rates'])
    for (let n = 1; n <= 2_000; n++) {
      await hub.publish('rates', 'rate', n, { key: `${n % 10}` })
      if (n % 97 === 0) {
        connection.drain(1)
        await turn()
      }
    }
    connection.drain()
    await until(() => data(connection).at(-1) === '2000', 'the client has the newest event')
    const numbers = data(connection).map(Number)
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
    expect(numbers.slice(-10)).toEqual(Array.from({ length: 10 }, (_, n) => 1_991 + n))
    expect(numbers.length).toBeLessThan(500)
    expect(resets(connection)).toEqual([])
  })

  it('delivers no replaced event to a client that is behind, although another received it from the same position', async () => {
    const hub = makeHub()
    await hub.publish('rates', 'rate', 'note')
    const quick = await subscribeLive(hub, ['rates'])
    const slow = await full(hub, ['rates'])
    for (const key of ['a', 'b']) await hub.publish('rates', 'rate', `${key} 1`, { key })
    await until(() => data(quick).length === 2, 'the other client has the event')
    void hub.publish('rates', 'rate', 'a 2', { key: 'a' })
    slow.output.full = false
    slow.feed?.flush()
    expect(data(slow)).toEqual(['b 1', 'a 2'])
    await until(() => data(quick).length === 3, 'the other client has that event, too')
    expect(data(quick)).toEqual(['a 1', 'b 1', 'a 2'])
  })

  it('loses nothing in a burst larger than what may wait if newer events replace the rest', async () => {
    const hub = makeHub({ maxBytes: 1_000 })
    const connection = await subscribeLive(hub, ['rates'])
    // 20 MB in one turn, of which 4 MiB may wait.
    void hub.publish('rates', 'rate', 'first', { key: 'other' })
    for (let n = 1; n <= 200; n++) void hub.publish('rates', 'rate', `${n} ${'x'.repeat(100_000)}`, { key: 'same' })
    await until(() => connection.channelEvents.length >= 2, 'the burst is delivered')
    expect(data(connection).map((text) => text.split(' ', 1)[0])).toEqual(['first', '200'])
    expect(resets(connection)).toEqual([])
  })

  it('counts the kept events for rewind', async () => {
    const hub = makeHub()
    for (let n = 1; n <= 30; n++) await hub.publish('rates', 'rate', n, n % 10 === 5 ? {} : { key: `${n % 3}` })
    // 5, 15 and 25 have no key. The others are the last of each key.
    expect(data(await subscribeLive(hub, ['rates'], '', { rewind: 100 }))).toEqual(['5', '15', '25', '28', '29', '30'])
    for (const rewind of [1, 2, 4, 6]) {
      const connection = await subscribeLive(hub, ['rates'], '', { rewind })
      expect(data(connection)).toEqual(['5', '15', '25', '28', '29', '30'].slice(-rewind))
      expect(opened(connection)).toMatchObject({ replayed: rewind })
    }
  })

  it('resets no client for replaced events, however far they exceed maxEvents and maxBytes', async () => {
    const { hub, connect } = await setUp({ replay: latest({ maxEvents: 4, maxBytes: 2_000 }) })
    const first = await hub.publish('rates', 'rate', 'start')
    for (let n = 1; n <= 1_000; n++) await hub.publish('rates', 'rate', `${n} ${'x'.repeat(200)}`, { key: `${n % 3}` })
    const client = await (await connect('channels=rates', first)).live()
    expect(data(client).map((text) => Number.parseInt(text, 10))).toEqual([998, 999, 1_000])
    expect(resets(client)).toEqual([])
  })

  it.each<[string, ReplayOptions]>([
    ['maxEvents', { maxEvents: 4 }],
    ['maxBytes', { maxBytes: 4 * 250 }],
  ])('resets a client that is behind if there are more keys than %s allows, and none that keeps up', async (_, options) => {
    const { hub, connect } = await setUp({ replay: latest(options) })
    const live = await (await connect('channels=rates')).live()
    const ids: string[] = []
    for (let n = 1; n <= 20; n++) {
      ids.push(await hub.publish('rates', 'rate', `${n} ${'x'.repeat(150)}`, { key: `${n % 5}` }))
      await live.received(n)
    }
    const behind = await (await connect('channels=rates', ids[14])).live()
    expect([data(behind), resets(behind)]).toEqual([[], [{ channels: ['rates'], reason: 'expired' }]])
    const near = await (await connect('channels=rates', ids[15])).live()
    expect([data(near).map((text) => Number.parseInt(text, 10)), resets(near)]).toEqual([[17, 18, 19, 20], []])
    expect([live.channelEvents.length, resets(live)]).toEqual([20, []])
  })

  it('resets a slow client with the reason slow if keys were dropped that it has not received', async () => {
    const hub = makeHub({ maxEvents: 4 })
    const connection = await full(hub, ['rates'])
    for (let n = 1; n <= 5; n++) {
      await hub.publish('rates', 'rate', n, { key: `${n}` })
      await turn()
    }
    connection.drain()
    await turn()
    expect([data(connection), resets(connection)]).toEqual([[], [{ channels: ['rates'], reason: 'slow' }]])
    await hub.publish('rates', 'rate', 6, { key: '1' })
    await turn()
    expect(data(connection)).toEqual(['6'])
  })

  it('keeps a key that is published again after its event was dropped', async () => {
    const hub = makeHub({ maxEvents: 2 })
    for (const key of ['a', 'b', 'c', 'a', 'a', 'd']) await hub.publish('rates', 'rate', key, { key })
    expect(data(await subscribeLive(hub, ['rates'], '', { rewind: 9 }))).toEqual(['a', 'd'])
  })

  it('drops the newest event of a key when it is too old, and resets a client without it', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] })
    const hub = makeHub({ maxAgeMs: 1_000 })
    const start = await hub.publish('log', 'e', 'start')
    await hub.publish('rates', 'rate', 'usd 1', { key: 'usd' })
    const second = await hub.publish('rates', 'rate', 'usd 2', { key: 'usd' })
    jest.advanceTimersByTime(600)
    await hub.publish('rates', 'rate', 'eur 1', { key: 'eur' })
    jest.advanceTimersByTime(399)
    expect(data(await subscribeLive(hub, ['rates'], start))).toEqual(['usd 2', 'eur 1'])
    jest.advanceTimersByTime(1)
    const behind = await subscribeLive(hub, ['rates'], start)
    expect([data(behind), resets(behind)]).toEqual([[], [{ channels: ['rates'], reason: 'expired' }]])
    const current = await subscribeLive(hub, ['rates'], second)
    expect([data(current), resets(current)]).toEqual([['eur 1'], []])
  })

  it('calls the filter of a client that is behind only for the newest event of each key', async () => {
    const hub = makeHub({ maxEvents: 100 })
    const asked: unknown[] = []
    const filter: SubscribeOptions['filter'] = (event) => {
      asked.push(event.data)
      return (event.data as number) % 2 === 0
    }
    const connection = await full(hub, ['rates'], { filter })
    for (let n = 1; n <= 1_000; n++) await hub.publish('rates', 'rate', n, { key: `${n % 4}` })
    connection.drain()
    await until(() => asked.length >= 4, 'the client has caught up')
    expect(asked).toEqual([997, 998, 999, 1_000])
    expect(data(connection)).toEqual(['998', '1000'])
    await hub.publish('rates', 'rate', 1_001, { key: '0' })
    await hub.publish('rates', 'rate', 1_002, { key: '1' })
    await until(() => data(connection).includes('1002'), 'the client is live')
    expect(data(connection)).toEqual(['998', '1000', '1002'])
    expect(resets(connection)).toEqual([])
  })

  it('moves the id of a client that wants no event, so that its reconnect needs no reset', async () => {
    const { hub, connect } = await setUp({ replay: latest({ maxEvents: 8 }) })
    const filter: SubscribeOptions['filter'] = () => false
    const connection = await subscribeLive(hub, ['rates'], '', { filter })
    for (let n = 1; n <= 100; n++) {
      await hub.publish('rates', 'rate', n, { key: `${n % 20}` })
      await turn()
    }
    const { id } = connection.events.at(-1) ?? {}
    const client = await (await connect('channels=rates', id)).live()
    expect(resets(client)).toEqual([])
    expect(data(connection)).toEqual([])
  })

  it('lets a filter publish to the key that it is called for', async () => {
    const hub = makeHub()
    const seen: unknown[] = []
    const connection = await subscribeLive(hub, ['rates'], '', {
      filter: (event) => {
        seen.push(event.data)
        const n = event.data as number
        if (n < 5) for (const key of ['a', 'b']) void hub.publish('rates', 'rate', n + 1, { key })
        return true
      },
    })
    void hub.publish('rates', 'rate', 1, { key: 'a' })
    void hub.publish('rates', 'rate', 2, { key: 'b' })
    await until(() => data(connection).slice(-2).join() === '5,5', 'the last events of both keys have arrived')
    expect(seen.map(String)).toEqual(data(connection))
    expect(data(connection)).toEqual(data(connection).toSorted())
    expect(data(await subscribeLive(hub, ['rates'], '', { rewind: 10 }))).toEqual(['5', '5'])
  })

  it('merges with other channels in the order of publishing', async () => {
    const { hub, connect } = await setUp({ replay: (channel) => (channel === 'log' ? {} : latest()) })
    const start = await hub.publish('log', 'e', 'start')
    for (const [channel, text, key] of [
      ['rates', 'usd 1', 'usd'],
      ['log', 'log 1', undefined],
      ['rates', 'eur 1', 'eur'],
      ['more', 'usd 1 of more', 'usd'],
      ['log', 'log 2', undefined],
      ['rates', 'usd 2', 'usd'],
      ['rates', 'note', undefined],
      ['log', 'log 3', undefined],
    ] as const) {
      await hub.publish(channel, 'e', text, { key })
    }
    const client = await (await connect('channels=rates,log,more', start)).live()
    expect(data(client)).toEqual(['log 1', 'eur 1', 'usd 1 of more', 'log 2', 'usd 2', 'note', 'log 3'])
    expect(resets(client)).toEqual([])
  })

  it('gives the state to an iterator that resumes, and to one that pulls slowly', async () => {
    const hub = makeHub({ maxEvents: 5 })
    const start = await hub.publish('rates', 'rate', 0)
    const slow = hub.events(['rates'])
    for (let n = 1; n <= 5_000; n++) {
      await hub.publish('rates', 'rate', n, { key: `${n % 3}` })
      await turn()
    }
    await hub.publish('rates', 'rate', 'end')
    const pull = async (events: AsyncIterable<{ data: unknown }>): Promise<unknown[]> => {
      const pulled: unknown[] = []
      for await (const event of events) {
        pulled.push(event.data)
        if (event.data === 'end') break
      }
      return pulled
    }
    expect(await pull(hub.events(['rates'], { lastEventId: start }))).toEqual([4_998, 4_999, 5_000, 'end'])
    const slowly = (await pull(slow)) as number[]
    expect(slowly.slice(-4)).toEqual([4_998, 4_999, 5_000, 'end'])
    expect(new Set(slowly).size).toBe(slowly.length)
    // The iterator had taken 64 KiB in advance.
    expect(slowly.length).toBeLessThan(2_000)
    expect(hub.stats().resets).toBe(0)
  })

  it.each<[string, HubOptions['replay']]>([
    ['by default', undefined],
    ['because of the bounds of all', { latestPerKey: false }],
    ['because of its own', (channel) => ({ latestPerKey: channel !== 'c' })],
  ])('is required for a key: a publish to a channel that keeps all events %s is rejected and stores nothing', async (_, replay) => {
    const hub = new Hub({ replay })
    for (const round of [1, 2]) {
      await expect(hub.publish('c', 'e', 1, { key: 'k' })).rejects.toMatchObject({
        code: 'SSE_INVALID_KEY',
        status: 500,
        message: "publish to 'c': a key needs a channel with replay: { latestPerKey: true }, got 'k'",
      })
      expect(hub.stats()).toMatchObject({ published: round - 1, channels: round - 1 })
      await hub.publish('c', 'e', 1)
    }
  })

  it.each([
    ['an empty one', '', "''"],
    ['one of 257 units', 'x'.repeat(257), 'xxx'],
    ['one with a lone surrogate', '\ud800', 'd800'],
    ['a number', 7, '7'],
    ['null', null, 'null'],
  ])('refuses an invalid key: %s', async (_, key, shown) => {
    const hub = makeHub()
    const publishing = hub.publish('rates', 'rate', 1, { key: key as string })
    await expect(publishing).rejects.toMatchObject({
      code: 'SSE_INVALID_KEY',
      message: expect.stringMatching(/^publish: key must be /) as string,
    })
    await expect(publishing).rejects.toThrow(shown)
    expect(hub.stats()).toMatchObject({ published: 0, channels: 0 })
  })

  it('distinguishes keys of any characters', async () => {
    const hub = makeHub()
    const keys = ['x'.repeat(256), 'x', 'X', '__proto__', 'constructor', '\0', '\n', 'undefined', '1']
    for (const round of [1, 2]) for (const key of keys) await hub.publish('rates', 'rate', `${round} ${keys.indexOf(key)}`, { key })
    expect(data(await subscribeLive(hub, ['rates'], '', { rewind: 100 }))).toEqual(keys.map((_, n) => `2 ${n}`))
  })

  it('must be a boolean', () => {
    expect(() => new Hub({ replay: { latestPerKey: 1 as unknown as boolean } })).toThrow(/replay\.latestPerKey must be a boolean, got 1/)
  })

  it.each<[string, (hub: Hub) => Promise<FakeConnection> | null]>([
    ['no client follows', () => null],
    ['a client that keeps up follows', (hub) => subscribeLive(hub, ['rates'])],
    ['a client that takes nothing follows', (hub) => full(hub, ['rates', 'log'])],
  ])('keeps few bytes over many updates of ten keys while %s', async (_, follow) => {
    const hub = makeHub()
    const connection = await follow(hub)
    const updates = times(100_000)
    let most = 0
    for (let n = 1; n <= updates; n++) {
      // A turn after every hundred updates makes bursts.
      void hub.publish('rates', 'rate', n, { key: `${n % 10}` })
      if (n % 100 === 0) await turn()
      most = Math.max(most, hub.stats().logBytes)
    }
    const [only = ''] = data(await subscribeLive(hub, ['rates'], '', { rewind: 1 }))
    expect(only).toBe(String(updates))
    // Ten events of some 60 bytes in a page of 1 KiB that had more, and the objects around them.
    expect(most).toBeLessThan(10_000)
    expect(hub.stats().logBytes).toBeGreaterThan(0)
    connection?.drain()
    await until(() => connection === null || data(connection).at(-1) === String(updates), 'the client has caught up')
    expect(hub.stats().resets).toBe(0)
  })
})
