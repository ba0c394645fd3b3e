import { Channel } from '../../lib/delivery/channel.ts'
import { Cursor, EVENT, LOSS, NOTHING } from '../../lib/delivery/cursor.ts'
import { ReplayLog } from '../../lib/log/replay-log.ts'
import { replayBounds, type ReplayOptions } from '../../lib/log/replay-options.ts'

/** A cursor that the test moves. */
class TestCursor extends Cursor {
  restart(): void {
    this.forget()
    // The client is reset, and starts at the beginning of the new epoch.
    this.giveUp(this.channelCursors, 0)
  }

  deliver(): boolean {
    return true
  }

  leftLockstep(): void {}

  /** The stretches of events that follow, each with its channel, its first and its last position. */
  stretches(limit = Infinity): (string | number)[][] {
    const stretches: (string | number)[][] = []
    for (let found = this.find(limit); found !== NOTHING && stretches.length < 10; found = this.find(limit)) {
      if (found === LOSS) return [...stretches, ['lost']]
      const { name, log } = this.next!.channel
      log.seek(this.after(this.next!))
      const first = log.page.positions[log.slot] as number
      const end = log.page.endOf(log.slot, this.until)
      this.position = log.page.positions[end - 1] as number
      stretches.push([name, first, this.position])
    }
    return stretches
  }

  findNext(): number {
    return this.find(Infinity)
  }
}

function setUp(names: string, options: ReplayOptions = {}) {
  const channels = Array.from(names, (name) => new Channel(name, new ReplayLog(replayBounds('replay', options), 0, { bytes: 0 }), 0))
  const publish = (text: string, from: number, key?: string): void => {
    Array.from(text).forEach((name, n) =>
      channels.find((channel) => channel.name === name)?.log.append('data: 1\n\n', from + n, 0, true, key),
    )
  }
  return { channels, publish, cursor: new TestCursor(channels, 0) }
}

describe('a cursor over several channels', () => {
  it('finds stretches in order of position', () => {
    const { publish, cursor } = setUp('abc')
    publish('aabacca', 1)
    expect(cursor.stretches()).toEqual([
      ['a', 1, 2],
      ['b', 3, 3],
      ['a', 4, 4],
      ['c', 5, 6],
      ['a', 7, 7],
    ])
    expect(cursor.stretches()).toEqual([])
    publish('bb', 8)
    expect(cursor.stretches(8)).toEqual([['b', 8, 8]])
    expect(cursor.stretches()).toEqual([['b', 9, 9]])
  })

  it('finds events that were published after a search', () => {
    const { publish, cursor } = setUp('ab')
    publish('ab', 1)
    expect(cursor.findNext()).toBe(EVENT)
    publish('ba', 3)
    expect(cursor.stretches()).toEqual([
      ['a', 1, 1],
      ['b', 2, 3],
      ['a', 4, 4],
    ])
  })

  it('reports a loss if the event that it had found was dropped', () => {
    const { channels, publish, cursor } = setUp('ab')
    publish('aab', 1)
    expect(cursor.findNext()).toBe(EVENT)
    channels[1]?.log.lose(3)
    expect(cursor.stretches()).toEqual([['lost']])
  })

  it('finds the event that replaced the one it had found', () => {
    const { publish, cursor } = setUp('ab', { latestPerKey: true })
    publish('ab', 1, 'key')
    expect(cursor.findNext()).toBe(EVENT)
    publish('a', 3, 'key')
    expect(cursor.stretches()).toEqual([
      ['b', 2, 2],
      ['a', 3, 3],
    ])
  })

  it('finds every event of a new epoch even if its positions are lower', () => {
    const { channels, publish, cursor } = setUp('ab')
    publish('ab', 100)
    expect(cursor.findNext()).toBe(EVENT)
    for (const channel of channels) channel.restart()
    publish('abab', 1)
    expect(cursor.stretches()).toEqual([
      ['a', 1, 1],
      ['b', 2, 2],
      ['a', 3, 3],
      ['b', 4, 4],
    ])
  })
})
