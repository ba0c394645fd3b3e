import { channel as diagnosticsChannel } from 'node:diagnostics_channel'
import { getEventListeners } from 'node:events'
import {
  type DiagnosticMessages,
  type EventsOptions,
  Hub,
  type HubEvent,
  type HubOptions,
  type ResetEvent,
  sseMiddleware,
} from 'express-sse-hub'
import express from 'express'
import { parseId } from '../../lib/event/event-id.ts'
import { join } from '../../lib/hub/subscribable.ts'
import { TestClient, until } from '../support/client.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { randomFrom } from '../support/random.ts'
import { sized } from '../support/scale.ts'
import { serve, stopServers } from '../support/servers.ts'

type Item = HubEvent | ResetEvent
type Items = AsyncIterableIterator<Item>

const DONE = { done: true, value: undefined }

const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => from + n)
const positionOf = (id: string): number => parseId(id)?.position ?? Number.NaN
const isReset = (item: Item): item is ResetEvent => item.event === 'stream-reset'
/** The number that the data of an event is, or begins with. */
const numberOf = ({ data }: Item): number => Number.parseInt(String(data), 10)
/** What came, for short: the channel and the number of an event, the channels and the reason of a reset. */
const brief = (item: Item): string =>
  isReset(item) ? `reset ${item.data.channels.join()} ${item.data.reason}` : `${item.channel} ${numberOf(item)}`

const resetOf = (channels: string[], reason: string) => ({
  id: expect.any(String) as string,
  channel: '',
  event: 'stream-reset',
  data: { channels, reason },
})

/** Pulls so many items. */
async function take(items: Items, count: number): Promise<Item[]> {
  const taken: Item[] = []
  while (taken.length < count) {
    const { done, value } = await items.next()
    if (done) throw new Error(`over after ${taken.length} of ${count} items`)
    taken.push(value)
  }
  return taken
}

/** Pulls up to and with the first item that the condition holds for. */
async function takeUntil(items: Items, isLast: (item: Item) => boolean): Promise<Item[]> {
  const taken: Item[] = []
  do taken.push(...(await take(items, 1)))
  while (!isLast(taken.at(-1) as Item))
  return taken
}

/** Pulls to the end. */
async function takeAll(items: Items): Promise<Item[]> {
  const taken: Item[] = []
  for await (const item of items) taken.push(item)
  return taken
}

/** Publishes the numbers, one after the other, and gives their ids. */
async function publish(hub: Hub, channel: string, numbers: readonly number[], filler = ''): Promise<string[]> {
  const ids: string[] = []
  for (const n of numbers) ids.push(await hub.publish(channel, 'item', filler === '' ? n : `${n} ${filler}`))
  return ids
}

