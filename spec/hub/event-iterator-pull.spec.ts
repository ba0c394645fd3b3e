import { Hub, type HubOptions } from 'express-sse-hub'
import { turn } from '../support/fake-connection.ts'
import { brief, isReset, type Item, numberOf, publishNumbers, range, take, takeUntil } from '../support/hub-items.ts'
import { longestTurn } from '../support/longest-turn.ts'

describe('hub.events() for a program that pulls', () => {
  it.each<[string, HubOptions['replay'], number, number]>([
    ['a burst larger than the log in one turn', { maxEvents: 10 }, 300, 100],
    ['a burst larger than the bytes of the log', { maxBytes: 2_000 }, 100, 400],
    ['an event larger than the log', { maxBytes: 1_000 }, 1, 300_000],
    ['no replay at all', { maxEvents: 0 }, 300, 100],
  ])('is not reset by %s', async (_, replay, count, size) => {
    const hub = new Hub({ replay })
    const consumers = [hub.events(['a']), hub.events(['a', 'b']), hub.events(['a'], { filter: () => true })]
    for (const round of range(0, 4)) {
      const numbers = range(round * count + 1, (round + 1) * count)
      const pulled = Promise.all(consumers.map((items) => take(items, count)))
      for (const n of numbers) void hub.publish('a', 'item', `${n} ${'x'.repeat(size)}`)
      for (const taken of await pulled) expect(taken.map(brief)).toEqual(numbers.map((n) => `a ${n}`))
    }
  })

  it('answers several calls of next() in order, the end included', async () => {
    const hub = new Hub()
    const controller = new AbortController()
    const items = hub.events(['a', 'b'], { signal: controller.signal })
    const settled: number[] = []
    const nexts = range(0, 9).map(async (index) => {
      const result = await items.next()
      settled.push(index)
      return result.done ? 'done' : brief(result.value)
    })
    await publishNumbers(hub, 'a', [1, 2, 3])
    await turn()
    await publishNumbers(hub, 'b', [4, 5])
    await turn()
    controller.abort()
    expect(await Promise.all(nexts)).toEqual(['a 1', 'a 2', 'a 3', 'b 4', 'b 5', 'done', 'done', 'done', 'done', 'done'])
    expect(settled).toEqual(range(0, 9))
  })

  it('answers several calls of next() in order if the events are there already', async () => {
    const hub = new Hub()
    await publishNumbers(hub, 'a', range(1, 5))
    const items = hub.events(['a'], { rewind: 5 })
    const nexts = range(1, 6).map(() => items.next())
    await publishNumbers(hub, 'a', [6])
    const results = await Promise.all(nexts)
    expect(results.map(({ value }) => brief(value as Item))).toEqual(range(1, 6).map((n) => `a ${n}`))
  })

  it('yields to the event loop in a long backlog', async () => {
    // A clock that advances only by the cost of reading an event, so that a busy machine does not matter.
    let clock = performance.now()
    const deserialize = (text: string): unknown => {
      clock += 0.02
      return text.length
    }
    const hub = new Hub({ replay: { maxEvents: 50_000, maxBytes: 64_000_000 }, deserialize })
    const filler = 'x'.repeat(500)
    for (const n of range(1, 20_000)) void hub.publish('a', 'item', { n, filler })
    const now = jest.spyOn(performance, 'now').mockImplementation(() => clock)
    const stretches: number[] = []
    let since = clock
    let isOver = false
    const count = (): void => {
      stretches.push(clock - since)
      since = clock
      if (!isOver) setImmediate(count)
    }
    setImmediate(count)
    try {
      let pulled = 0
      for await (const item of hub.events(['a'], { rewind: 20_000 })) {
        if (isReset(item) || ++pulled === 20_000) break
      }
      expect(pulled).toBe(20_000)
      isOver = true
      await turn()
    } finally {
      now.mockRestore()
      isOver = true
    }
    // 400 ms of work. A turn ends after 10 ms, plus the events that were handed over before and after that.
    expect(stretches.reduce((sum, stretch) => sum + stretch, 0)).toBeGreaterThan(399)
    expect(Math.max(...stretches)).toBeLessThan(40)
  })

  it('lets timers run while the loop publishes its own next event', async () => {
    const hub = new Hub()
    const items = hub.events(['a'])
    const fired: string[] = []
    setTimeout(() => fired.push('timeout'), 0)
    setImmediate(() => fired.push('immediate'))
    void hub.publish('a', 'item', 0)
    let pulled = 0
    for await (const { data } of items) {
      void hub.publish('a', 'item', (data as number) + 1)
      if (fired.length === 2 || ++pulled === 1_000_000) break
    }
    expect(fired.toSorted()).toEqual(['immediate', 'timeout'])
  })

  it.each<[string, HubOptions['replay'], number, number]>([
    ['a burst larger than the log in one turn', { maxEvents: 10 }, 2_000, 100],
    ['events larger than the log', { maxBytes: 1_000 }, 4, 300_000],
    ['no replay at all', { maxEvents: 0 }, 2_000, 100],
  ])('is not reset by %s, with one pull at a time', async (_, replay, count, size) => {
    const hub = new Hub({ replay })
    const pulled = takeUntil(hub.events(['a']), (item) => isReset(item) || numberOf(item) === count)
    for (const n of range(1, count)) void hub.publish('a', 'item', `${n} ${'x'.repeat(size)}`)
    expect((await pulled).map(brief)).toEqual(range(1, count).map((n) => `a ${n}`))
  })

  it.each<[string, HubOptions]>([
    ['the default log', {}],
    ['a small log', { replay: { maxEvents: 10 } }],
  ])('is not reset by a publisher that awaits each event: %s', async (_, options) => {
    const hub = new Hub(options)
    const pulled = takeUntil(hub.events(['a']), (item) => isReset(item) || numberOf(item) === 20_000)
    for (const n of range(1, 20_000)) await hub.publish('a', 'item', `${n} ${'x'.repeat(100)}`)
    expect((await pulled).map(brief)).toEqual(range(1, 20_000).map((n) => `a ${n}`))
  })

  it('yields to the event loop however long the body of the loop takes', async () => {
    const hub = new Hub({ replay: { maxEvents: 50_000, maxBytes: 64_000_000 } })
    for (const n of range(1, 10_000)) void hub.publish('a', 'item', n)
    let last = 0
    const longest = await longestTurn(async (spend) => {
      for await (const item of hub.events(['a'], { rewind: 10_000 })) {
        spend(0.5)
        last = numberOf(item)
        if (last === 10_000) break
      }
    })
    expect(last).toBe(10_000)
    expect(longest).toBeLessThan(50)
  })
})
