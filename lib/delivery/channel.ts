import type { Socket } from 'node:net'
import { SwapList } from '../basics/swap-list.ts'
import type { TimeSlice } from '../basics/time-slice.ts'
import type { ReplayLog } from '../log/replay-log.ts'
import type { DirectWriter } from './direct-writer.ts'
import { LockstepGroup, type LockstepMember } from './lockstep-group.ts'

/** A consumer of channels: a cursor to which the pump delivers the events after its position. */
export interface Consumer {
  /** Everything at or before this position has been dealt with. */
  readonly position: number
  /** Takes what is due, until its sink is full. Returns `false` if the time slice ended first, short of the position `goal`. */
  deliver(slice: TimeSlice, goal: number): boolean
  /** The log of a channel begins a new epoch: the consumer's position means nothing in it. */
  restart(): void
  /** The consumer was in a lockstep group up to this position, and goes on alone. */
  leftLockstep(position: number): void
}

/** One consumer's cursor in one channel. */
export class ChannelCursor implements LockstepMember {
  readonly channel: Channel
  readonly consumer: Consumer
  /** Lower bound for this channel alone: the consumer receives none of its events at or before this position. */
  after = -1
  /** Position of the event that was last found to be the next one. */
  due = 0
  isInLockstep = false
  index = -1
  writer: DirectWriter | null = null
  socket: Socket | null = null
  isFramed = false
  window = 0
  sweep = 0

  constructor(channel: Channel, consumer: Consumer) {
    this.channel = channel
    this.consumer = consumer
  }

  /** Takes the cursor out of the channel's lockstep group, if it is in it. */
  leaveLockstep(): void {
    if (this.isInLockstep) this.channel.leaveLockstep(this)
  }
}

/** A named channel: its log, and the cursors of its consumers. */
export class Channel {
  readonly name: string
  readonly log: ReplayLog
  /** The cursors that are each at a position of their own. */
  readonly alone = new SwapList<ChannelCursor>()
  /** The cursors that have received every event and receive the same chunks; created when the first cursor joins. */
  #lockstep: LockstepGroup<ChannelCursor> | null = null
  /** The suffix that the ids of all its events share. */
  readonly idSuffix: string
  /** The number of epochs that its log has begun. */
  restarts = 0
  /** The number of pending subscriptions that need it. It is not forgotten before they have begun or failed. */
  pins = 0
  /** The log's floor when the backplane last lost events of this epoch; -1 if it lost none. The bounds may have raised the floor since. */
  gap = -1
  /** Whether the pump has it in its queue. */
  isQueued = false
  /** Monotonic time in ms at which it was last published to or last had a consumer. */
  usedAt: number

  constructor(name: string, log: ReplayLog, now: number) {
    this.name = name
    this.log = log
    this.idSuffix = `/${encodeURIComponent(name)}`
    this.usedAt = now
  }

  get consumerCount(): number {
    return this.alone.size + (this.#lockstep?.size ?? 0)
  }

  add(cursor: ChannelCursor): void {
    this.alone.add(cursor)
  }

  remove(cursor: ChannelCursor): void {
    if (cursor.isInLockstep) this.#lockstep?.remove(cursor)
    else this.alone.remove(cursor)
    cursor.isInLockstep = false
  }

  /** Moves a cursor that is at the end of the log into the lockstep group, unless a sweep of the group is in progress. */
  joinLockstep(cursor: ChannelCursor, socket: Socket, writer: DirectWriter): void {
    const group = (this.#lockstep ??= new LockstepGroup())
    const { end } = this.log
    if (!group.admits(end)) return
    this.alone.remove(cursor)
    group.add(cursor, socket, writer, end)
    cursor.isInLockstep = true
  }

  /** The position up to which a cursor in the lockstep group has received everything. */
  lockstepPositionOf(cursor: ChannelCursor): number {
    return this.#lockstep?.positionOf(cursor) ?? 0
  }

  /** Takes a cursor out of the lockstep group. */
  readonly leaveLockstep = (cursor: ChannelCursor): void => {
    const position = this.lockstepPositionOf(cursor)
    this.remove(cursor)
    this.add(cursor)
    cursor.consumer.leftLockstep(position)
  }

  /** Delivers to the lockstep group, at least up to the position `goal`. Returns `false` if the time slice ended first. */
  sweepLockstep(slice: TimeSlice, goal: number, counters: { delivered: number }): boolean {
    return this.#lockstep?.sweep(this.log, goal, slice, counters, this.leaveLockstep) ?? true
  }

  /** Begins a new epoch with an empty log. */
  restart(): void {
    this.restarts++
    this.log.clear()
    this.gap = -1
    this.#lockstep?.disband(this.leaveLockstep)
    for (const { consumer } of this.alone.items) consumer.restart()
  }
}
