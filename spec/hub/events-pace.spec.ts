import { until } from '../support/client.ts'
import { Hub, type HubEvent, type HubEvents, type HubOptions, type ResetEvent } from 'express-sse-hub'
import { turn } from '../support/fake-connection.ts'
import { collectGarbage } from '../support/garbage.ts'
import { sized } from '../support/scale.ts'

type Item = HubEvent | ResetEvent
type Items = HubEvents

const DONE = { done: true, value: undefined }
const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => from + n)
const isReset = (item: Item): item is ResetEvent => item.event === 'stream-reset'
const numberOf = ({ data }: Item): number => Number.parseInt(String(data), 10)
const brief = (item: Item): string =>
  isReset(item) ? `reset ${item.data.channels.join()} ${item.data.reason}` : `${item.channel} ${numberOf(item)}`

async function takeUntil(items: Items, isLast: (item: Item) => boolean): Promise<Item[]> {
  const taken: Item[] = []
  for (;;) {
    const { done, value } = await items.next()
    if (done) return taken
    taken.push(value)
    if (isLast(value)) return taken
  }
}

async function buffers(): Promise<number> {
  for (let n = 0; n < 5; n++) {
    collectGarbage()
    await turn()
  }
  return process.memoryUsage().arrayBuffers
}

describe('hub.events() for a consumer that pulls', () => {
  it.each<[string, HubOptions['replay'], number, number]>([
    ['a burst larger than the log in one turn', { maxEvents: 10 }, 2_000, 100],
    ['events larger than the log', { maxBytes: 1_000 }, 4, 300_000],
    ['no replay at all', { maxEvents: 0 }, 2_000, 100],
  ])('is not reset by %s', async (_, replay, count, size) => {
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
})

describe('hub.events(), ended from within onError,', () => {
  it.each<[string, (items: Items, controller: AbortController) => void]>([
    ['by its signal', (_, controller) => controller.abort()],
    ['by return()', (items) => void items.return?.()],
  ])('is for good: every next() after it is done (%s)', async (_, end) => {
    const controller = new AbortController()
    let items: Items | undefined
    const hub = new Hub({
      deserialize: (text) => {
        if (text.includes('bad')) throw new Error('unreadable')
        return JSON.parse(text) as unknown
      },
      onError: () => end(items as Items, controller),
    })
    items = hub.events(['a'], { signal: controller.signal })
    void hub.publish('a', 'item', { bad: 1 })
    void hub.publish('a', 'item', 2)
    expect(await items.next()).toEqual(DONE)
    let after: unknown = 'pending'
    void items.next().then((result) => (after = result))
    for (let n = 0; n < 5; n++) await turn()
    expect(after).toEqual(DONE)
  })
})

/** Runs work on a clock that the work itself moves on, and gives the longest that a turn of the event loop took. */
async function longestTurn(work: (spend: (ms: number) => void) => Promise<void>): Promise<number> {
  let clock = performance.now()
  const now = jest.spyOn(performance, 'now').mockImplementation(() => clock)
  try {
    let longest = 0
    let since = clock
    let isOver = false
    const count = (): void => {
      longest = Math.max(longest, clock - since)
      since = clock
      if (!isOver) setImmediate(count)
    }
    setImmediate(count)
    await work((ms) => (clock += ms))
    isOver = true
    await turn()
    return longest
  } finally {
    now.mockRestore()
  }
}

describe('hub.events() with a filter that wants nothing of a long backlog', () => {
  it('leaves the event loop its turns', async () => {
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
})

describe('the logs of a hub that was closed', () => {
  it('are counted as empty, not as less', async () => {
    const hub = new Hub({ replay: { maxEvents: 3 } })
    hub.events(['a'])
    for (const n of range(1, 50)) void hub.publish('a', 'item', n)
    await hub.close()
    for (let n = 0; n < 5; n++) await turn()
    expect(hub.stats().logBytes).toBe(0)
  })
})

describe('hub.events() for a consumer with a filter that does not pull', () => {
  it('holds about as many bytes as it was given, not the pages that they are part of', async () => {
    const hub = new Hub({ replay: { maxEvents: 10 } })
    const before = await buffers()
    const items = hub.events(['a'], { filter: ({ data }) => String(data).endsWith('!') })
    for (const n of range(1, sized(100_000, 20_000))) await hub.publish('a', 'item', n % 100 === 0 ? `${n}!` : 'x'.repeat(1_000))
    const after = await buffers()
    expect(after - before).toBeLessThan(4_000_000)
    expect(items).toBeDefined()
  })
})

describe('a loop over many small events', () => {
  it('leaves the event loop its turns whatever its body costs', async () => {
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

describe('hub.events() from an id that is unknown', () => {
  it('gives a reset, and everything that is published from the call on', async () => {
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

describe('hub.events() that is refused', () => {
  it('makes no channel', () => {
    const hub = new Hub({ replay: (name) => ({ maxEvents: name === 'bad' ? -1 : 1 }) })
    expect(() => hub.events(['a', 'bad'])).toThrow(/bad/)
    expect(hub.stats().channels).toBe(0)
  })
})

describe('a reset of hub.events()', () => {
  it('is frozen as events are', async () => {
    const [reset] = await takeUntil(new Hub().events(['a'], { lastEventId: 'garbage' }), () => true)
    const { data } = reset as ResetEvent
    expect([reset, data, data.channels].map((value) => Object.isFrozen(value))).toEqual([true, true, true])
  })
})

describe('hub.events() that is over', () => {
  it('lets go of what it held', async () => {
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

describe('the lastEventId of hub.events()', () => {
  it('is there before the first item, and loses nothing that is published afterwards', async () => {
    const hub = new Hub()
    const { lastEventId } = hub.events(['a'])
    for (const n of range(1, 3)) await hub.publish('a', 'item', n)
    const items = hub.events(['a'], { lastEventId })
    expect((await takeUntil(items, (item) => numberOf(item) === 3)).map(brief)).toEqual(['a 1', 'a 2', 'a 3'])
  })

  it('moves over what the filter leaves out, and over what other channels publish', async () => {
    const hub = new Hub({ replay: { maxEvents: 5 } })
    const filter = ({ data }: HubEvent): boolean => data === 1
    const items = hub.events(['a'], { filter })
    for (const n of range(1, 20)) await hub.publish('a', 'item', n)
    expect((await takeUntil(items, () => true)).map(brief)).toEqual(['a 1'])
    const last = await hub.publish('b', 'item', 1)
    // The pump may not have passed all events of a to the filter yet.
    await until(() => items.lastEventId === last.replace(/b$/, ''), 'the id has moved')
    const { lastEventId } = items
    await items.return()
    const resumed = hub.events(['a'], { lastEventId, filter })
    await hub.publish('a', 'item', 1)
    expect((await takeUntil(resumed, () => true)).map(brief)).toEqual(['a 1'])
  })

  it('is that of the last item while others are held, and stays when it is over', async () => {
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

describe('an event that cannot be read', () => {
  it('is reported once, whoever looks at it and when', async () => {
    const faults: string[] = []
    const hub = new Hub({
      deserialize: () => {
        throw new Error('unreadable')
      },
      onError: (_error, { where }) => faults.push(where),
    })
    await hub.publish('a', 'item', { n: 1 })
    for (let n = 0; n < 3; n++) {
      const items = hub.events(['a'], { rewind: 1 })
      void items.next()
      await turn()
      await items.return?.()
      await turn()
    }
    expect(faults).toEqual(['deserialize'])
  })
})

describe('hub.events() of a closed hub', () => {
  it('is over at once, and follows nothing', async () => {
    const hub = new Hub()
    const id = await hub.publish('a', 'item', 1)
    await hub.close()
    for (const options of [{}, { lastEventId: id }, { rewind: 5 }]) expect(await hub.events(['a'], options).next()).toEqual(DONE)
    expect(hub.channel('a').subscriberCount).toBe(0)
  })
})
