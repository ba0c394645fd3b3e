import { Hub, type HubEvent, type ResetEvent } from 'express-sse-hub'
import { parseId } from '../../lib/event/event-id.ts'
import { until } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { brief, numberOf, publishNumbers, range, resetOf, take, takeUntil } from '../support/hub-items.ts'

const positionOf = (id: string): number => parseId(id)?.position ?? Number.NaN

describe('hub.events() with a lastEventId', () => {
  it.each([1, 2, 5, 11, 12])('%i of 12 gives exactly the events that follow, and then new ones', async (after) => {
    const hub = new Hub()
    const ids = await publishNumbers(hub, 'a', range(1, 12))
    const items = hub.events(['a'], { lastEventId: ids[after - 1] })
    await publishNumbers(hub, 'a', [13])
    const taken = await take(items, 13 - after)
    expect(taken.map(brief)).toEqual(range(after + 1, 13).map((n) => `a ${n}`))
    expect(taken.slice(0, -1).map(({ id }) => id)).toEqual(ids.slice(after))
  })

  it('resumes every channel from the id of one of them', async () => {
    const hub = new Hub()
    const ids: string[] = []
    for (const n of range(1, 9)) ids.push(...(await publishNumbers(hub, n % 3 === 0 ? 'a' : 'b', [n])))
    for (const after of [1, 3, 8]) {
      const items = hub.events(['a', 'b', 'new'], { lastEventId: ids[after - 1] })
      expect((await take(items, 9 - after)).map(numberOf)).toEqual(range(after + 1, 9))
      await items.return?.()
    }
  })

  it("that is '' begins with the first event after the call", async () => {
    const hub = new Hub()
    await publishNumbers(hub, 'a', [1])
    const items = hub.events(['a'], { lastEventId: '' })
    await publishNumbers(hub, 'a', [2])
    expect((await take(items, 1)).map(brief)).toEqual(['a 2'])
  })

  it.each([
    ['garbage', () => 'garbage', 'unknown-id'],
    ['a position ahead of the hub', (id: string) => id.replace(/-\d+/, '-9007199254740991'), 'unknown-id'],
    ['the id of another hub', (id: string) => `0000000000${id.slice(10)}`, 'restarted'],
  ])('that is %s gives one reset, and then new events', async (_, change, reason) => {
    const hub = new Hub()
    const [id = ''] = await publishNumbers(hub, 'a', [1, 2])
    const items = hub.events(['a', 'b'], { lastEventId: change(id) })
    const [reset] = (await take(items, 1)) as [ResetEvent]
    expect(reset).toEqual(resetOf(['a', 'b'], reason))
    await publishNumbers(hub, 'b', [3])
    expect((await take(items, 1)).map(brief)).toEqual(['b 3'])
    // An iterator that resumes from the reset is not reset again.
    const again = hub.events(['a', 'b'], { lastEventId: reset.id })
    expect((await take(again, 1)).map(brief)).toEqual(['b 3'])
  })

  it('before dropped events gives a reset of their channels, and the other channels in full', async () => {
    const hub = new Hub({ replay: (channel) => ({ maxEvents: channel === 'a' ? 2 : 100 }) })
    const [first = ''] = await publishNumbers(hub, 'b', [0])
    for (const n of range(1, 9)) await publishNumbers(hub, n % 2 === 0 ? 'b' : 'a', [n])
    const items = hub.events(['a', 'b'], { lastEventId: first })
    const taken = await take(items, 1)
    await publishNumbers(hub, 'a', [10])
    taken.push(...(await take(items, 5)))
    expect(taken.map(brief)).toEqual(['reset a expired', 'b 2', 'b 4', 'b 6', 'b 8', 'a 10'])
    // A program that stops at the reset resumes from its old position, and loses no event of the other channels.
    expect(positionOf(taken[0]?.id ?? '')).toBe(positionOf(first))
  })

  it('of the newest dropped event gives the kept events, without a reset', async () => {
    const hub = new Hub({ replay: { maxEvents: 3 } })
    const ids = await publishNumbers(hub, 'a', range(1, 8))
    expect((await take(hub.events(['a'], { lastEventId: ids[4] }), 3)).map(brief)).toEqual(['a 6', 'a 7', 'a 8'])
    expect((await take(hub.events(['a'], { lastEventId: ids[3] }), 1)).map(brief)).toEqual(['reset a expired'])
  })

  it('that is unknown gives a reset, and every event since the call', async () => {
    const hub = new Hub()
    const items = hub.events(['a'], { lastEventId: 'garbage' })
    void hub.publish('a', 'item', 1)
    void hub.publish('a', 'item', 2)
    await turn()
    await turn()
    await hub.close()
    expect((await takeUntil(items, () => false)).map(brief)).toEqual(['reset a unknown-id', 'a 1', 'a 2'])
  })
})

