import { Hub, type HubEvent } from 'express-sse-hub'
import { turn } from '../support/fake-connection.ts'
import { collectGarbage } from '../support/garbage.ts'
import { brief, DONE, type Item, numberOf, publishNumbers, range, take, takeUntil } from '../support/hub-items.ts'
import { longestTurn } from '../support/longest-turn.ts'
import { sized } from '../support/scale.ts'

async function buffers(): Promise<number> {
  for (let n = 0; n < 5; n++) {
    collectGarbage()
    await turn()
  }
  return process.memoryUsage().arrayBuffers
}

describe('hub.events() with a filter', () => {
  it('gives the wanted events of every channel, replayed and live', async () => {
    const hub = new Hub()
    const seen: Item[] = []
    const ids = await publishNumbers(hub, 'a', range(1, 6))
    const items = hub.events(['a', 'b'], {
      lastEventId: ids[0],
      filter: (event) => {
        seen.push(event)
        return (event.data as number) % 3 === 0
      },
    })
    for (const n of range(7, 30)) void hub.publish(n % 2 === 0 ? 'a' : 'b', 'item', n)
    expect((await take(items, 10)).map(numberOf)).toEqual([3, 6, 9, 12, 15, 18, 21, 24, 27, 30])
    expect(seen.map(numberOf)).toEqual(range(2, 30))
    expect(seen[0]).toEqual({ id: ids[1], channel: 'a', event: 'item', data: 2 })
  })

  it('treats a filter that throws or returns a promise as false, and reports it', async () => {
    const reported: string[] = []
    const hub = new Hub({ onError: (error, { where }) => reported.push(`${where}: ${String(error)}`) })
    const items = hub.events(['a'], {
      filter: ({ data }) => {
        if (data === 1) throw new Error('broken')
        return data === 2 ? (Promise.resolve(true) as unknown as boolean) : true
      },
    })
    await publishNumbers(hub, 'a', [1, 2, 3])
    expect((await take(items, 1)).map(brief)).toEqual(['a 3'])
    expect(reported).toEqual(['filter: Error: broken', expect.stringMatching(/^filter: .*must return a boolean, not a promise/)])
  })

  it('keeps up with a log that turns over many times while no event is wanted', async () => {
    const hub = new Hub({ replay: { maxEvents: 4 } })
    const items = hub.events(['a'], { filter: ({ data }) => data === -1 })
    const pending = items.next()
    for (const round of range(0, 19)) {
      for (const n of range(1, 10)) void hub.publish('a', 'item', round * 10 + n)
      await turn()
    }
    const [id] = await publishNumbers(hub, 'a', [-1])
    expect(await pending).toMatchObject({ done: false, value: { id, data: -1 } })
  })

  it('lets the filter end the iterator', async () => {
    const hub = new Hub()
    const controller = new AbortController()
    const filter = ({ data }: HubEvent): boolean => {
      if (data === 2) controller.abort()
      return true
    }
    const items = hub.events(['a'], { signal: controller.signal, filter })
    const nexts = [items.next(), items.next()]
    await publishNumbers(hub, 'a', [1, 2, 3])
    expect(await nexts[1]).toEqual(DONE)
    expect(hub.channel('a').subscriberCount).toBe(0)
  })

  it('yields to the event loop in a long backlog of unwanted events', async () => {
    const hub = new Hub({ replay: { maxEvents: 50_000, maxBytes: 64_000_000 } })
    for (const n of range(1, 20_000)) void hub.publish('a', 'item', n)
    let found = ''
    const longest = await longestTurn(async (spend) => {
      const filter = ({ data }: HubEvent): boolean => {
        spend(0.02)
        return data === 20_000
      }
      found = brief((await takeUntil(hub.events(['a'], { rewind: 20_000, filter }), () => true))[0] as Item)
    })
    expect(found).toBe('a 20000')
    expect(longest).toBeLessThan(40)
  })

  it('holds about as many bytes as the wanted events, not the pages around them, if the program does not pull', async () => {
    const hub = new Hub({ replay: { maxEvents: 10 } })
    const before = await buffers()
    const items = hub.events(['a'], { filter: ({ data }) => String(data).endsWith('!') })
    for (const n of range(1, sized(100_000, 20_000))) await hub.publish('a', 'item', n % 100 === 0 ? `${n}!` : 'x'.repeat(1_000))
    const after = await buffers()
    expect(after - before).toBeLessThan(4_000_000)
    expect(items).toBeDefined()
  })
})
