import { getEventListeners } from 'node:events'
import { Hub, type HubEvents } from 'express-sse-hub'
import { join } from '../../lib/hub/subscribable.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { trimmed, brief, DONE, numberOf, publishNumbers, range, take, takeAll } from '../support/hub-items.ts'

describe('hub.events()', () => {
  /** Checks that an iterator has ended for good and follows no channel. */
  async function expectEnded(hub: Hub, items: HubEvents): Promise<void> {
    expect([await items.next(), await items.next()]).toEqual([DONE, DONE])
    expect(['a', 'b'].map((name) => hub.channel(name).subscriberCount)).toEqual([0, 0])
  }

  it('ends when its signal is aborted, without the events that were not pulled', async () => {
    const hub = new Hub()
    const controller = new AbortController()
    const items = hub.events(['a', 'b'], { signal: controller.signal })
    expect(hub.channel('b').subscriberCount).toBe(1)
    await publishNumbers(hub, 'a', [1, 2])
    await take(items, 1)
    controller.abort()
    await expectEnded(hub, items)
  })

  it('ends when its signal is aborted during next()', async () => {
    const hub = new Hub()
    const controller = new AbortController()
    const items = hub.events(['a'], { signal: controller.signal })
    const nexts = [items.next(), items.next()]
    controller.abort()
    expect(await Promise.all(nexts)).toEqual([DONE, DONE])
    await expectEnded(hub, items)
  })

  it('ends at once if its signal is aborted already', async () => {
    const hub = new Hub()
    await publishNumbers(hub, 'a', [1])
    const signal = AbortSignal.abort()
    const items = hub.events(['a', 'b'], { signal, rewind: 1 })
    expect(hub.channel('b').subscriberCount).toBe(0)
    await publishNumbers(hub, 'a', [2])
    await expectEnded(hub, items)
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it.each<[string, (items: HubEvents, hub: Hub) => unknown]>([
    ['return()', (items) => items.return?.()],
    ['the hub is closed', (_, hub) => hub.close()],
  ])('leaves no listener on its signal: %s', async (_, end) => {
    const hub = new Hub()
    const { signal } = new AbortController()
    const items = hub.events(['a'], { signal })
    expect(getEventListeners(signal, 'abort')).toHaveLength(1)
    await end(items, hub)
    await expectEnded(hub, items)
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it('lets the hub forget a channel without events when it ends', async () => {
    const hub = new Hub()
    const items = hub.events(['a', 'b'])
    await publishNumbers(hub, 'b', [1])
    expect(hub.stats().channels).toBe(2)
    await items.return?.()
    expect(hub.stats().channels).toBe(1)
  })

  it('ends with return(), which settles every pending next()', async () => {
    const hub = new Hub()
    const items = hub.events(['a'])
    const nexts = [items.next(), items.next()]
    expect(await items.return?.()).toEqual(DONE)
    expect(await Promise.all(nexts)).toEqual([DONE, DONE])
    await publishNumbers(hub, 'a', [1])
    await expectEnded(hub, items)
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
  ])('ends when its loop is left by %s', async (_, leave) => {
    const hub = new Hub()
    const items = hub.events(['a', 'b'])
    await publishNumbers(hub, 'a', [1, 2])
    const loop = async (): Promise<string> => {
      for await (const item of items) {
        expect(hub.channel('a').subscriberCount).toBe(1)
        if (!leave()) return brief(item)
      }
      return 'reached the end'
    }
    expect(await loop().catch((error: Error) => error.message)).toMatch(/^a 1$|^of the loop$/)
    await expectEnded(hub, items)
  })

  it('ends when the hub closes, after every event published before', async () => {
    const hub = new Hub()
    const pulling = hub.events(['a'])
    const looped = takeAll(pulling)
    const [idle, behind, filtered] = [hub.events(['a']), hub.events(['a', 'b']), hub.events(['a'], { filter: ({ data }) => data === 2 })]
    const next = idle.next()
    // More events than are handed over at once.
    for (const n of range(1, 300)) void hub.publish('a', 'item', n === 2 ? n : `${n} ${'x'.repeat(1_000)}`)
    await hub.close()
    expect((await looped).map(numberOf)).toEqual(range(1, 300))
    expect(await next).toMatchObject({ done: false, value: { data: expect.stringMatching(/^1 /) as string } })
    expect((await takeAll(idle)).map(numberOf)).toEqual(range(2, 300))
    expect((await takeAll(behind)).map(numberOf)).toEqual(range(1, 300))
    expect((await takeAll(filtered)).map(numberOf)).toEqual([2])
    for (const items of [pulling, idle, behind, filtered]) await expectEnded(hub, items)
  })

  it('ends when the hub closes even if no event was published', async () => {
    const hub = new Hub()
    const items = hub.events(['a'])
    const pending = items.next()
    await hub.close()
    expect(await pending).toEqual(DONE)
    await expectEnded(hub, items)
  })

  it('ends when the hub closes, after a reset for earlier losses', async () => {
    const hub = new Hub({ replay: { maxEvents: 2 } })
    const items = hub.events(['a'])
    await publishNumbers(hub, 'a', range(1, 10), 'x'.repeat(40_000))
    await trimmed(hub, 150_000)
    await hub.close()
    expect((await takeAll(items)).map(brief)).toEqual(['a 1', 'a 2', 'reset a slow'])
    await expectEnded(hub, items)
  })

  it('ends at the end of a drain, after the events published during it', async () => {
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
    // An event was published after the first stream had ended.
    expect(published.length).toBeGreaterThan(connections[0]?.channelEvents.length ?? 0)
    expect((await pulled).map(numberOf)).toEqual(published)
    expect((await takeAll(idle)).map(numberOf)).toEqual(published)
    await expectEnded(hub, idle)
  })

  it('ends at once if the hub is closed already', async () => {
    const hub = new Hub()
    await publishNumbers(hub, 'a', [1])
    await hub.close()
    const items = hub.events(['a', 'b'])
    expect(await items.next()).toEqual(DONE)
    await expectEnded(hub, items)
  })

  it.each<[string, (items: HubEvents, controller: AbortController) => void]>([
    ['by its signal', (_, controller) => controller.abort()],
    ['by return()', (items) => void items.return?.()],
  ])('stays ended if onError ends it: every later next() is done (%s)', async (_, end) => {
    const controller = new AbortController()
    let items: HubEvents | undefined
    const hub = new Hub({
      deserialize: (text) => {
        if (text.includes('bad')) throw new Error('unreadable')
        return JSON.parse(text) as unknown
      },
      onError: () => end(items as HubEvents, controller),
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

  it('ends at once on a closed hub, whatever the options, and without a subscription', async () => {
    const hub = new Hub()
    const id = await hub.publish('a', 'item', 1)
    await hub.close()
    for (const options of [{}, { lastEventId: id }, { rewind: 5 }]) expect(await hub.events(['a'], options).next()).toEqual(DONE)
    expect(hub.channel('a').subscriberCount).toBe(0)
  })

  it('leaves logs that count as empty, not as negative, when the hub closes', async () => {
    const hub = new Hub({ replay: { maxEvents: 3 } })
    hub.events(['a'])
    for (const n of range(1, 50)) void hub.publish('a', 'item', n)
    await hub.close()
    for (let n = 0; n < 5; n++) await turn()
    expect(hub.stats().logBytes).toBe(0)
  })
})
