import type { Socket } from 'node:net'
import { gunzipSync } from 'node:zlib'
import type { TimeSlice } from '../../lib/basics/time-slice.ts'
import { Channel, type Consumer, ChannelCursor } from '../../lib/delivery/channel.ts'
import type { DirectWriter } from '../../lib/delivery/direct-writer.ts'
import { GzipBody } from '../../lib/gzip/gzip-body.ts'
import { ReplayLog } from '../../lib/log/replay-log.ts'
import { replayBounds, type ReplayOptions } from '../../lib/log/replay-options.ts'
import { randomFrom } from '../support/random.ts'
import { times } from '../support/scale.ts'

/** A consumer that is at a place of its own whenever it is full, and else keeps step. */
class Walker implements Consumer, DirectWriter {
  full = false
  isOpen = true
  readonly isFramed = false
  readonly gzip: GzipBody | null
  readonly member: ChannelCursor
  readonly writes: Buffer[] = []
  position: number
  /** Becomes full after so many writes more. */
  room = Infinity
  onWrite: () => void = () => {}
  lost = 0
  /** How many events it took by itself. */
  byItself = 0

  constructor(channel: Channel, gzip: GzipBody | null = null) {
    this.gzip = gzip
    if (gzip !== null) this.writes.push(gzip.begin(Buffer.alloc(0)))
    this.position = channel.log.lastPosition
    this.member = new ChannelCursor(channel, this)
    channel.add(this.member)
    this.catchUp()
  }

  get socket(): Socket {
    const state = { writable: () => this.isOpen, writableLength: () => Number(this.full) }
    return {
      get writable() {
        return state.writable()
      },
      get writableLength() {
        return state.writableLength()
      },
      write: (bytes: Buffer) => this.write(bytes),
    } as unknown as Socket
  }

  /** The positions of what it was given: of gzip once it has left. */
  get received(): number[] {
    const wire = Buffer.concat(this.writes)
    const text = (this.gzip === null ? wire : gunzipSync(Buffer.concat([wire, this.gzip.end()]))).toString()
    return [...text.matchAll(/\d+/g)].map(Number)
  }

  write(bytes: Buffer): boolean {
    this.writes.push(bytes)
    if (--this.room <= 0) this.full = true
    this.onWrite()
    return !this.full
  }

  leftLockstep(position: number): void {
    this.position = position
  }

  /** Takes what is due by itself, then keeps step. */
  catchUp(): void {
    const { channel } = this.member
    this.member.leaveLockstep()
    const { log } = channel
    if (log.floor > this.position) {
      this.lost++
      this.position = log.lastPosition
    }
    while (!this.full && log.seek(this.position)) {
      const chunk = log.page.chunk(log.slot, log.page.endOf(log.slot, Infinity))
      this.position = chunk.position
      this.byItself += chunk.count
      this.write((this.gzip === null ? chunk : this.gzip.shared(chunk)).bytes)
    }
    if (!this.full && this.position >= log.lastPosition) channel.joinLockstep(this.member, this.socket, this)
  }

  deliver(): boolean {
    if (!this.full) this.catchUp()
    return true
  }

  restart(): void {}
  block(): void {}
}

const sliceOf = (spend: () => boolean): TimeSlice => ({ spend }) as TimeSlice
const endless = sliceOf(() => false)

function setup(options: ReplayOptions = {}) {
  const log = new ReplayLog(replayBounds('replay', options), 0, { bytes: 0 })
  const channel = new Channel('a', log, 0)
  const counters = { delivered: 0 }
  let position = 1_000
  const publish = (count = 1, size = 100): void => {
    for (let n = 0; n < count; n++) log.append(`${++position}${'x'.repeat(size)}`.slice(0, size), position, 0, true)
  }
  /** A round of the pump, or as much of it as the slice allows. */
  const sweep = (slice: TimeSlice = endless): boolean => channel.sweepLockstep(slice, log.lastPosition, counters)
  return { log, channel, counters, publish, sweep, last: () => position }
}

const upTo = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, n) => from + n + 1)