describe('hub.events() with a rewind', () => {
  it('begins each channel at its n-th last event, merged in the order of publishing', async () => {
    const hub = new Hub()
    for (const n of range(1, 8)) await publishNumbers(hub, n % 3 === 0 ? 'a' : 'b', [n])
    const items = hub.events(['a', 'b', 'empty'], { rewind: 2 })
    await publishNumbers(hub, 'a', [9])
    expect((await take(items, 5)).map(brief)).toEqual(['a 3', 'a 6', 'b 7', 'b 8', 'a 9'])
  })

  it('gives the kept events if there are fewer, without a reset', async () => {
    const hub = new Hub({ replay: { maxEvents: 3 } })
    await publishNumbers(hub, 'a', range(1, 8))
    const items = hub.events(['a'], { rewind: 100 })
    await publishNumbers(hub, 'a', [9])
    expect((await take(items, 4)).map(brief)).toEqual(['a 6', 'a 7', 'a 8', 'a 9'])
  })

  it('is ignored if there is a lastEventId', async () => {
    const hub = new Hub()
    const ids = await publishNumbers(hub, 'a', range(1, 4))
    const items = hub.events(['a'], { rewind: 3, lastEventId: ids[2] })
    expect((await take(items, 1)).map(brief)).toEqual(['a 4'])
  })
})

describe('the lastEventId of hub.events()', () => {
  it('is set before the first item, and misses no later event', async () => {
    const hub = new Hub()
    const { lastEventId } = hub.events(['a'])
    for (const n of range(1, 3)) await hub.publish('a', 'item', n)
    const items = hub.events(['a'], { lastEventId })
    expect((await takeUntil(items, (item) => numberOf(item) === 3)).map(brief)).toEqual(['a 1', 'a 2', 'a 3'])
  })

  it('moves past unwanted events and past events of other channels', async () => {
    const hub = new Hub({ replay: { maxEvents: 5 } })
    const filter = ({ data }: HubEvent): boolean => data === 1
    const items = hub.events(['a'], { filter })
    for (const n of range(1, 20)) await hub.publish('a', 'item', n)
    expect((await takeUntil(items, () => true)).map(brief)).toEqual(['a 1'])
    const last = await hub.publish('b', 'item', 1)
    // The pump may not have passed all events of channel a to the filter yet.
    await until(() => items.lastEventId === last.replace(/b$/, ''), 'the id has moved')
    const { lastEventId } = items
    await items.return()
    const resumed = hub.events(['a'], { lastEventId, filter })
    await hub.publish('a', 'item', 1)
    expect((await takeUntil(resumed, () => true)).map(brief)).toEqual(['a 1'])
  })

  it('is that of the last item while others are held, and stays after the end', async () => {
    const hub = new Hub()
    const ids: string[] = []
    const items = hub.events(['a'])
    for (const n of range(1, 3)) ids.push(await hub.publish('a', 'item', n))
    await turn()
    const [first] = await takeUntil(items, () => true)
    expect(first?.id).toBe(ids[0])
    expect(items.lastEventId).toBe(first?.id.replace(/a$/, ''))
    await items.return()
    expect(items.lastEventId).toBe(first?.id.replace(/a$/, ''))
    expect(hub.events(['a'], { lastEventId: 'garbage' }).lastEventId).toBe('garbage')
  })
})
