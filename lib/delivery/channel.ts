import type { Socket } from 'node:net'
import type { TimeSlice } from '../basics/time-slice.ts'
import { SwapList, type Indexed } from '../basics/swap-list.ts'
import type { GroupMembership } from '../gzip/gzip-body.ts'
import type { ReplayLog } from '../log/replay-log.ts'
import { LockstepGroup, type DirectWriter } from './lockstep-group.ts'

/** What follows channels: it is given what it has not had yet. */
export interface Consumer {
  /** Where it stands belongs to a life of the hub that is over: it is told so before anything else. */
  restart(): void
  /** Everything at or before it was dealt with. */
  readonly position: number
  /** Takes what is due, as far as it can; `false` when the slice was over before it had all up to the position `goal`. */
  deliver(slice: TimeSlice, goal: number): boolean
  /** It kept step with others up to the position, and goes on by itself. */
  leftLockstep(position: number): void
}

/** One consumer's place in one channel. */
export class ChannelCursor implements Indexed, GroupMembership {
  index = -1
  readonly channel: Channel
  readonly consumer: Consumer
  /** The consumer is given nothing of this channel at or before this position, whatever its cursor says. */
  after = -1
  /** The position of the event that was last found to be the first one after the cursor. */
  due = 0
  /** Whether it keeps step with others. */
  isInLockstep = false

  constructor(channel: Channel, consumer: Consumer) {
    this.channel = channel
    this.consumer = consumer
  }

  /** Goes on by itself, where it keeps step. */
  part(): void {
    if (this.isInLockstep) this.channel.leaveLockstep(this)
  }
}

/** A named channel: its log, and who follows it. */
export class Channel {
  readonly name: string
  readonly log: ReplayLog
  /** The consumers that each stand at a place of their own, and those that keep step: made when the first does. */
  readonly alone = new SwapList<ChannelCursor>()
  #lockstep: LockstepGroup<ChannelCursor> | null = null
  /** Ends the id of each of its events. */
  readonly idSuffix: string
  /** How often another life of its log began. */
  restarts = 0
  /** How many subscriptions are about to begin: it is not forgotten before they have. */
  pins = 0
  /** The floor of its log where it was raised by a loss upstream, which is no fault of a consumer. */
  gap = -1
  /** Whether the pump has it in its queue. */
  isQueued = false
  /** When it was last published to or last followed, in monotonic ms. */
  usedAt: number

  constructor(name: string, log: ReplayLog, now: number) {
    this.name = name
    this.log = log
    this.idSuffix = `/${encodeURIComponent(name)}`
    this.usedAt = now
  }

  /** How many follow it. */
  get size(): number {
    return this.alone.size + (this.#lockstep?.size ?? 0)
  }

  add(member: ChannelCursor): void {
    this.alone.add(member)
  }

  remove(member: ChannelCursor): void {
    if (member.isInLockstep) this.#lockstep?.remove(member)
    else this.alone.remove(member)
    member.isInLockstep = false
  }

  /** Lets a member that has all that there is keep step with the others who do, unless they are about to be given more. */
  joinLockstep(member: ChannelCursor, socket: Socket, directWriter: DirectWriter): void {
    const cohort = (this.#lockstep ??= new LockstepGroup())
    const { end } = this.log
    if (!cohort.admits(end)) return
    this.alone.remove(member)
    cohort.add(member, socket, directWriter, end)
    member.isInLockstep = true
  }

  /** Up to where those who keep step with a member, and it, were given everything. */
  positionOf(member: ChannelCursor): number {
    return this.#lockstep?.positionOf(member) ?? 0
  }

  /** Lets a member that keeps step go on by itself. */
  readonly leaveLockstep = (member: ChannelCursor): void => {
    const position = this.positionOf(member)
    this.remove(member)
    this.add(member)
    member.consumer.leftLockstep(position)
  }

  /** Gives those who keep step what they have not had, up to the position `goal`; `false` when the slice was over before. */
  sweep(slice: TimeSlice, goal: number, counters: { delivered: number }): boolean {
    return this.#lockstep?.sweep(this.log, goal, slice, counters, this.leaveLockstep) ?? true
  }

  /** Another life of its log begins. */
  restart(): void {
    this.restarts++
    this.log.clear()
    this.gap = -1
    this.#lockstep?.disband(this.leaveLockstep)
    for (const { consumer } of this.alone.items) consumer.restart()
  }
}
