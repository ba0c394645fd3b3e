import type { BackplaneEvent, ChannelHistory } from '../backplanes/backplane.ts'
import { type Deferred, deferred } from '../basics/promises.ts'
import type { Channel } from '../delivery/channel.ts'
import type { DeliveryEngine } from '../delivery/delivery-engine.ts'

/**
 * The state of a channel's copy:
 * - `'requested'`: the backplane is being asked to watch the channel.
 * - `'unwatched'`: the connection broke before the answer. The channel is watched once the connection is restored.
 * - `'watched'`: the backplane reports the channel's events, and its log has to be read.
 * - `'live'`: the copy is complete, and events that follow are appended.
 * - `'refused'`: the backplane refuses the channel. It is requested again for the next client.
 */
type CopyState = 'requested' | 'unwatched' | 'watched' | 'live' | 'refused'

/** A channel whose log is a copy of the one that a backplane keeps. */
export class ReplicaChannel {
  readonly channel: Channel
  state: CopyState = 'requested'
  /** Every event of the channel up to this position is known. */
  seen = 0
  /** The number of the replica's attempt in which the log was read for the first time, or is being read. */
  attempt = -1
  /** Events that arrived before the log was read. */
  held: BackplaneEvent[] = []
  readonly #engine: DeliveryEngine
  #live: Deferred<void> = makeLive()

  constructor(channel: Channel, engine: DeliveryEngine) {
    this.channel = channel
    this.#engine = engine
  }

  /** Resolves when the copy is live, and rejects when the channel is refused. */
  get live(): Promise<void> {
    return this.#live.promise
  }

  get isLive(): boolean {
    return this.state === 'live'
  }

  get isWatched(): boolean {
    return this.state === 'watched' || this.state === 'live'
  }

  /** Requests the channel again after it was refused. */
  requestAgain(): void {
    this.state = 'requested'
    this.#live = makeLive()
  }

  /** Marks a live copy as one whose log has to be read again. */
  setNotLive(): void {
    if (this.state !== 'live') return
    this.state = 'watched'
    this.#live = makeLive()
  }

  /**
   * Marks the channel as refused. Its log stays. If the channel is requested again, the log continues with the events that are read then.
   */
  refuse(error: Error): void {
    this.setNotLive()
    this.state = 'refused'
    this.attempt = -1
    this.held = []
    this.#live.reject(error)
  }

  /** Whether an event can be appended or ignored. If not, the previous event is missing, or a subscriber may be past its position. */
  follows({ position, prev }: BackplaneEvent, delivered: number): boolean {
    return position <= this.seen || (prev <= this.seen && position > delivered)
  }

  /** Appends an event that {@link follows}. Ignores one that is known already. */
  append(event: BackplaneEvent): void {
    if (event.position <= this.seen) return
    this.seen = event.position
    this.#engine.append(this.channel, event)
  }

  /**
   * Appends what was read of the channel's log, and makes the copy live.
   *
   * @param newest the position at which the log was read.
   * @param delivered the newest position that any subscriber may have passed.
   */
  fill({ floor, events }: ChannelHistory, newest: number, delivered: number): void {
    const { channel, seen, isLive } = this
    const { channels, pump } = this.#engine
    const isLost = !isLive || floor > seen
    const earliest = isLost ? floor : (events[0]?.position ?? Infinity)
    this.seen = newest
    if (isLive && earliest <= delivered) {
      // Subscribers of several channels may be past the missing events, so they can only be reset.
      channels.lose(channel, newest)
    } else {
      if (isLost) channels.lose(channel, floor)
      for (const event of events) {
        // After a refusal, the log may have the event already.
        if (event.position > channel.log.lastPosition) this.#engine.append(channel, event, Math.max(0, (newest - event.position) / 1_000))
      }
    }
    if (channel.consumerCount > 0) pump.published(channel)
    this.state = 'live'
    this.#live.resolve()
  }
}

function makeLive(): Deferred<void> {
  const live = deferred<void>()
  // It may reject while nobody waits for it.
  live.promise.catch(() => {})
  return live
}
