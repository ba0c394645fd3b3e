import { type Channel, type Follower, Member } from '../lib/delivery/channel.ts'
import { ChannelRegistry } from '../lib/delivery/channel-registry.ts'
import { replayBounds, type ReplayOptions } from '../lib/log/replay-log.ts'

const follower: Follower = { position: 0, deliver: () => true, restart() {}, fellOut() {} }

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

function follow(channel: Channel): Member {
  const member = new Member(channel, follower)
  channel.add(member)
  return member
}

const kept = ({ log }: Channel): number => log.count

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

  it('trims at once where nobody follows, and after the offer where somebody does', () => {
    const { registry, publish } = makeRegistry({ maxEvents: 2 })
    expect(kept(publish('a', 5))).toBe(2)
    const followed = registry.get('b')
    follow(followed)
    publish('b', 5)
    expect(kept(followed)).toBe(5)
    registry.settle(followed, followed.log.last)
    expect(kept(followed)).toBe(2)
  })

  it('takes from the log that was not published to for longest when all are too large together', () => {
    const { registry, publish } = makeRegistry({}, 1_000)
    const [a, b, c] = [publish('a', 4), publish('b', 4), publish('c', 2)]
    publish('a')
    expect(registry.bytes).toBe(1_000)
    expect([a, b, c].map(kept)).toEqual([5, 3, 2])
    publish('c', 4)
    expect([a, b, c].map(kept)).toEqual([4, 0, 6])
    expect(registry.bytes).toBe(1_000)
  })

  it('does not look through all channels again and again while nothing can be dropped', () => {
    const { registry, publish } = makeRegistry({}, 1_000)
    const channels = Array.from({ length: 300 }, (_, n) => {
      follow(registry.get(`c${n}`))
      return publish(`c${n}`)
    })
    const drops = channels.map(({ log }) => jest.spyOn(log, 'dropOldest'))
    // Each is offered in turn, the newest first: the older ones still wait, and none of them is asked more than once.
    for (const channel of channels.toReversed()) registry.settle(channel, channel.log.last)
    expect(registry.bytes).toBe(1_000)
    const asked = drops.reduce((sum, drop) => sum + drop.mock.calls.length, 0)
    expect(asked).toBeLessThan(300 * 4)
  })

  it('bounds what waits to be offered over all channels as well', () => {
    const { registry, publish } = makeRegistry({ maxBytes: 4_000_000 }, 1_000)
    for (let n = 0; n < 20; n++) {
      follow(registry.get(`c${n}`))
      publish(`c${n}`, 10, 100_000)
    }
    expect(registry.bytes).toBeLessThanOrEqual(4 * 1_000 + 4_194_304)
    expect(registry.bytes).toBeGreaterThan(4_000_000)
  })

  it('drops by age with one timer that does not keep the process alive, and stops it when nothing is left', () => {
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

  it('forgets a channel after maxAgeMs without event and follower; its last position becomes the floor of later ones', () => {
    const { registry, publish } = makeRegistry({ maxAgeMs: 1_000 })
    const a = publish('a', 3)
    const followed = publish('followed', 1)
    const member = follow(followed)
    jest.advanceTimersByTime(3_000)
    expect([registry.find('a'), registry.find('followed')]).toEqual([undefined, followed])
    expect(registry.get('new').log.floor).toBe(a.log.last)
    expect(registry.get('a').log.floor).toBe(3)
    followed.remove(member)
    registry.left(followed)
    jest.advanceTimersByTime(900)
    expect(registry.find('followed')).toBe(followed)
    jest.advanceTimersByTime(600)
    expect(registry.find('followed')).toBeUndefined()
    expect(registry.get('newer').log.floor).toBe(4)
  })

  it('keeps a channel without replay for maxAgeMs, so that a client of it is not reset for nothing', () => {
    const { registry, publish } = makeRegistry({ maxEvents: 0, maxAgeMs: 1_000 })
    publish('a')
    jest.advanceTimersByTime(900)
    expect(registry.find('a')?.log.floor).toBe(1)
    jest.advanceTimersByTime(600)
    expect(registry.find('a')).toBeUndefined()
  })

  it('forgets a channel that never had an event as soon as nobody follows it', () => {
    const { registry } = makeRegistry()
    const channel = registry.get('a')
    const [one, two] = [follow(channel), follow(channel)]
    channel.remove(one)
    registry.left(channel)
    expect(registry.find('a')).toBe(channel)
    channel.remove(two)
    registry.left(channel)
    expect([registry.find('a'), jest.getTimerCount()]).toEqual([undefined, 0])
  })
})
