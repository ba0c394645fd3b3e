import { type Channel, type Consumer, ChannelCursor } from '../../lib/delivery/channel.ts'
import { ChannelRegistry } from '../../lib/delivery/channel-registry.ts'
import { replayBounds, type ReplayOptions } from '../../lib/log/replay-options.ts'

const consumer: Consumer = { position: 0, deliver: () => true, restart() {}, leftLockstep() {} }

function makeRegistry(options: ReplayOptions = {}, maxTotalBytes = 1_000_000) {
  const registry = new ChannelRegistry(() => replayBounds('replay', options), maxTotalBytes)
  let position = 0
  const publish = (name: string, count = 1, size = 100): Channel => {
    const channel = registry.get(name)
    for (let n = 0; n < count; n++) registry.append(channel, 'x'.repeat(size), ++position, true)
    return channel
  }
  return { registry, publish }
}

function addConsumer(channel: Channel): ChannelCursor {
  const cursor = new ChannelCursor(channel, consumer)
  channel.add(cursor)
  return cursor
}

const kept = ({ log }: Channel): number => log.count

/** The bytes that a channel with a number of events of 1,000 bytes counts. */
function cost(events: number): number {
  const { registry, publish } = makeRegistry()
  publish('a', events, 1_000)
  return registry.bytes
}

beforeEach(() => jest.useFakeTimers())
afterEach(() => jest.useRealTimers())

describe('ChannelRegistry', () => {
  it('makes a channel once', () => {
    const { registry } = makeRegistry()
    expect(registry.find('a')).toBeUndefined()
    expect(registry.get('a')).toBe(registry.get('a'))
    expect(registry.find('a')).toBe(registry.get('a'))
    expect(registry.size).toBe(1)
  })

  it('trims a channel at once if it has no consumer, and otherwise after the offer', () => {
    const { registry, publish } = makeRegistry({ maxEvents: 2 })
    expect(kept(publish('a', 5))).toBe(2)
    const followed = registry.get('b')
    addConsumer(followed)
    publish('b', 5)
    expect(kept(followed)).toBe(5)
    registry.settle(followed, followed.log.lastPosition)
    expect(kept(followed)).toBe(2)
  })

  it('drops events of the least recently published log when all logs together are too large', () => {
    // Each event has a page of its own.
    const fill = (maxTotalBytes?: number) => {
      const made = makeRegistry({ maxBytes: 8_000 }, maxTotalBytes)
      return { ...made, channels: [made.publish('a', 3, 2_000), made.publish('b', 3, 2_000), made.publish('c', 1, 2_000)] }
    }
    const most = fill().registry.bytes
    const { registry, publish, channels } = fill(most)
    publish('a', 1, 2_000)
    expect(channels.map(kept)).toEqual([4, 2, 1])
    expect(registry.bytes).toBe(most)
    publish('c', 2, 2_000)
    expect(channels.map(kept)).toEqual([4, 0, 3])
    expect(registry.bytes).toBeLessThan(most)
  })

  it('forgets a channel whose events were all dropped unless it has a consumer, and frees its page', () => {
    const { registry, publish } = makeRegistry({}, 10 * cost(1))
    const followed = registry.get('followed')
    addConsumer(followed)
    publish('followed', 1, 1_000)
    registry.settle(followed, followed.log.lastPosition)
    for (let n = 0; n < 100; n++) publish(`c${n}`, 1, 1_000)
    expect(registry.bytes).toBeLessThanOrEqual(10 * cost(1))
    expect(registry.size).toBe(11)
    expect([kept(followed), registry.find('followed'), registry.find('c89'), registry.find('c90')?.log.count]).toEqual([
      0,
      followed,
      undefined,
      1,
    ])
    // It is no longer known whether a client of the channel has missed an event.
    const forgotten = registry.get('c89')
    expect(forgotten.log.floor).toBe(followed.log.lastPosition + 90)
  })

  it('does not search all channels repeatedly while no event can be dropped', () => {
    const most = 10 * cost(1)
    const { registry, publish } = makeRegistry({}, most)
    const channels = Array.from({ length: 300 }, (_, n) => {
      addConsumer(registry.get(`c${n}`))
      return publish(`c${n}`, 1, 1_000)
    })
    const drops = channels.map(({ log }) => jest.spyOn(log, 'dropOldest'))
    // The channels are offered the newest first. The older ones still wait, and each must be searched only once.
    for (const channel of channels.toReversed()) registry.settle(channel, channel.log.lastPosition)
    expect(registry.bytes).toBe(most)
    const calls = drops.reduce((sum, drop) => sum + drop.mock.calls.length, 0)
    expect(calls).toBeLessThan(300 * 4)
  })

  it('bounds the events that wait to be offered over all channels', () => {
    const { registry, publish } = makeRegistry({ maxBytes: 4_000_000 }, 1_000)
    for (let n = 0; n < 20; n++) {
      addConsumer(registry.get(`c${n}`))
      publish(`c${n}`, 10, 100_000)
    }
    expect(registry.bytes).toBeLessThanOrEqual(4 * 1_000 + 4_194_304)
    expect(registry.bytes).toBeGreaterThan(4_000_000)
  })

  it('drops events by age with one timer, and stops it when no channel is left', () => {
    const { publish, registry } = makeRegistry({ maxAgeMs: 1_000 })
    const [a, b] = [publish('a', 3), publish('b', 3)]
    expect(jest.getTimerCount()).toBe(1)
    jest.advanceTimersByTime(700)
    expect([a, b].map(kept)).toEqual([3, 3])
    publish('b')
    jest.advanceTimersByTime(500)
    expect([a, b].map(kept)).toEqual([0, 1])
    jest.advanceTimersByTime(5_000)
    expect([registry.size, jest.getTimerCount()]).toEqual([0, 0])
  })

  it('forgets a channel after maxAgeMs without event and consumer, and makes its last position the floor of later channels', () => {
    const { registry, publish } = makeRegistry({ maxAgeMs: 1_000 })
    const a = publish('a', 3)
    const followed = publish('followed', 1)
    const cursor = addConsumer(followed)
    jest.advanceTimersByTime(3_000)
    expect([registry.find('a'), registry.find('followed')]).toEqual([undefined, followed])
    expect(registry.get('new').log.floor).toBe(a.log.lastPosition)
    expect(registry.get('a').log.floor).toBe(3)
    followed.remove(cursor)
    registry.consumerLeft(followed)
    jest.advanceTimersByTime(900)
    expect(registry.find('followed')).toBe(followed)
    jest.advanceTimersByTime(600)
    expect(registry.find('followed')).toBeUndefined()
    expect(registry.get('newer').log.floor).toBe(4)
  })

  it('keeps a channel without replay for maxAgeMs, so that its clients are not reset needlessly', () => {
    const { registry, publish } = makeRegistry({ maxEvents: 0, maxAgeMs: 1_000 })
    publish('a')
    jest.advanceTimersByTime(900)
    expect(registry.find('a')?.log.floor).toBe(1)
    jest.advanceTimersByTime(600)
    expect(registry.find('a')).toBeUndefined()
  })

  it('forgets a channel that never had an event as soon as it has no consumer', () => {
    const { registry } = makeRegistry()
    const channel = registry.get('a')
    const [one, two] = [addConsumer(channel), addConsumer(channel)]
    channel.remove(one)
    registry.consumerLeft(channel)
    expect(registry.find('a')).toBe(channel)
    channel.remove(two)
    registry.consumerLeft(channel)
    expect([registry.find('a'), jest.getTimerCount()]).toEqual([undefined, 0])
  })
})
