import type { BackplaneEvent } from '../backplanes/backplane.ts'
import type { Channel } from '../delivery/channel.ts'

/** A channel whose log is a copy of what a backplane keeps of it. */
export class Copy {
  readonly channel: Channel
  /** Everything of the channel up to this position is known. */
  seen = 0
  /** Whether the backplane is being asked to tell of its events, and whether it does. */
  isAsking = true
  isWatched = false
  /** When its log was read last, or is being read, for the first time: in which run of the replica. */
  loadedIn = -1
  /** Whether its log was read: what is told of it from now on follows. */
  isLive = false
  /** What was told of it before that. */
  held: BackplaneEvent[] = []
  /** Settles when it is live for the first time. */
  readonly live: Promise<void>
  #resolve: () => void = () => {}

  constructor(channel: Channel) {
    this.channel = channel
    this.live = new Promise((resolve) => (this.#resolve = resolve))
  }

  setLive(): void {
    this.isLive = true
    this.#resolve()
  }
}
