import { Channel, type Consumer, ChannelCursor } from '../../lib/delivery/channel.ts'
import { Pump } from '../../lib/delivery/pump.ts'
import { ReplayLog } from '../../lib/log/replay-log.ts'
import { replayBounds } from '../../lib/log/replay-options.ts'

/** A consumer that takes everything at once and counts its visits. */
class CountingConsumer implements Consumer {
  position = 0
  visits = 0
  onVisit: () => void = () => {}
  readonly #channels: readonly Channel[]

  constructor(channels: readonly Channel[]) {
    this.#channels = channels
    for (const channel of channels) channel.add(new ChannelCursor(channel, this))
  }

  deliver(): boolean {
    this.visits++
    this.onVisit()
    this.position = Math.max(...this.#channels.map(({ log }) => log.end))
    return true
  }

  restart(): void {}
  leftLockstep(): void {}
}

function setUp(names: string) {
  const channels = Array.from(names, (name) => new Channel(name, new ReplayLog(replayBounds('replay', {}), 0, { bytes: 0 }), 0))
  const rounds: number[] = []
  const pump = new Pump((_channel, goal) => void rounds.push(goal), { delivered: 0 })
  let position = 0
  const publish = (channel: Channel): void => {
    channel.log.append('data: 1\n\n', ++position, 0, true)
    pump.published(channel)
  }
  return { channels, pump, publish, rounds }
}

describe('the pump', () => {
  it('visits a consumer once for all its channels that were published to in a turn', async () => {
    const { channels, pump, publish } = setUp('abc')
    const [all, one] = [new CountingConsumer(channels), new CountingConsumer(channels.slice(0, 1))]
    for (const channel of [...channels, ...channels]) publish(channel)
    await pump.nextRound()
    await new Promise((resolve) => setImmediate(resolve))
    expect([all.visits, one.visits]).toEqual([1, 1])
    publish(channels[2] as Channel)
    await pump.nextRound()
    expect([all.visits, one.visits]).toEqual([2, 1])
  })

  it('visits a consumer of a channel that has lost events beyond its end', async () => {
    const { channels, pump, publish } = setUp('a')
    const [channel] = channels as [Channel]
    const consumer = new CountingConsumer(channels)
    publish(channel)
    await pump.nextRound()
    channel.log.lose(channel.log.lastPosition + 5)
    pump.published(channel)
    await pump.nextRound()
    expect([consumer.visits, consumer.position]).toEqual([2, channel.log.floor])
  })

  it('does not count events as offered if the log has begun a new epoch', async () => {
    const { channels, pump, publish, rounds } = setUp('a')
    const [channel] = channels as [Channel]
    const consumer = new CountingConsumer(channels)
    publish(channel)
    await pump.nextRound()
    publish(channel)
    consumer.onVisit = () => channel.restart()
    await pump.nextRound()
    expect(rounds).toEqual([1])
    consumer.onVisit = () => {}
    publish(channel)
    await pump.nextRound()
    expect(rounds).toEqual([1, 3])
  })
})
