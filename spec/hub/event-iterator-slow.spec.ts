import { Hub, type ResetEvent } from 'express-sse-hub'
import { parseId } from '../../lib/event/event-id.ts'
import { turn } from '../support/fake-connection.ts'
import { collectGarbage } from '../support/garbage.ts'
import { until } from '../support/client.ts'
import { trimmed, brief, isReset, type Item, numberOf, publishNumbers, range, resetOf, take, takeUntil } from '../support/hub-items.ts'

const positionOf = (id: string): number => parseId(id)?.position ?? Number.NaN

async function buffers(): Promise<number> {
  for (let n = 0; n < 5; n++) {
    collectGarbage()
    await turn()
  }
  return process.memoryUsage().arrayBuffers
}

describe('hub.events() for a program that does not pull', () => {
  it('holds a bounded part, then gives a reset for the rest, then new events', async () => {
    const hub = new Hub({ replay: { maxEvents: 10 } })
    const items = hub.events(['a'])
    const filler = 'x'.repeat(1_000)
    // 20 MB, published at the pace of the delivery.
    const ids = await publishNumbers(hub, 'a', range(1, 20_000), filler)
    await trimmed(hub, 150_000)
    const held = await takeUntil(items, isReset)
    const reset = held.pop() as ResetEvent
    expect(held.map(numberOf)).toEqual(range(1, held.length))
    // One write, and the write that exceeds the bound.
    expect(held.length).toBeGreaterThan(0)
    expect(held.length * filler.length).toBeLessThan(2 * 65_536)
    expect(reset).toEqual(resetOf(['a'], 'slow'))
    expect(positionOf(reset.id)).toBe(positionOf(ids.at(-1) as string))
    const later = await publishNumbers(hub, 'a', [20_001, 20_002])
    expect((await take(items, 2)).map(({ id }) => id)).toEqual(later)
  })

  it('gives one reset for everything missed, and another one for later losses', async () => {
    const hub = new Hub({ replay: { maxEvents: 2 } })
    const items = hub.events(['a'])
    const filler = 'x'.repeat(40_000)
    const miss = async (from: number): Promise<string[]> => {
      await publishNumbers(hub, 'a', range(from, from + 9), filler)
      await trimmed(hub, 150_000)
      const taken = await takeUntil(items, isReset)
      return [String(taken.slice(0, -1).map(numberOf)), brief(taken.at(-1) as Item)]
    }
    expect(await miss(1)).toEqual(['1,2', 'reset a slow'])
    expect(await miss(11)).toEqual(['11,12', 'reset a slow'])
  })

  it('names in the reset the channels that lost events, and gives the others in full', async () => {
    const hub = new Hub({ replay: (channel) => ({ maxEvents: channel === 'a' ? 2 : 1_000 }) })
    const items = hub.events(['a', 'b'])
    await publishNumbers(hub, 'a', range(1, 2), 'x'.repeat(40_000))
    await until(() => hub.stats().delivered === 2, 'the iterator holds both events')
    for (const n of range(3, 40)) {
      await publishNumbers(hub, n % 4 === 0 ? 'b' : 'a', [n])
      await turn()
    }
    const taken = await take(items, 2 + 1 + 10)
    expect(taken.map(brief)).toEqual(['a 1', 'a 2', 'reset a slow', ...range(1, 10).map((n) => `b ${4 * n}`)])
    await publishNumbers(hub, 'a', [41])
    expect((await take(items, 1)).map(brief)).toEqual(['a 41'])
  })

  it('loses no event that the log still keeps', async () => {
    const hub = new Hub({ replay: { maxEvents: 10_000, maxBytes: 64_000_000 } })
    const items = hub.events(['a'])
    await publishNumbers(hub, 'a', range(1, 2_000), 'x'.repeat(1_000))
    await turn()
    expect((await take(items, 2_000)).map(brief)).toEqual(range(1, 2_000).map((n) => `a ${n}`))
  })

  it('does not slow down the publisher or other iterators', async () => {
    const hub = new Hub({ replay: { maxEvents: 5 } })
    hub.events(['a'])
    const quick = hub.events(['a'])
    for (const n of range(1, 200)) {
      await publishNumbers(hub, 'a', [n], 'x'.repeat(5_000))
      expect((await take(quick, 1)).map(brief)).toEqual([`a ${n}`])
    }
  })
})

describe('hub.events() that has ended', () => {
  it('releases the events that it held', async () => {
    const hub = new Hub({ replay: { maxEvents: 1 } })
    const before = await buffers()
    const ended = await Promise.all(
      range(1, 20).map(async () => {
        const items = hub.events(['a'])
        await hub.publish('a', 'item', 'x'.repeat(1_000_000))
        await turn()
        await items.return?.()
        return items
      }),
    )
    await hub.publish('a', 'item', 'small')
    expect((await buffers()) - before).toBeLessThan(2_000_000)
    expect(ended).toHaveLength(20)
  })
})
