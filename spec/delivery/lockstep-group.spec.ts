import type { Socket } from 'node:net'
import { gunzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import type { TimeSlice } from '../../lib/basics/time-slice.ts'
import { Channel, type Consumer, ChannelCursor } from '../../lib/delivery/channel.ts'
import type { DirectWriter } from '../../lib/delivery/direct-writer.ts'
import { GzipBody } from '../../lib/gzip/gzip-body.ts'
import { ReplayLog } from '../../lib/log/replay-log.ts'
import { replayBounds, type ReplayOptions } from '../../lib/log/replay-options.ts'
import { anyNumber, pick, playAll, stepsOf } from '../support/histories.ts'
import { times } from '../support/scale.ts'

/** Position after which the events of each log begin. */
const FIRST = 1_000

/** A consumer that goes on alone when it is full or behind, and is in the lockstep group otherwise. */
class TestConsumer implements Consumer, DirectWriter {
  full = false
  isOpen = true
  readonly isFramed = false
  readonly gzip: GzipBody | null
  readonly cursor: ChannelCursor
  readonly writes: Buffer[] = []
  position: number
  /** The number of writes after which it is full. */
  room = Infinity
  onWrite: () => void = () => {}
  /** The number of times that the log had lost events that it had not received. */
  lossCount = 0
  /** The number of events that it received outside the group. */
  receivedAlone = 0

  constructor(channel: Channel, gzip: GzipBody | null = null) {
    this.gzip = gzip
    if (gzip !== null) this.writes.push(gzip.begin(Buffer.alloc(0)))
    this.position = channel.log.lastPosition
    this.cursor = new ChannelCursor(channel, this)
    channel.add(this.cursor)
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

  /** The positions of the events that it has received. With gzip, read them only when nothing more follows. */
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

  /** Takes what is due alone, then joins the group. */
  catchUp(): void {
    const { channel } = this.cursor
    this.cursor.leaveLockstep()
    const { log } = channel
    if (log.floor > this.position) {
      this.lossCount++
      this.position = log.lastPosition
    }
    while (!this.full && log.seek(this.position)) {
      const chunk = log.page.chunk(log.slot, log.page.endOf(log.slot, Infinity))
      this.position = chunk.position
      this.receivedAlone += chunk.count
      this.write((this.gzip === null ? chunk : this.gzip.shared(chunk)).bytes)
    }
    if (!this.full && this.position >= log.lastPosition) channel.joinLockstep(this.cursor, this.socket, this)
  }

  deliver(): boolean {
    if (!this.full) this.catchUp()
    return true
  }

  drain(): void {
    this.full = false
    this.room = Infinity
    this.catchUp()
  }

  restart(): void {}
  block(): void {}
}

const sliceOf = (spend: () => boolean): TimeSlice => ({ spend }) as TimeSlice
const endless = sliceOf(() => false)

function setUp(options: ReplayOptions = {}) {
  const log = new ReplayLog(replayBounds('replay', options), 0, { bytes: 0 })
  const channel = new Channel('a', log, 0)
  const counters = { delivered: 0 }
  let position = FIRST
  const publish = (count = 1, size = 100): void => {
    for (let n = 0; n < count; n++) log.append(`${++position}${'x'.repeat(size)}`.slice(0, size), position, 0, true)
  }
  /** Runs a round of the pump, or as much of it as the time slice allows. */
  const sweep = (slice: TimeSlice = endless): boolean => channel.sweepLockstep(slice, log.lastPosition, counters)
  return { log, channel, counters, publish, sweep, last: () => position }
}

/** The positions after `from`, up to `to`. */
const positions = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, n) => from + n + 1)

