import { Hub, type HubOptions, type PublishOptions, SseError, sseMiddleware, type StandardSchema } from 'express-sse-hub'
import express from 'express'
import { join } from '../../lib/hub/subscribable.ts'
import { TestClient, until } from '../support/client.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)
afterEach(() => {
  jest.useRealTimers()
})

/** The data of the events that a channel keeps. */
async function kept(hub: Hub, channel: string): Promise<string[]> {
  const connection = new FakeConnection()
  hub[join]([channel], { rewind: 1_000 }, '').begin(connection.asConnection)
  while (connection.events.at(-1)?.event !== 'stream-open') await turn()
  connection.leave()
  return connection.channelEvents.map(({ data }) => data)
}

/** A hub in which many keys cost little. */
function makeHub(options: HubOptions = {}): Hub {
  return new Hub({ replay: { maxEvents: 0 }, ...options })
}

/** A schema that settles when the test says so, and refuses the payload `'bad'`. */
function pendingSchema() {
  const settle: (() => void)[] = []
  const schema: StandardSchema<string> = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: async (value) => {
        await new Promise<void>((resolve) => settle.push(resolve))
        return value === 'bad' ? { issues: [{ message: 'it is bad' }] } : { value: value as string }
      },
    },
  }
  return { schema, settle }
}

const idempotencyKey = 'k'