/** What is thrown for these arguments, whatever their types. */
function refusal(hub: Hub, channels: unknown, options: unknown): Error {
  try {
    hub.events(channels as string[], options as EventsOptions)
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}

afterEach(stopServers)

describe('hub.events', () => {
  describe('gives', () => {
    it('id, channel, event and data of what is published from the call on, and nothing from before it', async () => {
      const hub = new Hub()
      await publish(hub, 'a', [0])
      const items = hub.events(['a'])
      const ids = [
        await hub.publish('a', 'made', { at: new Date(0), gone: undefined, list: [1, { two: 2 }] }),
        await hub.publish('a', 'message', 'a\r\nb\n'),
        await hub.publish('a', 'none', null),
        await hub.publish('a', 'text', '{"n":1}'),
      ]
      expect(await take(items, 4)).toEqual([
        { id: ids[0], channel: 'a', event: 'made', data: { at: '1970-01-01T00:00:00.000Z', list: [1, { two: 2 }] } },
        { id: ids[1], channel: 'a', event: 'message', data: 'a\nb\n' },
        { id: ids[2], channel: 'a', event: 'none', data: null },
        { id: ids[3], channel: 'a', event: 'text', data: '{"n":1}' },
      ])
    })

    it('what is published in the turn of the call, without a turn in between', async () => {
      const hub = new Hub()
      const items = hub.events(['a'])
      void hub.publish('a', 'item', 1)
      expect((await take(items, 1)).map(brief)).toEqual(['a 1'])
    })

    it('what is published while a next() is pending', async () => {
      const hub = new Hub()
      const items = hub.events(['a'])
      const pending = items.next()
      const id = await hub.publish('a', 'item', 1)
      expect(await pending).toEqual({ done: false, value: { id, channel: 'a', event: 'item', data: 1 } })
    })

    it('data that is frozen all the way down, and never the object of the publisher', async () => {
      const hub = new Hub()
      const items = hub.events(['a'])
      const order = { id: 1, lines: [{ count: 2 }] }
      void hub.publish('a', 'item', order)
      order.id = 2
      const [item] = (await take(items, 1)) as [HubEvent]
      const data = item.data as typeof order
      expect(data).toEqual({ id: 1, lines: [{ count: 2 }] })
      expect([item, data, data.lines, data.lines[0]].map((value) => Object.isFrozen(value))).toEqual([true, true, true, true])
      expect(Object.isFrozen(order)).toBe(false)
    })

    it('what the deserialize of the hub reads, and strings as they are', async () => {
      const hub = new Hub({ serialize: (value) => `<${String(value)}>`, deserialize: (text) => ({ text }) })
      const items = hub.events(['a'])
      void hub.publish('a', 'item', 1)
      void hub.publish('a', 'item', '<2>')
      expect((await take(items, 2)).map(({ data }) => data)).toEqual([{ text: '<1>' }, '<2>'])
    })

    it('the events of several channels in the order of publishing, each once, a channel named twice too', async () => {
      const hub = new Hub()
      const items = hub.events(['b', 'a', 'c', 'a'])
      for (const n of range(1, 60)) void hub.publish(['a', 'b', 'b', 'other', 'c'][n % 5] as string, 'item', n)
      expect((await take(items, 48)).map(numberOf)).toEqual(range(1, 60).filter((n) => n % 5 !== 3))
      await publish(hub, 'b', [61])
      expect((await take(items, 1)).map(brief)).toEqual(['b 61'])
    })

    it('each of several consumers everything, at its own pace', async () => {
      const hub = new Hub()
      const [quick, slow] = [hub.events(['a']), hub.events(['a'])]
      for (const n of range(1, 20)) {
        void hub.publish('a', 'item', n)
        expect((await take(quick, 1)).map(numberOf)).toEqual([n])
      }
      expect((await take(slow, 20)).map(numberOf)).toEqual(range(1, 20))
    })

    it('a stream of its own shape what it needs, and is over when the client of that stream leaves', async () => {
      const hub = new Hub()
      const app = express()
      app.use(sseMiddleware())
      app.get('/', ({ path }, { sse }) =>
        sse.stream(hub.events(['a'], { lastEventId: sse.lastEventId }), ({ id, data }) => ({ id, data: { n: data, path } })),
      )
      const { url } = await serve(app)
      const [first = '', second = ''] = await publish(hub, 'a', [1, 2])
      const client = await TestClient.open(url, { headers: { 'last-event-id': first } })
      const third = await hub.publish('a', 'item', 3)
      await client.received(2)
      expect(client.events.map(({ id, data }) => [id, data])).toEqual([
        [second, '{"n":2,"path":"/"}'],
        [third, '{"n":3,"path":"/"}'],
      ])
      client.leave()
      await until(() => hub.channel('a').subscriberCount === 0, 'the iteration is over')
    })
  })

  describe('with lastEventId', () => {
    it.each([1, 2, 5, 11, 12])('%i of 12 gives exactly what follows, and then what is published', async (after) => {
      const hub = new Hub()
      const ids = await publish(hub, 'a', range(1, 12))
      const items = hub.events(['a'], { lastEventId: ids[after - 1] })
      await publish(hub, 'a', [13])
      const taken = await take(items, 13 - after)
      expect(taken.map(brief)).toEqual(range(after + 1, 13).map((n) => `a ${n}`))
      expect(taken.slice(0, -1).map(({ id }) => id)).toEqual(ids.slice(after))
    })

    it('resumes every channel from the id of one', async () => {
      const hub = new Hub()
      const ids: string[] = []
      for (const n of range(1, 9)) ids.push(...(await publish(hub, n % 3 === 0 ? 'a' : 'b', [n])))
      for (const after of [1, 3, 8]) {
        const items = hub.events(['a', 'b', 'new'], { lastEventId: ids[after - 1] })
        expect((await take(items, 9 - after)).map(numberOf)).toEqual(range(after + 1, 9))
        await items.return?.()
      }
    })

    it("that is '' begins with what is published from the call on", async () => {
      const hub = new Hub()
      await publish(hub, 'a', [1])
      const items = hub.events(['a'], { lastEventId: '' })
      await publish(hub, 'a', [2])
      expect((await take(items, 1)).map(brief)).toEqual(['a 2'])
    })

    it.each([
      ['garbage', () => 'garbage', 'unknown-id'],
      ['a place ahead of the hub', (id: string) => id.replace(/-\d+/, '-9007199254740991'), 'unknown-id'],
      ['the id of another hub', (id: string) => `0000000000${id.slice(10)}`, 'restarted'],
    ])('that is %s gives one reset, and then what is published', async (_, change, reason) => {
      const hub = new Hub()
      const [id = ''] = await publish(hub, 'a', [1, 2])
      const items = hub.events(['a', 'b'], { lastEventId: change(id) })
      const [reset] = (await take(items, 1)) as [ResetEvent]
      expect(reset).toEqual(resetOf(['a', 'b'], reason))
      await publish(hub, 'b', [3])
      expect((await take(items, 1)).map(brief)).toEqual(['b 3'])
      // Whoever resumes from the reset is not told again.
      const again = hub.events(['a', 'b'], { lastEventId: reset.id })
      expect((await take(again, 1)).map(brief)).toEqual(['b 3'])
    })

    it('of what is dropped gives a reset of the channels that lost something, and the others whole', async () => {
      const hub = new Hub({ replay: (channel) => ({ maxEvents: channel === 'a' ? 2 : 100 }) })
      const [first = ''] = await publish(hub, 'b', [0])
      for (const n of range(1, 9)) await publish(hub, n % 2 === 0 ? 'b' : 'a', [n])
      const items = hub.events(['a', 'b'], { lastEventId: first })
      const taken = await take(items, 1)
      await publish(hub, 'a', [10])
      taken.push(...(await take(items, 5)))
      expect(taken.map(brief)).toEqual(['reset a expired', 'b 2', 'b 4', 'b 6', 'b 8', 'a 10'])
      // A consumer that stopped at the reset would resume from where it was, and lose nothing of the others.
      expect(positionOf(taken[0]?.id ?? '')).toBe(positionOf(first))
    })

    it('of the newest event that is dropped gives what is kept, without a reset', async () => {
      const hub = new Hub({ replay: { maxEvents: 3 } })
      const ids = await publish(hub, 'a', range(1, 8))
      expect((await take(hub.events(['a'], { lastEventId: ids[4] }), 3)).map(brief)).toEqual(['a 6', 'a 7', 'a 8'])
      expect((await take(hub.events(['a'], { lastEventId: ids[3] }), 1)).map(brief)).toEqual(['reset a expired'])
    })
  })

  describe('with rewind', () => {
    it('begins each channel at its n-th last event, merged in the order of publishing', async () => {
      const hub = new Hub()
      for (const n of range(1, 8)) await publish(hub, n % 3 === 0 ? 'a' : 'b', [n])
      const items = hub.events(['a', 'b', 'empty'], { rewind: 2 })
      await publish(hub, 'a', [9])
      expect((await take(items, 5)).map(brief)).toEqual(['a 3', 'a 6', 'b 7', 'b 8', 'a 9'])
    })

    it('gives what is kept where fewer are kept, without a reset', async () => {
      const hub = new Hub({ replay: { maxEvents: 3 } })
      await publish(hub, 'a', range(1, 8))
      const items = hub.events(['a'], { rewind: 100 })
      await publish(hub, 'a', [9])
      expect((await take(items, 4)).map(brief)).toEqual(['a 6', 'a 7', 'a 8', 'a 9'])
    })

    it('and lastEventId goes by the id', async () => {
      const hub = new Hub()
      const ids = await publish(hub, 'a', range(1, 4))
      const items = hub.events(['a'], { rewind: 3, lastEventId: ids[2] })
      expect((await take(items, 1)).map(brief)).toEqual(['a 4'])
    })
  })

  describe('with a filter', () => {
    it('gives what is wanted: replayed, live, and of every channel', async () => {
      const hub = new Hub()
      const seen: Item[] = []
      const ids = await publish(hub, 'a', range(1, 6))
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

    it('that throws or answers with a promise counts it as false, and reports it', async () => {
      const reported: string[] = []
      const hub = new Hub({ onError: (error, { where }) => reported.push(`${where}: ${String(error)}`) })
      const items = hub.events(['a'], {
        filter: ({ data }) => {
          if (data === 1) throw new Error('broken')
          return data === 2 ? (Promise.resolve(true) as unknown as boolean) : true
        },
      })
      await publish(hub, 'a', [1, 2, 3])
      expect((await take(items, 1)).map(brief)).toEqual(['a 3'])
      expect(reported).toEqual(['filter: Error: broken', expect.stringMatching(/^filter: .*must return a boolean, not a promise/)])
    })

    it('keeps up with a log that turns over many times while nothing is wanted', async () => {
      const hub = new Hub({ replay: { maxEvents: 4 } })
      const items = hub.events(['a'], { filter: ({ data }) => data === -1 })
      const pending = items.next()
      for (const round of range(0, 19)) {
        for (const n of range(1, 10)) void hub.publish('a', 'item', round * 10 + n)
        await turn()
      }
      const [id] = await publish(hub, 'a', [-1])
      expect(await pending).toMatchObject({ done: false, value: { id, data: -1 } })
    })

    it('may end its own iteration', async () => {
      const hub = new Hub()
      const controller = new AbortController()
      const filter = ({ data }: HubEvent): boolean => {
        if (data === 2) controller.abort()
        return true
      }
      const items = hub.events(['a'], { signal: controller.signal, filter })
      const nexts = [items.next(), items.next()]
      await publish(hub, 'a', [1, 2, 3])
      expect(await nexts[1]).toEqual(DONE)
      expect(hub.channel('a').subscriberCount).toBe(0)
    })
  })

  describe('a consumer that does not pull', () => {
    it('holds a bounded part, is told that the rest was lost, and then given what follows', async () => {
      const hub = new Hub({ replay: { maxEvents: 10 } })
      const items = hub.events(['a'])
      const filler = 'x'.repeat(1_000)
      // 20 MB, at the pace of the delivery.
      const ids = await publish(hub, 'a', range(1, 20_000), filler)
      await turn()
      const held = await takeUntil(items, isReset)
      const reset = held.pop() as ResetEvent
      expect(held.map(numberOf)).toEqual(range(1, held.length))
      // What a socket is given at once, and the write that goes beyond it.
      expect(held.length).toBeGreaterThan(0)
      expect(held.length * filler.length).toBeLessThan(2 * 65_536)
      expect(reset).toEqual(resetOf(['a'], 'slow'))
      expect(positionOf(reset.id)).toBe(positionOf(ids.at(-1) as string))
      const later = await publish(hub, 'a', [20_001, 20_002])
      expect((await take(items, 2)).map(({ id }) => id)).toEqual(later)
    })

    it('is told once of all that it missed, and again of what it misses later', async () => {
      const hub = new Hub({ replay: { maxEvents: 2 } })
      const items = hub.events(['a'])
      const filler = 'x'.repeat(40_000)
      const miss = async (from: number): Promise<string[]> => {
        await publish(hub, 'a', range(from, from + 9), filler)
        await turn()
        const taken = await takeUntil(items, isReset)
        return [String(taken.slice(0, -1).map(numberOf)), brief(taken.at(-1) as Item)]
      }
      expect(await miss(1)).toEqual(['1,2', 'reset a slow'])
      expect(await miss(11)).toEqual(['11,12', 'reset a slow'])
    })

    it('is told of the channels that lost something, and given the others whole', async () => {
      const hub = new Hub({ replay: (channel) => ({ maxEvents: channel === 'a' ? 2 : 1_000 }) })
      const items = hub.events(['a', 'b'])
      await publish(hub, 'a', range(1, 2), 'x'.repeat(40_000))
      await turn()
      for (const n of range(3, 40)) {
        await publish(hub, n % 4 === 0 ? 'b' : 'a', [n])
        await turn()
      }
      const taken = await take(items, 2 + 1 + 10)
      expect(taken.map(brief)).toEqual(['a 1', 'a 2', 'reset a slow', ...range(1, 10).map((n) => `b ${4 * n}`)])
      await publish(hub, 'a', [41])
      expect((await take(items, 1)).map(brief)).toEqual(['a 41'])
    })

    it('loses nothing of what the log still keeps', async () => {
      const hub = new Hub({ replay: { maxEvents: 10_000, maxBytes: 64_000_000 } })
      const items = hub.events(['a'])
      await publish(hub, 'a', range(1, 2_000), 'x'.repeat(1_000))
      await turn()
      expect((await take(items, 2_000)).map(brief)).toEqual(range(1, 2_000).map((n) => `a ${n}`))
    })

    it('does not slow down the publisher or who else follows the channel', async () => {
      const hub = new Hub({ replay: { maxEvents: 5 } })
      hub.events(['a'])
      const quick = hub.events(['a'])
      for (const n of range(1, 200)) {
        await publish(hub, 'a', [n], 'x'.repeat(5_000))
        expect((await take(quick, 1)).map(brief)).toEqual([`a ${n}`])
      }
    })
  })

  describe('a consumer that pulls', () => {
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

    it('by several next() at once is answered in order, the end included', async () => {
      const hub = new Hub()
      const controller = new AbortController()
      const items = hub.events(['a', 'b'], { signal: controller.signal })
      const settled: number[] = []
      const nexts = range(0, 9).map(async (place) => {
        const result = await items.next()
        settled.push(place)
        return result.done ? 'done' : brief(result.value)
      })
      await publish(hub, 'a', [1, 2, 3])
      await turn()
      await publish(hub, 'b', [4, 5])
      await turn()
      controller.abort()
      expect(await Promise.all(nexts)).toEqual(['a 1', 'a 2', 'a 3', 'b 4', 'b 5', 'done', 'done', 'done', 'done', 'done'])
      expect(settled).toEqual(range(0, 9))
    })

    it('by several next() at once of what is there already is answered in order', async () => {
      const hub = new Hub()
      await publish(hub, 'a', range(1, 5))
      const items = hub.events(['a'], { rewind: 5 })
      const nexts = range(1, 6).map(() => items.next())
      await publish(hub, 'a', [6])
      const results = await Promise.all(nexts)
      expect(results.map(({ value }) => brief(value as Item))).toEqual(range(1, 6).map((n) => `a ${n}`))
    })

    it('through a long backlog leaves the event loop its turns', async () => {
      // A clock that moves by what reading an event costs, and by nothing else: the machine may be as busy as it likes.
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
      // 400 ms of work. A turn is given up after 10 ms, and what was handed over before and after is read as well.
      expect(stretches.reduce((sum, stretch) => sum + stretch, 0)).toBeGreaterThan(399)
      expect(Math.max(...stretches)).toBeLessThan(40)
    })

    it('and publishes what it will be given next lets timers run', async () => {
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
  })

  describe('ends', () => {
    /** The end of an iteration is for good, and nothing is left of it. */
    async function expectOver(hub: Hub, items: Items): Promise<void> {
      expect([await items.next(), await items.next()]).toEqual([DONE, DONE])
      expect(['a', 'b'].map((name) => hub.channel(name).subscriberCount)).toEqual([0, 0])
    }

    it('when its signal is aborted, with what was not asked for left out', async () => {
      const hub = new Hub()
      const controller = new AbortController()
      const items = hub.events(['a', 'b'], { signal: controller.signal })
      expect(hub.channel('b').subscriberCount).toBe(1)
      await publish(hub, 'a', [1, 2])
      await take(items, 1)
      controller.abort()
      await expectOver(hub, items)
    })

    it('when its signal is aborted during a next()', async () => {
      const hub = new Hub()
      const controller = new AbortController()
      const items = hub.events(['a'], { signal: controller.signal })
      const nexts = [items.next(), items.next()]
      controller.abort()
      expect(await Promise.all(nexts)).toEqual([DONE, DONE])
      await expectOver(hub, items)
    })

    it('before it begins when its signal is aborted already', async () => {
      const hub = new Hub()
      await publish(hub, 'a', [1])
      const signal = AbortSignal.abort()
      const items = hub.events(['a', 'b'], { signal, rewind: 1 })
      expect(hub.channel('b').subscriberCount).toBe(0)
      await publish(hub, 'a', [2])
      await expectOver(hub, items)
      expect(getEventListeners(signal, 'abort')).toEqual([])
    })

    it.each<[string, (items: Items, hub: Hub) => unknown]>([
      ['return()', (items) => items.return?.()],
      ['the hub is closed', (_, hub) => hub.close()],
    ])('on %s without leaving a listener on its signal', async (_, end) => {
      const hub = new Hub()
      const { signal } = new AbortController()
      const items = hub.events(['a'], { signal })
      expect(getEventListeners(signal, 'abort')).toHaveLength(1)
      await end(items, hub)
      await expectOver(hub, items)
      expect(getEventListeners(signal, 'abort')).toEqual([])
    })

    it('and lets a channel be forgotten that nobody published to', async () => {
      const hub = new Hub()
      const items = hub.events(['a', 'b'])
      await publish(hub, 'b', [1])
      expect(hub.stats().channels).toBe(2)
      await items.return?.()
      expect(hub.stats().channels).toBe(1)
    })

    it('on return(), which settles every next() that is pending', async () => {
      const hub = new Hub()
      const items = hub.events(['a'])
      const nexts = [items.next(), items.next()]
      expect(await items.return?.()).toEqual(DONE)
      expect(await Promise.all(nexts)).toEqual([DONE, DONE])
      await publish(hub, 'a', [1])
      await expectOver(hub, items)
      expect(await items.return?.()).toEqual(DONE)
    })

    it.each([
      ['break', () => false],
      [
        'an error',
        () => {
          throw new Error('of the loop')
        },
      ],
    ])('when its loop is left by %s', async (_, leave) => {
      const hub = new Hub()
      const items = hub.events(['a', 'b'])
      await publish(hub, 'a', [1, 2])
      const loop = async (): Promise<string> => {
        for await (const item of items) {
          expect(hub.channel('a').subscriberCount).toBe(1)
          if (!leave()) return brief(item)
        }
        return 'went on to the end'
      }
      expect(await loop().catch((error: Error) => error.message)).toMatch(/^a 1$|^of the loop$/)
      await expectOver(hub, items)
    })

    it('when the hub closes, after everything that was published before', async () => {
      const hub = new Hub()
      const pulling = hub.events(['a'])
      const looped = takeAll(pulling)
      const [idle, behind, filtered] = [hub.events(['a']), hub.events(['a', 'b']), hub.events(['a'], { filter: ({ data }) => data === 2 })]
      const next = idle.next()
      // More than is handed over at once.
      for (const n of range(1, 300)) void hub.publish('a', 'item', n === 2 ? n : `${n} ${'x'.repeat(1_000)}`)
      await hub.close()
      expect((await looped).map(numberOf)).toEqual(range(1, 300))
      expect(await next).toMatchObject({ done: false, value: { data: expect.stringMatching(/^1 /) as string } })
      expect((await takeAll(idle)).map(numberOf)).toEqual(range(2, 300))
      expect((await takeAll(behind)).map(numberOf)).toEqual(range(1, 300))
      expect((await takeAll(filtered)).map(numberOf)).toEqual([2])
      for (const items of [pulling, idle, behind, filtered]) await expectOver(hub, items)
    })

    it('when the hub closes though nothing was ever published', async () => {
      const hub = new Hub()
      const items = hub.events(['a'])
      const pending = items.next()
      await hub.close()
      expect(await pending).toEqual(DONE)
      await expectOver(hub, items)
    })

    it('when the hub closes with a reset for what was lost before', async () => {
      const hub = new Hub({ replay: { maxEvents: 2 } })
      const items = hub.events(['a'])
      await publish(hub, 'a', range(1, 10), 'x'.repeat(40_000))
      await turn()
      await hub.close()
      expect((await takeAll(items)).map(brief)).toEqual(['a 1', 'a 2', 'reset a slow'])
      await expectOver(hub, items)
    })

    it('at the end of a drain of the hub, after what was published meanwhile', async () => {
      const hub = new Hub()
      const connections = range(1, 3).map(() => {
        const connection = new FakeConnection()
        hub[join](['a'], {}, '').begin(connection.asConnection)
        return connection
      })
      const pulled = takeAll(hub.events(['a']))
      const idle = hub.events(['a'])
      const closed = hub.close({ drainMs: 60 })
      const published: number[] = []
      for (let n = 1; ; n++) {
        const isPublished = await hub.publish('a', 'item', n).then(
          () => true,
          (error: unknown) => {
            expect(error).toMatchObject({ code: 'SSE_HUB_CLOSED' })
            return false
          },
        )
        if (!isPublished) break
        published.push(n)
        await turn()
      }
      await closed
      expect(connections.map(({ isOpen }) => isOpen)).toEqual([false, false, false])
      // The drain lasted: something was published after the first stream was ended.
      expect(published.length).toBeGreaterThan(connections[0]?.channelEvents.length ?? 0)
      expect((await pulled).map(numberOf)).toEqual(published)
      expect((await takeAll(idle)).map(numberOf)).toEqual(published)
      await expectOver(hub, idle)
    })

    it('at once when it is asked for after the hub was closed', async () => {
      const hub = new Hub()
      await publish(hub, 'a', [1])
      await hub.close()
      const items = hub.events(['a', 'b'])
      expect(await items.next()).toEqual(DONE)
      await expectOver(hub, items)
    })
  })

  describe('refuses', () => {
    it.each<[string, unknown, unknown, new (...args: never[]) => Error, RegExp]>([
      ['channels that are no name', { a: 1 }, {}, Error, /events: a channel name must be .*a: 1/],
      ['no channel', [], {}, RangeError, /at least one channel.*\[\]/],
      ['a bad name among good ones', ['a', ''], {}, Error, /channel name.*''/],
      ['a name that is no string', ['a', 7], {}, Error, /channel name.*7/],
      ['an unknown option', ['a'], { lastEventID: 'x' }, TypeError, /events: .*'lastEventID'.*lastEventId, rewind, filter, signal/],
      ['an option of subscribe', ['a'], { key: 'x' }, TypeError, /'key'/],
      ['options that are no object', ['a'], 'x', TypeError, /events: options.*'x'/],
      ['a lastEventId that is a number', ['a'], { lastEventId: 17 }, TypeError, /lastEventId must be a string.*17/],
      ['a lastEventId that is null', ['a'], { lastEventId: null }, TypeError, /lastEventId must be a string.*null/],
      ['a controller as signal', ['a'], { signal: { aborted: false } }, TypeError, /signal must be an AbortSignal.*aborted: false/],
      ['a negative rewind', ['a'], { rewind: -1 }, RangeError, /rewind.*-1/],
      ['a rewind with a fraction', ['a'], { rewind: 1.5 }, RangeError, /rewind.*1\.5/],
      ['a rewind that is no number', ['a'], { rewind: '3' }, TypeError, /rewind must be an integer, 0 or more, got '3'/],
      ['a filter that is no function', ['a'], { filter: true }, TypeError, /filter must be a function.*true/],
    ])('%s, names it, and follows nothing', (_, channels, options, type, message) => {
      const hub = new Hub()
      const error = refusal(hub, channels, options)
      expect(error).toBeInstanceOf(type)
      expect(error.message).toMatch(message)
      expect(hub.channel('a').subscriberCount).toBe(0)
    })

    it('a name that no channel can have by SSE_INVALID_CHANNEL', () => {
      expect(refusal(new Hub(), ['a', 'x'.repeat(257)], {})).toMatchObject({ code: 'SSE_INVALID_CHANNEL' })
    })

    it('a channel whose bounds are wrong, and names both', () => {
      const hub = new Hub({ replay: (name) => ({ maxEvents: name === 'bad' ? -1 : 1 }) })
      expect(refusal(hub, ['a', 'bad'], {}).message).toMatch(/replay\('bad'\)\.maxEvents.*-1/)
      expect(hub.channel('a').subscriberCount).toBe(0)
    })
  })

  it('reports what deserialize cannot read once, and leaves it out', async () => {
    const reported: string[] = []
    const hub = new Hub({
      deserialize: (text) => {
        if (text.includes('bad')) throw new Error(`cannot read ${text}`)
        return JSON.parse(text)
      },
      onError: (error, { where }) => reported.push(`${where}: ${String(error)}`),
    })
    const items = hub.events(['a'])
    const nexts = [items.next(), items.next()]
    void hub.publish('a', 'item', { bad: 1 })
    void hub.publish('a', 'item', 2)
    void hub.publish('a', 'item', { bad: 3 })
    void hub.publish('a', 'item', 'bad 4')
    const results = await Promise.all(nexts)
    expect(results.map(({ value }) => (value as HubEvent).data)).toEqual([2, 'bad 4'])
    expect(reported).toEqual(['deserialize: Error: cannot read {"bad":1}', 'deserialize: Error: cannot read {"bad":3}'])
  })

  it('counts what it gives and its resets, and is no stream', async () => {
    const hub = new Hub({ replay: { maxEvents: 1 } })
    const items = hub.events(['a'], { lastEventId: 'garbage' })
    await take(items, 1)
    await publish(hub, 'a', [1])
    await take(items, 1)
    expect(hub.stats()).toMatchObject({ subscribers: 0, delivered: 1, resets: 1 })
    expect(hub.channel('a').subscriberCount).toBe(1)
  })
})

interface Outcome {
  resets: number
  received: number
  returns: number
}

/** One random life of a consumer: publishing, pulling, pauses, and going on from the last id. */
async function live(seed: number): Promise<Outcome> {
  const random = randomFrom(seed)
  const below = (n: number): number => Math.floor(random() * n)
  const sizes: Record<string, number> = { a: below(4), b: 1 + below(6), c: 40 }
  const hub = new Hub({ replay: (name) => ({ maxEvents: sizes[name] ?? 0 }) })
  const channels = ['a', 'b', 'c'].slice(0, 1 + below(3))
  const isFiltered = random() < 0.3
  const isWanted = (n: number): boolean => !isFiltered || n % 3 !== 0
  const filter = isFiltered ? (event: HubEvent): boolean => isWanted(numberOf(event)) : undefined
  const published = new Map(channels.map((name) => [name, [] as { position: number; n: number }[]]))
  /** Up to where everything of a channel was received, or declared lost. */
  const complete = new Map(channels.map((name) => [name, 0]))
  /** What was received of it, and what this iteration may not give any more. */
  const received = new Map(channels.map((name) => [name, 0]))
  const lost = new Map<string, number>()
  const outcome: Outcome = { resets: 0, received: 0, returns: 0 }
  let n = 0
  let newest = 0
  /** The newest position when each reset was made: of what the channels had up to there, nothing may follow. */
  const heads: number[] = []
  const onReset = (message: unknown): void => {
    if ((message as DiagnosticMessages['reset']).hub === hub) heads.push(newest)
  }

  const holeBefore = (channel: string, position: number) =>
    published.get(channel)?.find((event) => event.position > (complete.get(channel) ?? 0) && event.position < position && isWanted(event.n))
  const check = (item: Item): void => {
    if (isReset(item)) {
      const head = heads.shift() ?? Number.NaN
      const { channels: names, reason } = item.data
      if (item.channel !== '' || names.length === 0 || !['slow', 'expired'].includes(reason)) throw new Error(`odd reset: ${brief(item)}`)
      for (const name of names) {
        complete.set(name, Math.max(head, complete.get(name) ?? Number.NaN))
        lost.set(name, head)
      }
      outcome.resets++
      return
    }
    const { channel } = item
    const position = positionOf(item.id)
    if (position <= (received.get(channel) ?? Number.NaN)) throw new Error(`${brief(item)} came twice or late`)
    if (position <= (lost.get(channel) ?? -1)) throw new Error(`${brief(item)} is part of what was declared lost`)
    if (!isWanted(numberOf(item))) throw new Error(`${brief(item)} was not wanted`)
    const event = published.get(channel)?.find((candidate) => candidate.position === position)
    if (event?.n !== numberOf(item)) throw new Error(`${brief(item)} was never published`)
    const hole = holeBefore(channel, position)
    if (hole !== undefined) throw new Error(`silent hole: ${channel} ${hole.n} is missing before ${event.n}`)
    complete.set(channel, Math.max(position, complete.get(channel) ?? Number.NaN))
    received.set(channel, position)
    outcome.received++
  }

  let lastEventId = ''
  let lastPosition = -1
  let items: Items
  let pulls: Promise<void> = Promise.resolve()
  let asked = 0
  let answered = 0
  const faults: unknown[] = []
  const begin = (): void => {
    if (lastEventId === '') for (const name of channels) complete.set(name, newest)
    heads.length = 0
    lost.clear()
    lastPosition = -1
    items = hub.events(channels, { lastEventId, filter })
  }
  const pull = (): void => {
    asked++
    const from = items
    const result = from.next()
    pulls = pulls.then(async () => {
      const { done, value } = await result
      answered++
      // What was pending when the iteration was left is done.
      if (done) return
      try {
        if (positionOf(value.id) < lastPosition) throw new Error(`the id went backwards: ${value.id}`)
        lastPosition = positionOf(value.id)
        lastEventId = value.id
        check(value)
      } catch (error) {
        faults.push(error)
      }
    })
  }
  const leave = async (): Promise<void> => {
    outcome.returns++
    await items.return?.()
    await pulls
  }
  const publishOne = (): void => {
    const name = channels[below(channels.length)] as string
    n++
    // Two or three of the large ones are all that is handed over at once.
    void hub.publish(name, 'item', `${n} ${'x'.repeat(random() < 0.4 ? 30_000 : 10)}`)
    newest = positionOf(hub.channel(name).lastEventId)
    published.get(name)?.push({ position: newest, n })
  }
  /** Pulls until nothing more is due: the last next() stays pending. */
  const catchUp = async (): Promise<void> => {
    if (asked === answered) pull()
    // A slice may be over early on a busy machine: what is missing then comes in later turns.
    for (let idle = 0; idle < 4 || (idle < 50 && channels.some((name) => holeBefore(name, Infinity)));) {
      await turn()
      if (asked > answered) idle++
      else {
        idle = 0
        pull()
      }
    }
  }

  diagnosticsChannel('express-sse-hub:reset').subscribe(onReset)
  try {
    begin()
    for (let step = 0; step < 40 && faults.length === 0; step++) {
      const dice = random()
      if (dice < 0.45) for (let left = below(6); left >= 0; left--) publishOne()
      else if (dice < 0.6) await turn()
      else if (dice < 0.9) for (let left = below(6); left >= 0; left--) pull()
      else {
        await leave()
        begin()
      }
    }
    await catchUp()
    for (const name of channels) {
      const hole = holeBefore(name, Infinity)
      if (hole !== undefined) throw new Error(`silent hole: ${name} ${hole.n} never came`)
    }
    await leave()
    if (faults.length > 0) throw faults[0] as Error
    if (hub.channel('a').subscriberCount > 0) throw new Error('the consumer is gone, and still counted')
    return outcome
  } finally {
    diagnosticsChannel('express-sse-hub:reset').unsubscribe(onReset)
  }
}

describe('hub.events, simulated', () => {
  it('leaves no silent hole in random lives of a consumer', async () => {
    const lives = sized(2_000, 100)
    const total: Outcome = { resets: 0, received: 0, returns: 0 }
    for (let seed = 1; seed <= lives; seed++) {
      try {
        const { resets, received, returns } = await live(seed)
        total.resets += resets
        total.received += received
        total.returns += returns
      } catch (error) {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
      }
    }
    // The runs must have reached what they are about.
    expect(total.resets).toBeGreaterThan(lives / 2)
    expect(total.received).toBeGreaterThan(lives * 10)
    expect(total.returns).toBeGreaterThan(lives * 2)
  })
})
