import type { Acquired, BackplaneEvent, BackplaneLog, Refused } from '../backplanes/backplane.ts'
import type { OnError } from '../basics/on-error.ts'
import type { ResumePoint } from '../delivery/cursor.ts'
import type { DeliveryEngine } from '../delivery/delivery-engine.ts'
import type { EventPosition } from '../event/event-id.ts'
import type { LogHead } from '../event/timeline.ts'
import type { ChannelConsumers } from './channel-refusals.ts'
import type { HubLogs } from './hub-logs.ts'
import { Replica } from './replica.ts'
import type { ReplicaChannel } from './replica-channel.ts'

/** The logs of a hub whose backplane has a log that processes share. They are a {@link Replica} of it. */
export class ReplicatedLogs implements HubLogs {
  readonly countsOwners = true
  readonly #log: BackplaneLog
  readonly #engine: DeliveryEngine
  readonly #replica: Replica
  /** The newest event that this process has stored. */
  #stored: EventPosition = { epoch: '', position: 0 }

  constructor(log: BackplaneLog, engine: DeliveryEngine, consumers: ChannelConsumers, onError: OnError) {
    this.#log = log
    this.#engine = engine
    this.#replica = new Replica(log, engine, consumers, onError)
  }

  get isHealthy(): boolean {
    return this.#replica.isLive
  }

  prepare(names: readonly string[], from: ResumePoint): Promise<LogHead | undefined> | undefined {
    const copies = names.map((name) => this.#replica.copyOf(name))
    for (const { channel } of copies) channel.pins++
    const ahead = this.#aheadOfHere(from.position)
    const isBehind = from.isFirst && this.#isStoredAhead()
    if (ahead === undefined && !isBehind && copies.every(({ isLive }) => isLive)) return undefined
    const { reader } = this.#replica
    // Requested now, so that the read precedes every event that the caller publishes next.
    const head = from.isFirst ? reader.head() : undefined
    return Promise.race([this.#ready(copies, ahead, head), reader.deadline()])
  }

  release(names: readonly string[]): void {
    for (const name of names) {
      const copy = this.#replica.find(name)
      if (copy === undefined) continue
      copy.channel.pins--
      copy.channel.usedAt = performance.now()
    }
  }

  async caughtUp(): Promise<void> {
    await Promise.race([this.#catchUp([]), this.#replica.reader.deadline()])
  }

  stored(epoch: string, position: number): void {
    const isSameEpoch = epoch === this.#stored.epoch
    this.#stored = { epoch, position: isSameEpoch ? Math.max(this.#stored.position, position) : position }
  }

  acquireOwner(owner: string, max: number): Promise<Acquired> {
    return this.#log.acquire(owner, max)
  }

  releaseOwner(owner: string): void {
    this.#log.release(owner)
  }

  event(epoch: string, channel: string, event: BackplaneEvent): void {
    this.#replica.event(epoch, channel, event)
  }

  reached(token: string): void {
    this.#replica.reader.reached(token)
  }

  interrupted(): void {
    this.#replica.interrupted()
  }

  resumed(refused: Refused): void {
    this.#replica.resumed(refused)
  }

  close(): void {
    this.#replica.close()
  }

  /** Whether this process has stored an event that has not arrived here yet. */
  #isStoredAhead(): boolean {
    const { epoch, newest } = this.#engine.timeline
    return this.#stored.epoch === epoch && this.#stored.position > newest
  }

  /** The position in a client's id, if it is ahead of this process: later in this epoch, or in an epoch that is not known to be over. */
  #aheadOfHere(position: EventPosition | undefined): EventPosition | undefined {
    const { epoch, newest } = this.#engine.timeline
    if (position === undefined) return undefined
    const isAhead = position.epoch === epoch ? position.position > newest : !this.#replica.isPast(position.epoch)
    return isAhead ? position : undefined
  }

  /** Resolves with the head when the copies are live and have everything up to the head, or up to the position `ahead`. */
  async #ready(
    copies: readonly ReplicaChannel[],
    ahead: EventPosition | undefined,
    requestedHead: Promise<LogHead> | undefined,
  ): Promise<LogHead | undefined> {
    const { timeline } = this.#engine
    const head = await requestedHead
    await Promise.all(copies.map(({ live }) => live))
    if (head !== undefined) this.#replica.noticeEpoch(head)
    await this.#allLive(copies)
    const isBehind = head === undefined ? ahead !== undefined : head.epoch === timeline.epoch && head.newest > timeline.newest
    if (!isBehind) return head
    await this.#catchUp(copies)
    // The log is in another epoch than the client's id. Therefore the epoch of the id is over.
    if (ahead !== undefined && ahead.epoch !== timeline.epoch) this.#replica.setPast(ahead.epoch)
    return head
  }

  /** Resolves when everything that was published before this call is in the copies. */
  async #catchUp(copies: readonly ReplicaChannel[]): Promise<void> {
    const { timeline } = this.#engine
    const head = await this.#replica.reader.barrier()
    this.#replica.noticeEpoch(head)
    await this.#allLive(copies)
    if (head.epoch === timeline.epoch) timeline.moveTo(head.newest)
  }

  /** Resolves when the replica and the copies are live. Rejects if a channel is refused meanwhile. */
  async #allLive(copies: readonly ReplicaChannel[]): Promise<void> {
    while (!this.#replica.isLive || !copies.every(({ isLive }) => isLive)) {
      if (this.#replica.isLive) await Promise.all(copies.filter(({ isLive }) => !isLive).map(({ live }) => live))
      else await this.#replica.whenLive()
    }
  }
}