describe('a lockstep group', () => {
  it('gives every member the same chunk, and counts the deliveries', () => {
    const { channel, counters, publish, sweep } = setUp()
    const consumers = Array.from({ length: 3 }, () => new TestConsumer(channel))
    publish(5)
    expect(sweep()).toBe(true)
    expect(consumers.map(({ received }) => received)).toEqual([positions(FIRST, 1_005), positions(FIRST, 1_005), positions(FIRST, 1_005)])
    expect(counters.delivered).toBe(15)
    expect([channel.consumerCount, channel.alone.size]).toEqual([3, 0])
  })

  it('continues where the time slice ended, with the rest of the members and the events published since', () => {
    const { channel, publish, sweep, last } = setUp()
    const consumers = Array.from({ length: 3 }, () => new TestConsumer(channel))
    publish(2)
    expect(sweep(sliceOf(() => true))).toBe(false)
    expect(consumers.map(({ received }) => received.length)).toEqual([0, 0, 2])
    publish(1)
    expect(consumers.map(({ cursor }) => channel.lockstepPositionOf(cursor))).toEqual([0, 0, 1_002])
    expect(sweep()).toBe(true)
    expect(consumers.map(({ received }) => received)).toEqual(consumers.map(() => positions(FIRST, last())))
  })

  it('removes a full member at the position that it has reached', () => {
    const { channel, publish, sweep } = setUp()
    const [slow, full, other] = [new TestConsumer(channel), new TestConsumer(channel), new TestConsumer(channel)]
    slow.room = 1
    full.full = true
    publish(2)
    expect(sweep()).toBe(true)
    expect([slow.cursor.isInLockstep, full.cursor.isInLockstep, other.cursor.isInLockstep]).toEqual([false, false, true])
    expect([slow.position, full.position]).toEqual([1_002, 0])
    publish(1)
    sweep()
    slow.full = full.full = false
    slow.room = Infinity
    slow.deliver()
    full.deliver()
    expect([slow, full, other].map(({ received }) => received)).toEqual([
      positions(FIRST, 1_003),
      positions(FIRST, 1_003),
      positions(FIRST, 1_003),
    ])
    expect(channel.alone.size).toBe(0)
  })

  it('does not write to a closed socket', () => {
    const { channel, publish, sweep } = setUp()
    const consumers = [new TestConsumer(channel), new TestConsumer(channel)]
    ;(consumers[0] as TestConsumer).isOpen = false
    publish(1)
    expect(sweep()).toBe(true)
    expect(consumers.map(({ received, cursor }) => [received.length, cursor.isInLockstep])).toEqual([
      [0, false],
      [1, true],
    ])
  })

  it('removes every member if the next event is too large for one write', () => {
    const { channel, publish, sweep } = setUp()
    const consumers = [new TestConsumer(channel), new TestConsumer(channel)]
    publish(1, 70_000)
    expect(sweep()).toBe(true)
    expect(consumers.map(({ writes, cursor }) => [writes.length, cursor.isInLockstep])).toEqual([
      [0, false],
      [0, false],
    ])
    for (const consumer of consumers) consumer.deliver()
    expect(consumers.map(({ received, cursor }) => [received, cursor.isInLockstep])).toEqual([
      [[1_001], true],
      [[1_001], true],
    ])
  })

  it('does not admit a consumer at another position', () => {
    const { channel, publish, sweep } = setUp()
    const first = new TestConsumer(channel)
    publish(1)
    const second = new TestConsumer(channel)
    expect([first.cursor.isInLockstep, second.cursor.isInLockstep]).toEqual([true, false])
    sweep()
    second.deliver()
    expect(second.cursor.isInLockstep).toBe(true)
    expect([first.received, second.received]).toEqual([[1_001], []])
  })

  it('removes every member if the log has lost events that they have not received', () => {
    const { log, channel, publish, sweep, last } = setUp()
    const consumers = Array.from({ length: 3 }, () => new TestConsumer(channel))
    publish(1)
    sweep()
    publish(5)
    log.lose(last() - 2)
    expect(sweep()).toBe(true)
    expect(channel.alone.size).toBe(3)
    expect(consumers.map(({ position }) => position)).toEqual([1_001, 1_001, 1_001])
  })

  it('removes every member after a loss even if no event follows it', () => {
    const { log, channel, publish, sweep, last } = setUp()
    const consumer = new TestConsumer(channel)
    publish(1)
    sweep()
    log.lose(last() + 5)
    expect(sweep()).toBe(true)
    expect([consumer.cursor.isInLockstep, consumer.position]).toEqual([false, 1_001])
    consumer.position = log.floor
    consumer.deliver()
    expect(sweep()).toBe(true)
    expect(consumer.cursor.isInLockstep).toBe(true)
  })

  it('spends its time slice on members that are full, too', () => {
    const { channel, publish, sweep } = setUp()
    const consumers = Array.from({ length: 3 }, () => new TestConsumer(channel))
    publish(1)
    for (const consumer of consumers) consumer.full = true
    expect(sweep(sliceOf(() => true))).toBe(false)
    expect(channel.alone.size).toBe(1)
  })

  it('removes every member when the log begins a new epoch', () => {
    const { channel, publish } = setUp()
    const consumer = new TestConsumer(channel)
    const restart = jest.spyOn(consumer, 'restart')
    publish(1)
    channel.restart()
    expect(consumer.cursor.isInLockstep).toBe(false)
    expect(restart).toHaveBeenCalledTimes(1)
  })

  it.each([false, true])('cuts chunks at segments if a member takes gzip (%p)', (isGzip) => {
    const { channel, publish, sweep } = setUp()
    const sizes: number[] = []
    const consumers = [new TestConsumer(channel), new TestConsumer(channel, isGzip ? new GzipBody(false) : null)]
    jest.spyOn(consumers[0] as TestConsumer, 'write').mockImplementation(({ length }) => sizes.push(length) > 0)
    publish(10, 1_000)
    sweep()
    publish(10, 1_000)
    sweep()
    expect(sizes).toEqual(isGzip ? [10_000, 7_000, 3_000] : [10_000, 10_000])
    channel.remove((consumers[1] as TestConsumer).cursor)
    publish(20, 1_000)
    sweep()
    expect(sizes.at(-1)).toBe(20_000)
  })
})