describe('a cohort', () => {
  it('gives all who keep step the same chunk, and counts what it gave', () => {
    const { channel, counters, publish, sweep } = setup()
    const walkers = Array.from({ length: 3 }, () => new Walker(channel))
    publish(5)
    expect(sweep()).toBe(true)
    expect(walkers.map(({ received }) => received)).toEqual([upTo(1_000, 1_005), upTo(1_000, 1_005), upTo(1_000, 1_005)])
    expect(counters.delivered).toBe(15)
    expect([channel.consumerCount, channel.alone.size]).toEqual([3, 0])
  })

  it('goes on where the slice ended, with the rest and what came meanwhile', () => {
    const { channel, publish, sweep, last } = setup()
    const walkers = Array.from({ length: 3 }, () => new Walker(channel))
    publish(2)
    expect(sweep(sliceOf(() => true))).toBe(false)
    expect(walkers.map(({ received }) => received.length)).toEqual([0, 0, 2])
    publish(1)
    expect(walkers.map(({ member }) => channel.lockstepPositionOf(member))).toEqual([0, 0, 1_002])
    expect(sweep()).toBe(true)
    expect(walkers.map(({ received }) => received)).toEqual(walkers.map(() => upTo(1_000, last())))
  })

  it('lets go whoever is full, at the place where it is', () => {
    const { channel, publish, sweep } = setup()
    const [slow, full, other] = [new Walker(channel), new Walker(channel), new Walker(channel)]
    slow.room = 1
    full.full = true
    publish(2)
    expect(sweep()).toBe(true)
    expect([slow.member.isInLockstep, full.member.isInLockstep, other.member.isInLockstep]).toEqual([false, false, true])
    expect([slow.position, full.position]).toEqual([1_002, 0])
    publish(1)
    sweep()
    slow.full = full.full = false
    slow.room = Infinity
    slow.deliver()
    full.deliver()
    expect([slow, full, other].map(({ received }) => received)).toEqual([upTo(1_000, 1_003), upTo(1_000, 1_003), upTo(1_000, 1_003)])
    expect(channel.alone.size).toBe(0)
  })

  it('writes to nobody whose socket is closed', () => {
    const { channel, publish, sweep } = setup()
    const walkers = [new Walker(channel), new Walker(channel)]
    ;(walkers[0] as Walker).isOpen = false
    publish(1)
    expect(sweep()).toBe(true)
    expect(walkers.map(({ received, member }) => [received.length, member.isInLockstep])).toEqual([
      [0, false],
      [1, true],
    ])
  })

  it('lets everybody take an event by itself that is too large for one write', () => {
    const { channel, publish, sweep } = setup()
    const walkers = [new Walker(channel), new Walker(channel)]
    publish(1, 70_000)
    expect(sweep()).toBe(true)
    expect(walkers.map(({ writes, member }) => [writes.length, member.isInLockstep])).toEqual([
      [0, false],
      [0, false],
    ])
    for (const walker of walkers) walker.deliver()
    expect(walkers.map(({ received, member }) => [received, member.isInLockstep])).toEqual([
      [[1_001], true],
      [[1_001], true],
    ])
  })

  it('takes nobody in who is not where the others are', () => {
    const { channel, publish, sweep } = setup()
    const first = new Walker(channel)
    publish(1)
    const second = new Walker(channel)
    expect([first.member.isInLockstep, second.member.isInLockstep]).toEqual([true, false])
    sweep()
    second.deliver()
    expect(second.member.isInLockstep).toBe(true)
    expect([first.received, second.received]).toEqual([[1_001], []])
  })

  it('lets everybody go when the log has lost what they have not had', () => {
    const { log, channel, publish, sweep, last } = setup()
    const walkers = Array.from({ length: 3 }, () => new Walker(channel))
    publish(1)
    sweep()
    publish(5)
    log.lose(last() - 2)
    expect(sweep()).toBe(true)
    expect(channel.alone.size).toBe(3)
    expect(walkers.map(({ position }) => position)).toEqual([1_001, 1_001, 1_001])
  })

  it('lets everybody go when more is lost than there was, though nothing follows', () => {
    const { log, channel, publish, sweep, last } = setup()
    const walker = new Walker(channel)
    publish(1)
    sweep()
    log.lose(last() + 5)
    expect(sweep()).toBe(true)
    expect([walker.member.isInLockstep, walker.position]).toEqual([false, 1_001])
    walker.position = log.floor
    walker.deliver()
    expect(sweep()).toBe(true)
    expect(walker.member.isInLockstep).toBe(true)
  })

  it('ends its slice also while all are full', () => {
    const { channel, publish, sweep } = setup()
    const walkers = Array.from({ length: 3 }, () => new Walker(channel))
    publish(1)
    for (const walker of walkers) walker.full = true
    expect(sweep(sliceOf(() => true))).toBe(false)
    expect(channel.alone.size).toBe(1)
  })

  it('lets everybody go when another life of the log begins', () => {
    const { channel, publish } = setup()
    const walker = new Walker(channel)
    const restart = jest.spyOn(walker, 'restart')
    publish(1)
    channel.restart()
    expect(walker.member.isInLockstep).toBe(false)
    expect(restart).toHaveBeenCalledTimes(1)
  })

  it.each([false, true])('gives chunks of a segment where one of them takes gzip (%p)', (isGzip) => {
    const { channel, publish, sweep } = setup()
    const sizes: number[] = []
    const walkers = [new Walker(channel), new Walker(channel, isGzip ? new GzipBody(false) : null)]
    jest.spyOn(walkers[0] as Walker, 'write').mockImplementation(({ length }) => sizes.push(length) > 0)
    publish(10, 1_000)
    sweep()
    publish(10, 1_000)
    sweep()
    expect(sizes).toEqual(isGzip ? [10_000, 7_000, 3_000] : [10_000, 10_000])
    channel.remove((walkers[1] as Walker).member)
    publish(20, 1_000)
    sweep()
    expect(sizes.at(-1)).toBe(20_000)
  })

  it('gives everybody everything once in random lives', () => {
    let midSweep = 0
    let received = 0
    let losses = 0
    for (let seed = 1; seed <= times(3_000); seed++) {
      const random = randomFrom(seed)
      const below = (n: number): number => Math.floor(random() * n)
      const { log, channel, counters, publish, sweep, last } = setup({ maxEvents: 5 })
      const walkers = new Map<Walker, number>()
      let counted = 0
      const check = (walker: Walker, from: number): void => {
        const { received: got } = walker
        // What is sent by itself is not counted by the sweep.
        counted += got.length - walker.byItself
        received += got.length
        losses += walker.lost
        const expected = upTo(from === 0 ? 1_000 : from, last())
        const isWhole =
          walker.lost === 0
            ? got.join() === expected.slice(0, got.length).join()
            : got.every((one, i) => i === 0 || one > (got[i - 1] as number))
        if (!isWhole) throw new Error(`seed ${seed}: ${got.join()} of ${expected.join()}`)
      }
      let isSwept = true
      for (let step = 0; step < 80; step++) {
        const dice = random()
        const walker = [...walkers.keys()][below(walkers.size)]
        if (dice < 0.2) publish(1 + below(3), random() < 0.8 ? 100 : 6_000)
        else if (dice < 0.5) {
          isSwept = sweep(sliceOf(() => random() < 0.4))
          if (isSwept) {
            for (let at = channel.alone.size - 1; at >= 0; at--) {
              const { consumer } = channel.alone.items[at] ?? {}
              if (consumer !== undefined) (consumer as Walker).deliver()
            }
            log.offer(log.lastPosition)
            log.trim(0)
          } else midSweep++
        } else if (dice < 0.65) {
          const from = log.lastPosition
          const gzip = random() < 0.3 ? new GzipBody(random() < 0.5) : null
          walkers.set(new Walker(channel, gzip), from)
        } else if (walker === undefined) continue
        else if (dice < 0.75) walker.room = 1 + below(3)
        else if (dice < 0.85) {
          walker.full = false
          walker.room = Infinity
          walker.deliver()
        } else if (dice < 0.87) walker.member.leaveLockstep()
        else if (dice < 0.9) walker.writes.push(walker.gzip?.own(Buffer.from('own')) ?? Buffer.alloc(0))
        else {
          channel.remove(walker.member)
          check(walker, walkers.get(walker) as number)
          walkers.delete(walker)
        }
      }
      while (!sweep());
      for (const [walker, from] of walkers) {
        walker.full = false
        walker.room = Infinity
        walker.deliver()
        if (walker.lost === 0 && walker.received.length !== last() - (from === 0 ? 1_000 : from)) {
          throw new Error(`seed ${seed}: ${walker.received.length} of ${last() - from} came`)
        }
        check(walker, from)
      }
      if (counters.delivered !== counted) throw new Error(`seed ${seed}: ${counters.delivered} counted, ${counted} given`)
    }
    expect(midSweep).toBeGreaterThan(times(5_000))
    expect(received).toBeGreaterThan(times(100_000))
    expect(losses).toBeGreaterThan(times(500))
  })
})