describe('publish with an idempotencyKey', () => {
  it('that was published before resolves with the first id, and stores, delivers and counts nothing', async () => {
    const hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    app.get('/', (_req, res) => res.sse.subscribe(hub, ['c']))
    const { url } = await serve(app)
    const client = await (await TestClient.open(url)).live()
    const id = await hub.publish('c', 'e', 'first', { idempotencyKey })
    const { logBytes } = hub.stats()
    expect(await hub.publish('c', 'e', 'again', { idempotencyKey })).toBe(id)
    await client.received(1)
    expect(await hub.publish('c', 'another', 'late', { idempotencyKey })).toBe(id)
    expect(hub.stats()).toMatchObject({ published: 1, logBytes })
    expect(hub.channel('c').lastEventId).toBe(id)

    const marker = await hub.publish('c', 'e', 'marker')
    await client.received(2)
    expect(client.channelEvents.map((event) => [event.id, event.data])).toEqual([
      [id, 'first'],
      [marker, 'marker'],
    ])
    expect(hub.stats()).toMatchObject({ published: 2, delivered: 2 })
    expect(await kept(hub, 'c')).toEqual(['first', 'marker'])
  })

  it('resolves with the first id after the clock has advanced and other events were published', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] })
    const hub = new Hub()
    const id = await hub.publish('user:ä/1', 'e', 1, { idempotencyKey })
    for (let n = 0; n < 10; n++) await hub.publish('user:ä/1', 'e', n)
    jest.advanceTimersByTime(5_000)
    expect(await hub.publish('user:ä/1', 'e', 2, { idempotencyKey })).toBe(id)
  })

  it.each([
    ['another key', ['c', 'k'], ['c', 'l']],
    ['a key of another case', ['c', 'k'], ['c', 'K']],
    ['another channel', ['c', 'k'], ['d', 'k']],
    ['a channel and a key with the same letters, split elsewhere', ['a', 'bc'], ['ab', 'c']],
    ['a channel and a key that contain the separator', ['a', '1:bc'], ['a1:b', 'c']],
    ['a key that is the channel of another publish', ['a:', 'a'], ['a', ':a']],
  ] as const)('treats %s as another event', async (_, first, second) => {
    const hub = new Hub()
    const ids: string[] = []
    for (const [channel, key] of [first, second, first, second]) ids.push(await hub.publish(channel, 'e', 1, { idempotencyKey: key }))
    expect(ids.slice(2)).toEqual(ids.slice(0, 2))
    expect(ids[0]).not.toBe(ids[1])
    expect(hub.stats().published).toBe(2)
    for (const channel of new Set([first[0], second[0]])) expect(await kept(hub, channel)).toHaveLength(first[0] === second[0] ? 2 : 1)
  })

  it('treats publishes without a key as separate events', async () => {
    const hub = new Hub()
    await hub.publish('c', 'e', 1, { idempotencyKey })
    const ids: string[] = []
    await hub.publish('c', 'e', 1, { idempotencyKey: 'undefined' })
    for (const options of [undefined, {}, { idempotencyKey: undefined }]) ids.push(await hub.publish('c', 'e', 1, options))
    expect(new Set(ids).size).toBe(3)
    expect(await kept(hub, 'c')).toHaveLength(5)
  })

  it('belongs to one hub', async () => {
    const [one, other] = [new Hub(), new Hub()]
    await one.publish('c', 'e', 1, { idempotencyKey })
    await other.publish('c', 'e', 2, { idempotencyKey })
    expect(await kept(other, 'c')).toEqual(['2'])
  })

  it('identifies one event for simultaneous publishes', async () => {
    const hub = new Hub()
    const ids = await Promise.all(Array.from({ length: 50 }, (_, n) => hub.publish('c', 'e', n, { idempotencyKey })))
    expect(new Set(ids).size).toBe(1)
    expect(await kept(hub, 'c')).toEqual(['0'])
    expect(hub.stats().published).toBe(1)
  })

  it('identifies one event for payloads that are validated at the same time: the first valid one is stored', async () => {
    const { schema, settle } = pendingSchema()
    const hub = new Hub({ schemas: { c: { e: schema } } })
    const publishing = ['first', 'second', 'third'].map((data) => hub.publish('c', 'e', data, { idempotencyKey }))
    for (const at of [1, 2, 0]) {
      settle[at]?.()
      await turn()
    }
    const ids = await Promise.all(publishing)
    expect(new Set(ids).size).toBe(1)
    expect(await kept(hub as unknown as Hub, 'c')).toEqual(['second'])
  })

  it('identifies a new event after the maxAgeMs of its channel, and for as long again', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] })
    const hub = new Hub({ replay: (channel) => ({ maxAgeMs: channel === 'short' ? 1_000 : 60_000 }) })
    const publish = (channel: string): Promise<string> => hub.publish(channel, 'e', 1, { idempotencyKey })
    const long = await publish('long')
    const first = await publish('short')
    jest.advanceTimersByTime(999)
    // Using the key again does not extend the time.
    expect(await publish('short')).toBe(first)
    jest.advanceTimersByTime(1)
    const second = await publish('short')
    expect(second).not.toBe(first)
    jest.advanceTimersByTime(999)
    expect(await publish('short')).toBe(second)
    expect(await publish('long')).toBe(long)
    jest.advanceTimersByTime(58_001)
    expect(await publish('long')).not.toBe(long)
    expect(hub.stats().published).toBe(4)
  })

  it('expires by a monotonic clock', async () => {
    const now = jest.spyOn(Date, 'now')
    try {
      now.mockReturnValue(1_000_000_000)
      const hub = new Hub({ replay: { maxAgeMs: 60_000 } })
      const id = await hub.publish('c', 'e', 1, { idempotencyKey })
      for (const clock of [2_000_000_000, 1]) {
        now.mockReturnValue(clock)
        expect(await hub.publish('c', 'e', 1, { idempotencyKey })).toBe(id)
      }
    } finally {
      now.mockRestore()
    }
  })

  it.each<[string, HubOptions['replay'], PublishOptions]>([
    ['keeps no events', { maxEvents: 0 }, {}],
    ['keeps no bytes', { maxBytes: 0 }, {}],
    ['keeps the latest per key', { latestPerKey: true }, { key: 'state' }],
  ])('works if the channel %s', async (_, replay, options) => {
    const hub = new Hub({ replay })
    const connection = new FakeConnection()
    hub[join](['c'], {}, '').begin(connection.asConnection)
    const publish = async (data: string, key: string): Promise<string> => {
      const id = await hub.publish('c', 'e', data, { ...options, idempotencyKey: key })
      await turn()
      return id
    }
    const old = await publish('old', '1')
    await publish('new', '2')
    // A publisher that retries must not bring an old state back.
    expect(await publish('old', '1')).toBe(old)
    await publish('marker', '3')
    expect(connection.channelEvents.map(({ data }) => data)).toEqual(['old', 'new', 'marker'])
    expect(await kept(hub, 'c')).toEqual(options.key === undefined ? [] : ['marker'])
  })

  it.each<[string, string, string, unknown, PublishOptions]>([
    ['a channel', '', 'e', 1, {}],
    ['an event', 'c', 'stream-x', 1, {}],
    ['a payload', 'c', 'e', 1n, {}],
    ['a key', 'c', 'e', 1, { key: 'there is no latestPerKey here' }],
    ['options', 'c', 'e', 1, { unknown: 1 } as PublishOptions],
  ])('is not used up by a publish that is refused for %s', async (_, channel, event, data, options) => {
    const hub = new Hub()
    await expect(hub.publish(channel, event, data, { ...options, idempotencyKey })).rejects.toThrow(Error)
    const id = await hub.publish('c', 'e', 'good', { idempotencyKey })
    expect(await kept(hub, 'c')).toEqual(['good'])
    expect(await hub.publish('c', 'e', 'again', { idempotencyKey })).toBe(id)
  })

  it('is not used up by a payload that an asynchronous schema refuses', async () => {
    const { schema, settle } = pendingSchema()
    const hub = new Hub({ schemas: { c: { e: schema } } })
    const refused = hub.publish('c', 'e', 'bad', { idempotencyKey })
    const good = hub.publish('c', 'e', 'good', { idempotencyKey })
    settle[0]?.()
    await expect(refused).rejects.toMatchObject({ code: 'SSE_INVALID_DATA' })
    settle[1]?.()
    expect(await good).toBe(hub.channel('c').lastEventId)
    expect(await kept(hub as unknown as Hub, 'c')).toEqual(['good'])
  })

  it.each([
    ['an empty one', '', "''"],
    ['one of 257 units', 'x'.repeat(257), 'xxx'],
    ['one with a lone surrogate', 'a\udc00', 'dc00'],
    ['a number', 7, '7'],
    ['null', null, 'null'],
    ['an object', { toString: () => 'k' }, 'toString'],
  ])('rejects %s by name, and stores nothing', async (_, key, shown) => {
    const hub = new Hub()
    const error: unknown = await hub.publish('c', 'e', 1, { idempotencyKey: key as string }).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SseError)
    expect(error).toMatchObject({ code: 'SSE_INVALID_KEY', status: 500 })
    expect((error as Error).message).toMatch(/^publish: idempotencyKey must be a well-formed string of 1 to 256 UTF-16 units, got /)
    expect((error as Error).message).toContain(shown)
    expect(hub.stats()).toMatchObject({ published: 0, logBytes: 0, channels: 0 })
  })

  it('accepts any well-formed key of 256 units', async () => {
    const hub = new Hub()
    const keys = ['x'.repeat(256), '\0', '\n', '😀'.repeat(128), '__proto__']
    const ids: string[] = []
    for (const key of [...keys, ...keys]) ids.push(await hub.publish('c', 'e', 1, { idempotencyKey: key }))
    expect(new Set(ids).size).toBe(keys.length)
    expect(ids.slice(keys.length)).toEqual(ids.slice(0, keys.length))
  })

  it.each([
    ['an unknown option', { idempotencykey: 'k' }, /publish: there is no option 'idempotencykey'; .* key, idempotencyKey$/],
    ['a string', 'k', /publish: options must be an object, got 'k'/],
    ['null', null, /publish: options must be an object, got null/],
    ['an array', ['k'], /publish: options must be an object, got \[ 'k' \]/],
  ])('is refused in %s, and nothing is stored', async (_, options, message) => {
    const hub = new Hub()
    const publishing = hub.publish('c', 'e', 1, options as PublishOptions)
    await expect(publishing).rejects.toThrow(TypeError)
    await expect(publishing).rejects.toThrow(message)
    expect(hub.stats()).toMatchObject({ published: 0, channels: 0 })
  })

  it('is shared with the handle of the channel', async () => {
    const hub = new Hub()
    const channel = hub.channel('c')
    const id = await channel.publish('e', 1, { idempotencyKey })
    expect(await channel.publish('e', 2, { idempotencyKey })).toBe(id)
    expect(await hub.publish('c', 'e', 3, { idempotencyKey })).toBe(id)
    expect(await kept(hub, 'c')).toEqual(['1'])
    await expect(channel.publish('e', 1, { idempotencyKey: '' })).rejects.toMatchObject({ code: 'SSE_INVALID_KEY' })
  })

  it('is remembered among the last 100,000 keys of the hub, of which the oldest is forgotten first', async () => {
    const hub = makeHub()
    const publish = (n: number): Promise<string> => hub.publish(`c${n % 2}`, 'e', n, { idempotencyKey: `${n}` })
    const ids: string[] = []
    for (let n = 0; n < 100_001; n++) ids.push(await publish(n))
    expect(hub.stats().published).toBe(100_001)
    expect(await publish(1)).toBe(ids[1])
    expect(await publish(100_000)).toBe(ids[100_000])
    expect(await publish(0)).not.toBe(ids[0])
    expect(await publish(2)).toBe(ids[2])
    expect(await publish(1)).not.toBe(ids[1])
  })

  it('resolves at once for a repeated publish while the first one waits for the delivery', async () => {
    const hub = makeHub({ replay: { maxEvents: 0, maxBytes: 1_000 } })
    const connection = new FakeConnection()
    hub[join](['c'], {}, '').begin(connection.asConnection)
    const settled: string[] = []
    const large = 'x'.repeat(3_000_000)
    const publish = async (name: string): Promise<void> => {
      await hub.publish('c', 'e', large, { idempotencyKey })
      settled.push(name)
    }
    const publishing = [publish('first'), publish('again')]
    await until(() => settled.length === 2, 'both are settled')
    await Promise.all(publishing)
    expect(settled).toEqual(['again', 'first'])
    expect(connection.channelEvents).toHaveLength(1)
  })

  it('is refused by a closed hub, as any publish is', async () => {
    const hub = new Hub()
    await hub.publish('c', 'e', 1, { idempotencyKey })
    await hub.close()
    await expect(hub.publish('c', 'e', 1, { idempotencyKey })).rejects.toMatchObject({ code: 'SSE_HUB_CLOSED' })
  })
})