/** One step of a history. `consumer` selects one, by the remainder. */
type Step =
  | { readonly do: 'publish'; readonly count: number; readonly size: number }
  /** A round of the pump, whose time slice ends after some deliveries. */
  | { readonly do: 'sweep'; readonly deliveries: number }
  | { readonly do: 'join'; readonly gzip: 'no' | 'blocks' | 'window' }
  | { readonly do: 'fill'; readonly consumer: number; readonly room: number }
  | { readonly do: 'drain' | 'leaveGroup' | 'writeOwn' | 'leave'; readonly consumer: number }

const step = fc.oneof<fc.WeightedArbitrary<Step>[]>(
  {
    weight: 20,
    arbitrary: fc.record({
      do: fc.constant('publish'),
      count: fc.integer({ min: 1, max: 3 }),
      size: fc.oneof({ weight: 4, arbitrary: fc.constant(100) }, { weight: 1, arbitrary: fc.constant(6_000) }),
    }),
  },
  { weight: 30, arbitrary: fc.record({ do: fc.constant('sweep'), deliveries: fc.nat(5) }) },
  {
    weight: 15,
    arbitrary: fc.record({
      do: fc.constant('join'),
      gzip: fc.oneof<fc.WeightedArbitrary<'no' | 'blocks' | 'window'>[]>(
        { weight: 14, arbitrary: fc.constant('no') },
        { weight: 3, arbitrary: fc.constant('blocks') },
        { weight: 3, arbitrary: fc.constant('window') },
      ),
    }),
  },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('fill'), consumer: anyNumber, room: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('drain'), consumer: anyNumber }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('leaveGroup'), consumer: anyNumber }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('writeOwn'), consumer: anyNumber }) },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('leave'), consumer: anyNumber }) },
)

/** Sums over all histories. */
interface Totals {
  interruptedSweeps: number
  received: number
  losses: number
}

/** Plays a history of a channel whose consumers join, fill up, drain and leave while events are published. */
function play(steps: readonly Step[], totals: Totals): void {
  const { log, channel, counters, publish, sweep, last } = setUp({ maxEvents: 5 })
  /** The consumers, each with the position from which it must receive everything. */
  const consumers = new Map<TestConsumer, number>()
  let receivedInGroup = 0

  const check = (consumer: TestConsumer, from: number): void => {
    const { received, lossCount } = consumer
    receivedInGroup += received.length - consumer.receivedAlone
    totals.received += received.length
    totals.losses += lossCount
    const due = positions(from, last())
    const isWhole =
      lossCount === 0
        ? received.join() === due.slice(0, received.length).join()
        : received.every((position, i) => i === 0 || position > (received[i - 1] as number))
    if (!isWhole) throw new Error(`a consumer has received ${received.join()} of ${due.join()}`)
  }
  const sweepFor = (deliveries: number): void => {
    let left = deliveries
    if (!sweep(sliceOf(() => left-- <= 0))) {
      totals.interruptedSweeps++
      return
    }
    for (let at = channel.alone.size - 1; at >= 0; at--) {
      const { consumer } = channel.alone.items[at] ?? {}
      if (consumer !== undefined) (consumer as TestConsumer).deliver()
    }
    log.offer(log.lastPosition)
    log.trim(0)
  }
  const join = (gzip: 'no' | 'blocks' | 'window'): void => {
    const from = log.lastPosition === 0 ? FIRST : log.lastPosition
    consumers.set(new TestConsumer(channel, gzip === 'no' ? null : new GzipBody(gzip === 'window')), from)
  }

  for (const each of steps) {
    if (each.do === 'publish') publish(each.count, each.size)
    else if (each.do === 'sweep') sweepFor(each.deliveries)
    else if (each.do === 'join') join(each.gzip)
    else if (consumers.size > 0) {
      const consumer = pick([...consumers.keys()], each.consumer)
      if (each.do === 'fill') consumer.room = each.room
      else if (each.do === 'drain') consumer.drain()
      else if (each.do === 'leaveGroup') consumer.cursor.leaveLockstep()
      else if (each.do === 'writeOwn') consumer.writes.push(consumer.gzip?.own(Buffer.from('own')) ?? Buffer.alloc(0))
      else {
        channel.remove(consumer.cursor)
        check(consumer, consumers.get(consumer) as number)
        consumers.delete(consumer)
      }
    }
  }
  while (!sweep());
  for (const [consumer, from] of consumers) {
    consumer.drain()
    const { received, lossCount } = consumer
    if (lossCount === 0 && received.length !== last() - from) throw new Error(`${received.length} of ${last() - from} were received`)
    check(consumer, from)
  }
  if (counters.delivered !== receivedInGroup) throw new Error(`${counters.delivered} were counted, ${receivedInGroup} received`)
}

describe('a lockstep group in random histories', () => {
  it('delivers every event once to each consumer', async () => {
    const totals = { interruptedSweeps: 0, received: 0, losses: 0 }
    await playAll(stepsOf(step, 80), times(3_000), async (steps) => play(steps, totals))
    expect(totals.interruptedSweeps).toBeGreaterThan(times(5_000))
    expect(totals.received).toBeGreaterThan(times(100_000))
    expect(totals.losses).toBeGreaterThan(times(500))
  })
})
