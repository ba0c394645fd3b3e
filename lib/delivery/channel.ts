import type { Slice } from '../basics/slice.ts'
import { SwapList, type Slotted } from '../basics/swap-list.ts'
import type { ReplayLog } from '../log/replay-log.ts'

/** What follows channels: it is given what it has not had yet. */
export interface Follower {
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
  /** Ends the `id:` line of each of its events. */
  readonly idSuffix: string
  /** Whether the pump has it in its queue. */
  isQueued = false
  /** When it was last published to or last followed, in monotonic ms. */
  usedAt: number

  constructor(name: string, log: ReplayLog, now: number) {
    this.name = name
    this.log = log
    this.idSuffix = `/${encodeURIComponent(name)}\n`
    this.usedAt = now
  }
}
