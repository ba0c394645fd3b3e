import type { Slice } from '../basics/slice.ts'
import { SwapList, type Slotted } from '../basics/swap-list.ts'
import type { ReplayLog } from '../log/replay-log.ts'

/** What follows channels: it is given what it has not had yet. */
export interface Follower {
  /** Where it stands belongs to a life of the hub that is over: it is told so before anything else. */
  restart(): void
  /** Takes what is due, as far as it can; `false` when the slice was over before it had all up to the position `goal`. */
  deliver(slice: Slice, goal: number): boolean
}

/** One follower's place in one channel. */
export class Member implements Slotted {
  slot = -1
  readonly channel: Channel
  readonly follower: Follower
  /** The follower is given nothing of this channel at or before this position, whatever its cursor says. */
  after = -1

  constructor(channel: Channel, follower: Follower) {
    this.channel = channel
    this.follower = follower
  }
}

/** A named channel: its log, and who follows it. */
export class Channel {
  readonly name: string
  readonly log: ReplayLog
  readonly members = new SwapList<Member>()
  /** Ends the id of each of its events. */
  readonly idSuffix: string
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
}
