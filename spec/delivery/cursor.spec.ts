import { Channel } from '../../lib/delivery/channel.ts'
import { Cursor, EVENT, LOSS, NOTHING } from '../../lib/delivery/cursor.ts'
import { ReplayLog } from '../../lib/log/replay-log.ts'
import { replayBounds, type ReplayOptions } from '../../lib/log/replay-options.ts'

/** A cursor that is moved by hand. */
class Walk extends Cursor {
  restart(): void {
    this.forget()
    // The client is told, and has its place in the new life.
    this.giveUp(this.channelCursors, 0)
  }

  deliver(): boolean {
    return true
  }

  leftLockstep(): void {}

  /** The runs that follow, each as its channel, its first position and that up to which it may go. */
  runs(limit = Infinity): (string | number)[][] {
    const runs: (string | number)[][] = []
    for (let found = this.find(limit); found !== NOTHING && runs.length < 10; found = this.find(limit)) {
      if (found === LOSS) return [...runs, ['lost']]
      const { name, log } = this.next!.channel
      log.seek(this.after(this.next!))
      const first = log.page.positions[log.slot] as number
      const end = log.page.endOf(log.slot, this.until)
      this.position = log.page.positions[end - 1] as number
      runs.push([name, first, this.position])
    }
    return runs
  }

  one(): number {
    return this.find(Infinity)
  }
}

function setup(names: string, options: ReplayOptions = {}) {
  const channels = Array.from(names, (name) => new Channel(name, new ReplayLog(replayBounds('replay', options), 0, { bytes: 0 }), 0))
  const publish = (text: string, from: number, key?: string): void => {
    Array.from(text).forEach((name, n) =>
      channels.find((channel) => channel.name === name)?.log.append('data: 1\n\n', from + n, 0, true, key),
    )
  }
  return { channels, publish, walk: new Walk(channels, 0) }
}

describe('a cursor over several channels', () => {
  it('finds runs in order of position', () => {
    const { publish, walk } = setup('abc')
    publish('aabacca', 1)
    expect(walk.runs()).toEqual([
      ['a', 1, 2],
      ['b', 3, 3],
      ['a', 4, 4],
      ['c', 5, 6],
      ['a', 7, 7],
    ])
    expect(walk.runs()).toEqual([])
    publish('bb', 8)
    expect(walk.runs(8)).toEqual([['b', 8, 8]])
    expect(walk.runs()).toEqual([['b', 9, 9]])
  })

  it('finds what came after it had looked', () => {
    const { publish, walk } = setup('ab')
    publish('ab', 1)
    expect(walk.one()).toBe(EVENT)
    publish('ba', 3)
    expect(walk.runs()).toEqual([
      ['a', 1, 1],
      ['b', 2, 3],
      ['a', 4, 4],
    ])
  })

  it('finds that what it had found was dropped', () => {
    const { channels, publish, walk } = setup('ab')
    publish('aab', 1)
    expect(walk.one()).toBe(EVENT)
    channels[1]?.log.lose(3)
    expect(walk.runs()).toEqual([['lost']])
  })

  it('finds what took the place of what it had found', () => {
    const { publish, walk } = setup('ab', { latestPerKey: true })
    publish('ab', 1, 'key')
    expect(walk.one()).toBe(EVENT)
    publish('a', 3, 'key')
    expect(walk.runs()).toEqual([
      ['b', 2, 2],
      ['a', 3, 3],
    ])
  })

  it('finds everything of another life, though its positions are lower', () => {
    const { channels, publish, walk } = setup('ab')
    publish('ab', 100)
    expect(walk.one()).toBe(EVENT)
    for (const channel of channels) channel.restart()
    publish('abab', 1)
    expect(walk.runs()).toEqual([
      ['a', 1, 1],
      ['b', 2, 2],
      ['a', 3, 3],
      ['b', 4, 4],
    ])
  })
})
