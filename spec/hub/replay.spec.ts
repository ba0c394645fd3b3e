import { Hub, type HubOptions, sseMiddleware, type SseMiddlewareOptions } from 'express-sse-hub'
import { EventSource } from 'eventsource'
import { TestClient, until } from '../support/client.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serveHub } from '../support/hub-app.ts'
import { serve, stopServers } from '../support/servers.ts'

const numbers = (client: TestClient): number[] => client.data.map(Number)
const positionOf = (id: string): number => Number(/-(\d+)/.exec(id)?.[1] ?? 0)
const resets = (client: TestClient): unknown[] => client.named('stream-reset').map(({ data }) => JSON.parse(data) as unknown)

afterEach(stopServers)

describe.each(EXPRESS_VERSIONS)('replay on %s', (_, express) => {
  async function setUp(options: HubOptions = {}, sseOptions: SseMiddlewareOptions = {}) {
    const {
      hub,
      url,
      connect: open,
      requests: opened,
    } = await serveHub({
      factory: express,
      hub: options,
      sse: sseOptions,
      subscribe: ({ query: { only, rewind = 0 } }) => ({
        filter: only === undefined ? undefined : ({ data }) => data === Number(only),
        rewind: Number(rewind),
      }),
    })
    const connect = (lastEventId = '', channels = 'a', query = ''): Promise<TestClient> => open(`channels=${channels}${query}`, lastEventId)
    const publish = async (from: number, to: number, channel = 'a'): Promise<string[]> => {
      const ids: string[] = []
      for (let n = from; n <= to; n++) ids.push(await hub.publish(channel, 'item', n))
      return ids
    }
    return { hub, connect, publish, opened, url }
  }

  it('sends the head, the retry and a stream-open with an id to resume from to a new client', async () => {
    const { connect } = await setUp()
    const client = await (await connect()).live()
    expect(client.retries).toEqual([2_000])
    expect(client.events).toEqual([
      {
        event: 'stream-open',
        id: expect.stringMatching(/^[0-9a-z]{10}-0\/$/) as string,
        data: '{"channels":["a"],"replayed":0,"keepAliveMs":15000}',
      },
    ])
  })

  it.each([1, 2, 5, 9, 10, 11])('resumes after event %i of 12 with exactly the events that follow', async (after) => {
    const { connect, publish } = await setUp()
    const ids = await publish(1, 12)
    const client = await (await connect(ids[after - 1])).live()
    await publish(13, 13)
    await client.received(13 - after)
    expect(numbers(client)).toEqual(Array.from({ length: 13 - after }, (__, n) => after + 1 + n))
    expect(resets(client)).toEqual([])
    expect(JSON.parse(client.named('stream-open')[0]?.data ?? '')).toMatchObject({ replayed: 12 - after })
  })

  it('keeps the order around 9/10 and 99/100, within one microsecond and later', async () => {
    const { connect, publish } = await setUp()
    const ids = await publish(1, 120)
    const client = await (await connect(ids[7])).live()
    expect(numbers(client)).toEqual(Array.from({ length: 112 }, (__, n) => n + 9))
  })

  it('resumes from the oldest kept event without a reset, and from before it with one', async () => {
    const { connect, publish } = await setUp({ replay: { maxEvents: 5 } })
    const ids = await publish(1, 10)
    // Events 6 to 10 are kept, so a client that has event 5 misses nothing.
    const complete = await (await connect(ids[4])).live()
    expect([numbers(complete), resets(complete)]).toEqual([[6, 7, 8, 9, 10], []])
    const late = await (await connect(ids[3])).live()
    expect([numbers(late), resets(late)]).toEqual([[], [{ channels: ['a'], reason: 'expired' }]])
    await publish(11, 11)
    await late.received(1)
    expect(numbers(late)).toEqual([11])
  })

  it.each([
    ['a position ahead of the hub', (id: string) => id.replace(/-\d+/, '-9007199254740991'), 'unknown-id'],
    ['another epoch', (id: string) => `0000000000${id.slice(10)}`, 'restarted'],
    ['garbage', () => 'garbage', 'unknown-id'],
    ['8 KiB of garbage', () => 'x'.repeat(8_192), 'unknown-id'],
    ['a number', () => '17', 'unknown-id'],
    ['a position with a fraction', (id: string) => id.replace('/', '.5/'), 'unknown-id'],
    ['a negative position', (id: string) => id.replace('-', '--'), 'unknown-id'],
  ])('answers %s with one reset, and then new events', async (__, change, reason) => {
    const { connect, publish } = await setUp()
    const ids = await publish(1, 3)
    const client = await (await connect(change(ids[1] ?? ''))).live()
    await publish(4, 4)
    await client.received(1)
    expect([numbers(client), resets(client)]).toEqual([[4], [{ channels: ['a'], reason }]])
    // The client resumes from the reset, so it is reset once.
    const again = await (await connect(client.named('stream-reset')[0]?.id)).live()
    expect([numbers(again), resets(again)]).toEqual([[4], []])
  })

  it('does not echo the id of a client', async () => {
    const { connect } = await setUp()
    const client = await (await connect('0000000000-5/%22secret%22')).live()
    expect(client.text).not.toContain('secret')
  })

  it('takes the id from the query for clients that cannot set a header', async () => {
    const { connect, publish } = await setUp()
    const ids = await publish(1, 3)
    const client = await (await connect('', 'a', `&lastEventId=${encodeURIComponent(ids[0] ?? '')}`)).live()
    expect(numbers(client)).toEqual([2, 3])
  })

  it('replays the events since the first connection to a client that has received none', async () => {
    const { connect, publish } = await setUp()
    const first = await (await connect()).live()
    const id = first.lastId
    first.leave()
    await publish(1, 2)
    expect(numbers(await (await connect(id)).live())).toEqual([1, 2])
  })

  it('resumes several channels from one id, in the order of publishing', async () => {
    const { connect, publish } = await setUp()
    const ids = await publish(1, 1, 'a')
    for (let n = 2; n <= 9; n++) await publish(n, n, n % 2 === 0 ? 'b' : 'a')
    const client = await (await connect(ids[0], 'a,b')).live()
    expect(numbers(client)).toEqual([2, 3, 4, 5, 6, 7, 8, 9])
  })

  it('resets only the channel that was trimmed, replays the other in full, and leaves the id at the cursor', async () => {
    const { connect, publish } = await setUp({ replay: (channel) => ({ maxEvents: channel === 'a' ? 2 : 100 }) })
    const [first = ''] = await publish(0, 0, 'b')
    for (let n = 1; n <= 8; n++) await publish(n, n, n % 2 === 0 ? 'b' : 'a')
    const client = await (await connect(first, 'a,b')).live()
    expect(numbers(client)).toEqual([2, 4, 6, 8])
    expect(client.events[0]).toMatchObject({ event: 'stream-reset', data: '{"channels":["a"],"reason":"expired"}' })
    expect(client.events[0]?.id?.split('/')[0]).toBe(first.split('/')[0])
    await publish(9, 9, 'a')
    await client.received(5)
    expect(numbers(client)).toEqual([2, 4, 6, 8, 9])
  })

  it('resets the trimmed channel and loses nothing of the other if the client is cut after any event', async () => {
    const { connect, publish } = await setUp({ replay: (channel) => ({ maxEvents: channel === 'a' ? 2 : 100 }) })
    const [first = ''] = await publish(0, 0, 'b')
    for (let n = 1; n <= 12; n++) await publish(n, n, n % 2 === 0 ? 'b' : 'a')
    const whole = await (await connect(first, 'a,b')).live()
    // A client that is cut after `count` events of the catch-up reconnects with the id of the last of them.
    for (let count = 1; count < whole.events.length; count++) {
      const had = whole.events.slice(0, count)
      const again = await (await connect(had.at(-1)?.id, 'a,b')).live()
      const seen = [...had, ...again.events]
      const ofB = seen.filter(({ id, event }) => event === 'item' && id?.endsWith('/b')).map(({ data }) => Number(data))
      expect(ofB).toEqual([2, 4, 6, 8, 10, 12])
      expect(seen.filter(({ event, data }) => event === 'stream-reset' && data.includes('"a"')).length).toBeGreaterThan(0)
    }
  })

  it('replays a channel that the stream did not have before from the same position', async () => {
    const { connect, publish } = await setUp()
    const [first] = await publish(1, 1, 'a')
    await publish(2, 2, 'new')
    await publish(3, 3, 'a')
    expect(numbers(await (await connect(first, 'a,new')).live())).toEqual([2, 3])
  })

  it('serves a client that reconnects before its old connection is closed', async () => {
    const { hub, connect, publish } = await setUp()
    const old = await (await connect()).live()
    const fresh = await (await connect(old.lastId)).live()
    await publish(1, 1)
    await Promise.all([old.received(1), fresh.received(1)])
    expect(hub.channel('a').subscriberCount).toBe(2)
    old.leave()
    await until(() => hub.channel('a').subscriberCount === 1, 'the old connection is closed')
    await publish(2, 2)
    await fresh.received(2)
    expect(numbers(fresh)).toEqual([1, 2])
  })

  it('does not reset a filtered client on its next reconnect, while the log turns over many times', async () => {
    const { connect, publish } = await setUp({ replay: { maxEvents: 40 } })
    const client = await (await connect('', 'a', '&only=-1')).live()
    let recent = ''
    for (let round = 0; round < 40; round++) {
      const ids = await publish(round * 10, round * 10 + 9)
      if (round === 38) recent = ids[9] ?? ''
      await new Promise((resolve) => setImmediate(resolve))
    }
    await until(() => positionOf(client.lastId) >= positionOf(recent), 'the id has moved to a position that the log still has')
    const [marker] = await publish(-1, -1)
    await client.received(1)
    expect(client.named('stream-position').length).toBeLessThanOrEqual(41)
    expect(client.events.every(({ data, event }) => event !== 'stream-position' || data === '')).toBe(true)
    const beforeMarker = client.events.at(-2)?.id
    const again = await (await connect(beforeMarker, 'a', '&only=-1')).live()
    expect([resets(again), again.channelEvents.map(({ id }) => id)]).toEqual([[], [marker]])
  })

  it('forgets an unused channel, and resets a client that may have missed an event of it', async () => {
    const { hub, connect, publish } = await setUp({ replay: (channel) => ({ maxAgeMs: channel === 'a' ? 100 : 60_000 }) })
    const [before] = await publish(0, 0, 'b')
    await publish(1, 1, 'a')
    await until(() => hub.channel('a').lastEventId === '', 'the channel is forgotten')
    const [after] = await publish(2, 2, 'b')
    const [again] = await publish(3, 3, 'a')
    expect(resets(await (await connect(before)).live())).toEqual([{ channels: ['a'], reason: 'expired' }])
    expect(numbers(await (await connect(after)).live())).toEqual([3])
    expect(Number(again?.match(/-(\d+)/)?.[1])).toBeGreaterThan(Number(after?.match(/-(\d+)/)?.[1]))
  })

  it('delivers every event once to an EventSource that reconnects', async () => {
    const { publish, opened, url } = await setUp({}, { retryMs: 10 })
    const seen: number[] = []
    let opens = 0
    const source = new EventSource(`${url}/?channels=a`)
    source.addEventListener('item', ({ data }) => seen.push(Number(data)))
    source.addEventListener('stream-open', () => opens++)
    try {
      for (let round = 0; round < 3; round++) {
        await until(() => opens === round + 1, 'the client is live')
        await publish(round * 4 + 1, round * 4 + 2)
        await until(() => seen.length === round * 4 + 2, 'the client has every event')
        if (round === 2) break
        opened.at(-1)?.socket.destroy()
        await publish(round * 4 + 3, round * 4 + 4)
      }
      expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    } finally {
      source.close()
    }
  })
})

describe('an idle client', () => {
  it('receives a new id instead of the keep-alive comment, so that its next reconnect needs no reset', async () => {
    const hub = new Hub({ replay: { maxEvents: 3 } })
    const sse = sseMiddleware({ keepAliveMs: 50 })
    const { url } = await serve((req, res) => {
      sse(req, res, () => void (res as unknown as Express.Response).sse.subscribe(hub, ['quiet']))
    })
    const client = await (await TestClient.open(url)).live()
    await until(() => client.comments.length > 0, 'a comment arrives while the hub is idle')
    for (let n = 0; n < 20; n++) await hub.publish('busy', 'item', n)
    await until(() => client.named('stream-position').length > 0, 'the id has moved')
    const position = client.named('stream-position')[0]
    expect(position?.id?.split('/')[0]).toBe(hub.channel('busy').lastEventId.split('/')[0])
    const comments = client.comments.length
    await until(() => client.comments.length > comments, 'more comments arrive')
    expect(client.named('stream-position')).toHaveLength(1)
    const again = await (await TestClient.open(url, { headers: { 'last-event-id': position?.id } })).live()
    expect(again.named('stream-reset')).toEqual([])
  })
})
