import type { Socket } from 'node:net'
import type { Slice } from '../basics/slice.ts'
import { SwapList, type Slotted } from '../basics/swap-list.ts'
import type { Company } from '../gzip/gzip-body.ts'
import type { ReplayLog } from '../log/replay-log.ts'
import { Cohort, type Taker } from './cohort.ts'

/** What follows channels: it is given what it has not had yet. */
export interface Follower {
  /** Where it stands belongs to a life of the hub that is over: it is told so before anything else. */
  restart(): void
  /** Everything at or before it was dealt with. */
  readonly position: number
  /** Takes what is due, as far as it can; `false` when the slice was over before it had all up to the position `goal`. */
  deliver(slice: Slice, goal: number): boolean
  /** It kept step with others up to the position, and goes on by itself. */
  fellOut(position: number): void
}

/** One follower's place in one channel. */
export class Member implements Slotted, Company {
  slot = -1
  readonly channel: Channel
  readonly follower: Follower
  /** The follower is given nothing of this channel at or before this position, whatever its cursor says. */
  after = -1
  /** The position of the event that was last found to be the first one after the cursor. */
  due = 0
  /** Whether it keeps step with others. */
  isInStep = false

  constructor(channel: Channel, follower: Follower) {
    this.channel = channel
    this.follower = follower
  }

  /** Goes on by itself, where it keeps step. */
  part(): void {
    if (this.isInStep) this.channel.fallOut(this)
  }
}

/** A named channel: its log, and who follows it. */
export class Channel {
  readonly name: string
  readonly log: ReplayLog
  /** The followers that each stand at a place of their own, and those that keep step: made when the first does. */
  readonly alone = new SwapList<Member>()
  #cohort: Cohort<Member> | null = null
  /** Ends the id of each of its events. */
  readonly idSuffix: string
  /** How often another life of its log began. */
  restarts = 0
  /** How many subscriptions are about to begin: it is not forgotten before they have. */
  pins = 0
  /** The floor of its log where it was raised by a loss upstream, which is no fault of a follower. */
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
    return this.alone.size + (this.#cohort?.size ?? 0)
  }

  add(member: Member): void {
    this.alone.add(member)
  }

  remove(member: Member): void {
    if (member.isInStep) this.#cohort?.remove(member)
    else this.alone.remove(member)
    member.isInStep = false
  }

  /** Lets a member that has all that there is keep step with the others who do, unless they are about to be given more. */
  keepStep(member: Member, socket: Socket, taker: Taker): void {
    const cohort = (this.#cohort ??= new Cohort())
    const { end } = this.log
    if (!cohort.admits(end)) return
    this.alone.remove(member)
    cohort.add(member, socket, taker, end)
    member.isInStep = true
  }

  /** Up to where those who keep step with a member, and it, were given everything. */
  positionOf(member: Member): number {
    return this.#cohort?.positionOf(member) ?? 0
  }

  /** Lets a member that keeps step go on by itself. */
  readonly fallOut = (member: Member): void => {
    const position = this.positionOf(member)
    this.remove(member)
    this.add(member)
    member.follower.fellOut(position)
  }

  /** Gives those who keep step what they have not had, up to the position `goal`; `false` when the slice was over before. */
  sweep(slice: Slice, goal: number, counters: { delivered: number }): boolean {
    return this.#cohort?.sweep(this.log, goal, slice, counters, this.fallOut) ?? true
  }

  /** Another life of its log begins. */
  restart(): void {
    this.restarts++
    this.log.clear()
    this.gap = -1
    this.#cohort?.disband(this.fallOut)
    for (const { follower } of this.alone.items) follower.restart()
  }
}
