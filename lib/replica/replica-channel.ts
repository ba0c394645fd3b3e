import type { BackplaneEvent } from '../backplanes/backplane.ts'
import type { Channel } from '../delivery/channel.ts'

/** A channel whose log is a copy of what a backplane keeps of it. */
export class ReplicaChannel {
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
  /** Whether the backplane has refused the channel: it is asked again when somebody comes for it. */
  isRefused = false
  #live: Promise<void>
  #settle: { readonly resolve: () => void; readonly reject: (error: Error) => void } | null = null

  constructor(channel: Channel) {
    this.channel = channel
    this.#live = this.#makeLive()
  }

  /** Resolves when it is live, and rejects when it is refused. */
  get live(): Promise<void> {
    return this.#live
  }

  /** Is asked for again, after it was refused. */
  askAgain(): void {
    this.isRefused = false
    this.isAsking = true
    this.#live = this.#makeLive()
  }

  /** Its log has to be read anew. */
  setNotLive(): void {
    this.isLive = false
    if (this.#settle === null) this.#live = this.#makeLive()
  }

  /** Nothing more is told of it. Its log stays as it is: what follows in it is read when it is asked for again. */
  refuse(error: Error): void {
    this.setNotLive()
    this.#settle?.reject(error)
    this.#settle = null
    this.isRefused = true
    this.isAsking = this.isWatched = false
    this.loadedIn = -1
    this.held = []
  }

  setLive(): void {
    this.isLive = true
    this.#settle?.resolve()
    this.#settle = null
  }

  #makeLive(): Promise<void> {
    const live = new Promise<void>((resolve, reject) => (this.#settle = { resolve, reject }))
    // Perhaps nobody waits for it.
    live.catch(() => {})
    return live
  }
}
