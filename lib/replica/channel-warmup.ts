import { type EventPosition, parseId } from '../event/event-id.ts'
import type { LogHead, Timeline } from '../event/timeline.ts'
import type { ReplicaChannel } from './replica-channel.ts'
import type { Replica } from './replica.ts'

/** Makes ready what somebody needs who is about to follow channels: their copies, up to the moment or the place where that begins. */
export class ChannelWarmup {
  readonly #replica: Replica
  readonly #timeline: Timeline
  /** In which life of the log this process has stored its last event, and where. */
  #storedEpoch = ''
  #storedNewest = 0

  constructor(replica: Replica, timeline: Timeline) {
    this.#replica = replica
    this.#timeline = timeline
  }

  /**
   * Makes channels ready for somebody who comes with an id, and keeps them until {@link release}. `undefined`: they are.
   *
   * @returns the moment when it was called, at which whoever has no id begins; `undefined` for who has one.
   * @throws {SseError} (as a rejection) `SSE_BACKPLANE_UNAVAILABLE` when it takes longer than the backplane may.
   */
  prepare(names: readonly string[], lastEventId: string): Promise<LogHead | undefined> | undefined {
    const copies = names.map((name) => this.#replica.copyOf(name))
    for (const { channel } of copies) channel.pins++
    const { epoch, newest } = this.#timeline
    const isFirst = lastEventId === ''
    const ahead = this.#placeAhead(lastEventId)
    // What was stored here, and was not told yet, was published before.
    const isBehind = isFirst && this.#storedEpoch === epoch && this.#storedNewest > newest
    if (ahead === undefined && !isBehind && copies.every(({ isLive }) => isLive)) return undefined
    // Asked for now: it comes before whatever the caller publishes next.
    const { reader } = this.#replica
    const now = isFirst ? reader.now() : undefined
    return Promise.race([this.#ready(copies, ahead, now), reader.deadline()])
  }

  /**
   * Settles when everything that any process published before this call is in the copies.
   *
   * @throws {SseError} (as a rejection) `SSE_BACKPLANE_UNAVAILABLE` when that takes longer than the backplane may.
   */
  async caughtUp(): Promise<void> {
    const { reader } = this.#replica
    await Promise.race([this.#tellAll([]), reader.deadline()])
  }

  /** What was prepared has begun, or never will. */
  release(names: readonly string[]): void {
    for (const name of names) {
      const copy = this.#replica.find(name)
      if (copy === undefined) continue
      copy.channel.pins--
      copy.channel.usedAt = performance.now()
    }
  }

  /** An event of this process was stored. */
  published(epoch: string, position: number): void {
    this.#storedNewest = epoch === this.#storedEpoch ? Math.max(this.#storedNewest, position) : position
    this.#storedEpoch = epoch
  }

  /** The place of an id of which this process has not heard yet: another one is ahead of it, in this life of the log or by one. */
  #placeAhead(lastEventId: string): EventPosition | undefined {
    const { epoch, newest } = this.#timeline
    const place = parseId(lastEventId)
    if (place === undefined) return undefined
    return (place.epoch === epoch ? place.position > newest : !this.#replica.pastEpochs.has(place.epoch)) ? place : undefined
  }

  /** Settles when the copies are live, and what was published before the moment `now`, or up to a place `ahead`, is in them. */
  async #ready(
    copies: readonly ReplicaChannel[],
    ahead: EventPosition | undefined,
    asked: Promise<LogHead> | undefined,
  ): Promise<LogHead | undefined> {
    const timeline = this.#timeline
    const replica = this.#replica
    const now = await asked
    await Promise.all(copies.map(({ live }) => live))
    if (now !== undefined) replica.noticeLife(now)
    while (!this.#areReady(copies)) await this.#readier(copies)
    const isAhead = now === undefined ? ahead !== undefined : now.epoch === timeline.epoch && now.newest > timeline.newest
    if (!isAhead) return now
    // It came before what was read of the copies was: another process is ahead of this one.
    await this.#tellAll(copies)
    if (ahead !== undefined && ahead.epoch !== timeline.epoch) replica.pastEpochs.add(ahead.epoch)
    return now
  }

  /** Settles when everything that was published before this call is in the copies. */
  async #tellAll(copies: readonly ReplicaChannel[]): Promise<void> {
    const told = await this.#replica.reader.told()
    this.#replica.noticeLife(told)
    while (!this.#areReady(copies)) await this.#readier(copies)
    if (told.epoch === this.#timeline.epoch) this.#timeline.moveTo(told.newest)
  }

  #areReady(copies: readonly ReplicaChannel[]): boolean {
    return !this.#replica.isHolding && copies.every(({ isLive }) => isLive)
  }

  /** Settles when what keeps the copies from being ready may be over. Rejects where a channel was refused meanwhile. */
  async #readier(copies: readonly ReplicaChannel[]): Promise<void> {
    if (this.#replica.isHolding) return this.#replica.goingOn()
    await Promise.all(copies.filter(({ isLive }) => !isLive).map(({ live }) => live))
  }
}
