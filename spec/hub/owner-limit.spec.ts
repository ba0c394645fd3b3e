import { Hub } from 'express-sse-hub'
import { type TestClient, until } from '../support/client.ts'
import { serveHub } from '../support/hub-app.ts'
import { stopServers } from '../support/servers.ts'

afterEach(stopServers)

async function setUp(
  maxSubscribersPerOwner: { max: number; whenFull?: 'refuse' | 'close-oldest' },
  maxSubscribers: number | false = false,
) {
  const { hub, url, connect } = await serveHub({ hub: { maxSubscribersPerOwner, maxSubscribers, replay: { maxBytes: 50_000_000 } } })
  const connectAs = (owner: string): Promise<TestClient> => connect(`owner=${owner}`)
  return { hub, url, connect: connectAs, live: async (owner: string) => (await connectAs(owner)).live() }
}

const ENDED = /\n\nretry: [123]\d{4}\nevent: stream-end\ndata: \{"reason":"limit"\}\n\n$/

describe("maxSubscribersPerOwner: { whenFull: 'close-oldest' }", () => {
  it('admits one more and ends the oldest stream of that owner, after the events published before', async () => {
    const { hub, live } = await setUp({ max: 2, whenFull: 'close-oldest' })
    const other = await live('bob')
    const clients = [await live('ann'), await live('ann')]
    void hub.publish('a', 'item', 1)
    for (let n = 2; n < 5; n++) {
      clients.push(await live('ann'))
      const oldest = clients[n - 2] as TestClient
      await oldest.over()
      expect(oldest.text).toMatch(ENDED)
      expect(hub.stats()).toMatchObject({ subscribers: 3, refusals: 0 })
    }
    expect(clients.slice(0, 2).map(({ data }) => data)).toEqual([[1], [1]])
    await hub.publish('a', 'item', 999)
    for (const client of [other, ...clients.slice(3)]) {
      await until(() => client.data.at(-1) === 999, 'the remaining clients still receive events')
    }
  })

  it('ends no stream after one has ended by itself', async () => {
    const { hub, live } = await setUp({ max: 1, whenFull: 'close-oldest' })
    const first = await live('ann')
    first.leave()
    await until(() => hub.stats().subscribers === 0, 'the client has left')
    const second = await live('ann')
    await hub.publish('a', 'item', 1)
    await second.received(1)
    expect(second.ended).toBe(false)
  })

  it('replaces the stream of a client that reads nothing', async () => {
    const { hub, live } = await setUp({ max: 1, whenFull: 'close-oldest' })
    const ghost = await live('ann')
    ghost.pause()
    for (let n = 0; n < 200; n++) await hub.publish('a', 'item', { x: 'x'.repeat(100_000) })
    const next = await live('ann')
    expect(hub.stats().subscribers).toBe(1)
    await hub.publish('a', 'item', 999)
    await until(() => next.data.at(-1) === 999, 'the next client receives the event')
  })

  it.each<[string, Record<string, string>]>([
    ['does not accept event streams', { accept: 'application/json' }],
    ['asks for the head alone', { method: 'HEAD' }],
  ])('ends no stream for a client that %s', async (_what, { method = 'GET', ...headers }) => {
    const { hub, live, url } = await setUp({ max: 1, whenFull: 'close-oldest' })
    const first = await live('ann')
    await fetch(`${url}/?owner=ann`, { method, headers })
    await hub.publish('a', 'item', 1)
    await first.received(1)
    expect([first.ended, hub.stats().subscribers]).toEqual([false, 1])
  })

  it('lets an owner replace its stream while the hub is full', async () => {
    const { hub, live } = await setUp({ max: 1, whenFull: 'close-oldest' }, 2)
    await live('bob')
    const first = await live('ann')
    await live('ann')
    await first.over()
    expect(hub.stats()).toMatchObject({ subscribers: 2, refusals: 0 })
  })

  it('refuses one more by default', async () => {
    for (const limit of [{ max: 1 }, { max: 1, whenFull: 'refuse' as const }]) {
      const { hub, live, connect } = await setUp(limit)
      const first = await live('ann')
      const second = await connect('ann')
      await second.over()
      expect(second.named('stream-end').map(({ data }) => data)).toEqual(['{"reason":"limit"}'])
      await hub.publish('a', 'item', 1)
      await first.received(1)
    }
  })
})

describe('maxSubscribersPerOwner', () => {
  it.each<[string, unknown, string, RegExp]>([
    ['{ max: 0 }', { max: 0 }, 'RangeError', /Hub: maxSubscribersPerOwner must be an integer, 1 or more, or false, got 0/],
    [
      "{ max: 1, whenFull: 'close' }",
      { max: 1, whenFull: 'close' },
      'TypeError',
      /Hub: maxSubscribersPerOwner\.whenFull must be 'refuse' or 'close-oldest', got 'close'/,
    ],
    [
      '{ maximum: 1 }',
      { maximum: 1 },
      'TypeError',
      /Hub: maxSubscribersPerOwner: there is no option 'maximum'; the options are max, whenFull/,
    ],
    ["'5'", '5', 'TypeError', /Hub: maxSubscribersPerOwner must be an integer, 1 or more, or false, got '5'/],
    ['null', null, 'TypeError', /Hub: maxSubscribersPerOwner.*null/],
  ])('is checked by the constructor: %s', (_what, maxSubscribersPerOwner, name, message) => {
    expect(() => new Hub({ maxSubscribersPerOwner: maxSubscribersPerOwner as number })).toThrow(
      expect.objectContaining({ name, message: expect.stringMatching(message) as string }) as Error,
    )
  })
})
