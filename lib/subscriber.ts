import { type Channel, type Follower, Member } from './channel.ts'
import type { HubEvent } from './channel-types.ts'
import type { ControlEvents, ResetReason } from './control-events.ts'
import { SseError } from './errors.ts'
import type { EventReader } from './event-reader.ts'
import type { OnError } from './guard.ts'
import type { Chunk, LogPage } from './log-page.ts'
import type { Slice } from './slice.ts'

/** More than this is not gathered into one write. */
const MAX_GATHERED_BYTES = 65_536

/** Where a subscriber's bytes go. */
export interface Sink {
  /** Whether it takes nothing now. */
  readonly full: boolean
  /** Takes bytes that others are given too. */
  write(chunk: Buffer): void
  cork(): void
  uncork(): void
}

/** What the subscribers of a hub share. */
export interface Delivery {
  /** The one order of the hub's events. */
  readonly timeline: { readonly newest: number }
  readonly control: ControlEvents
  readonly reader: EventReader
  readonly onError: OnError
}

const NOTHING = 0
const EVENT = 1
const LOSS = 2

/** Where and how a subscriber begins. */
export interface Start {
  /** The cursor; -1 where the client's place is not known any more. */
  readonly position: number
  /** Why the client is reset, should it have to be before the replay is over. */
  readonly reason: ResetReason
  /** On a first connect: each channel starts at its n-th last event. */
  readonly rewind: number
  readonly keepAliveMs: number | false
  readonly filter: ((event: HubEvent) => boolean) | undefined
}

/**
 * A cursor over the logs of one or several channels, and the sink that is given what follows it. Live delivery,
 * catching up and replay are the same loop: whatever is after the cursor, in order of position, as far as the sink
 * takes it.
 */
export class Subscriber implements Follower {
  readonly names: readonly string[]
  readonly members: readonly Member[]
  isActive = true
  /** Whether the pump has it among those that take bytes again. */
  isQueued = false
  readonly #sink: Sink
  readonly #delivery: Delivery
  readonly #filter: ((event: HubEvent) => boolean) | undefined
  readonly #keepAliveMs: number | false
  /** Everything at or before it was sent, found unwanted by the filter, or given up with a reset. */
  #position: number
  /** The newest position that the client has as an id. */
  #sent = -1
  #reason: ResetReason
  /** `stream-open` follows what was published up to here; -1 once it is sent. */
  #openAt: number
  #replayed = 0
  /** What the filter has skipped since the client's id was last moved, and how much it may before the id is moved. */
  #skippedEvents = 0
  #skippedBytes = 0
  readonly #maxSkippedEvents: number
  readonly #maxSkippedBytes: number
  /** The run that was found to come next: its channel, its first event, and the position up to which it may go. */
  #next: Member | null = null
  #seq = 0
  #until = 0
  #isDelivering = false
  /** The wanted events that were looked at and not written yet: a part of a page. */
  #page: LogPage | null = null
  #from = 0
  #to = 0
  /** Where the subscription ends, and what is called when it got there. */
  #finishAt = Infinity
  #onFinished: (() => void) | null = null

  constructor(channels: readonly Channel[], sink: Sink, delivery: Delivery, start: Start) {
    this.names = channels.map((channel) => channel.name)
    this.members = channels.map((channel) => new Member(channel, this))
    this.#sink = sink
    this.#delivery = delivery
    this.#filter = start.filter
    this.#keepAliveMs = start.keepAliveMs
    this.#position = start.position
    this.#reason = start.reason
    this.#openAt = delivery.timeline.newest
    // A client that is not told moves out of the log sooner than it hears of it: a quarter of the log is early enough.
    const bounds = channels.map((channel) => channel.log.bounds)
    this.#maxSkippedEvents = Math.max(1, Math.min(...bounds.map(({ maxEvents }) => maxEvents / 4)))
    this.#maxSkippedBytes = Math.max(1, Math.min(...bounds.map(({ maxBytes }) => maxBytes / 4)))
    if (start.rewind > 0) this.#rewind(start.rewind)
  }

  /**
   * Gives the sink what follows the cursor until it is full, nothing follows or the slice is over.
   *
   * @returns `false` when the slice was over before everything up to the position `goal` was dealt with.
   */
  deliver(slice: Slice | null, goal: number): boolean {
    if (this.#isDelivering) return true
    this.#isDelivering = true
    const sink = this.#sink
    let gathered = 0
    let isOver = false
    while (this.isActive && !sink.full && !isOver) {
      const limit = this.#openAt < 0 ? this.#finishAt : this.#openAt
      const next = this.#findNext(limit)
      if (next === LOSS) {
        this.#reset()
      } else if (this.#skippedEvents >= this.#maxSkippedEvents || this.#skippedBytes >= this.#maxSkippedBytes) {
        this.#sendPosition()
      } else if (next === EVENT) {
        // Runs of several channels that interleave, and the stretches that a filter leaves, go out in one write.
        if (gathered === 0 && (this.#until < limit || this.#filter !== undefined)) sink.cork()
        gathered += this.#filter === undefined ? this.#sendRun() : this.#sendWanted(this.#filter, slice)
        if (gathered >= MAX_GATHERED_BYTES) {
          sink.uncork()
          gathered = 0
        }
        isOver = slice !== null && slice.spend()
      } else if (this.#openAt >= 0) {
        this.#open()
      } else {
        break
      }
    }
    sink.uncork()
    this.#isDelivering = false
    if (this.#onFinished !== null && this.isActive && this.#hasFinished()) this.#onFinished()
    return !isOver || this.#position >= goal
  }

  /** Writes what is due, as far as the sink takes it, also when it is called from within a filter. */
  flush(): void {
    this.#flushStretch()
    this.deliver(null, Infinity)
  }

  /** Goes on to the hub's newest position and no further: `true` when it is there, else `done` is called when it is. */
  finish(done: () => void): boolean {
    this.#finishAt = this.#delivery.timeline.newest
    this.deliver(null, Infinity)
    if (!this.#isDelivering && this.#hasFinished()) return true
    this.#onFinished = done
    return false
  }

  /** The newest position that the client has as an id. */
  get sent(): number {
    return this.#sent
  }

  /** Moves the client's id to the hub's newest position; `false` where it is there, or has events due before it. */
  keepAlive(): boolean {
    const { newest } = this.#delivery.timeline
    if (newest <= this.#sent || this.#openAt >= 0 || this.#findNext(Infinity) !== NOTHING) return false
    this.#position = newest
    this.#sendPosition()
    return true
  }

  #hasFinished(): boolean {
    return this.#openAt < 0 && this.#findNext(this.#finishAt) === NOTHING
  }

  /**
   * Looks for the first event after the cursor and not after `limit`. An EVENT is described by the fields `#next`,
   * `#seq` and `#until`.
   */
  #findNext(limit: number): typeof NOTHING | typeof EVENT | typeof LOSS {
    const { members } = this
    const position = this.#position
    if (members.length === 1) {
      const member = members[0] as Member
      const { log } = member.channel
      const from = position > member.after ? position : member.after
      if (log.floor > from) return LOSS
      if (log.last <= from) return NOTHING
      const seq = log.seqAfter(from)
      if (limit !== Infinity && log.positionOf(seq) > limit) return NOTHING
      this.#next = member
      this.#seq = seq
      this.#until = limit
      return EVENT
    }
    let found = NOTHING as typeof NOTHING | typeof EVENT
    let earliest = Infinity
    let second = Infinity
    for (const member of members) {
      const { log } = member.channel
      const from = position > member.after ? position : member.after
      if (log.floor > from) return LOSS
      if (log.last <= from) continue
      const seq = log.seqAfter(from)
      const at = log.positionOf(seq)
      if (at < earliest) {
        second = earliest
        earliest = at
        this.#next = member
        this.#seq = seq
        found = EVENT
      } else if (at < second) {
        second = at
      }
    }
    if (earliest > limit) return NOTHING
    this.#until = Math.min(limit, second - 1)
    return found
  }

  /** Sends the run of events that was found: as far as its page goes and no other channel comes before. */
  #sendRun(): number {
    const chunk = (this.#next as Member).channel.log.chunk(this.#seq, this.#until)
    this.#position = chunk.position
    this.#write(chunk)
    return chunk.bytes.length
  }

  /** The same for a filtered subscriber: the wanted stretches of the run, until the sink is full or the slice over. */
  #sendWanted(filter: (event: HubEvent) => boolean, slice: Slice | null): number {
    const { channel } = this.#next as Member
    const page = channel.log.pageOf(this.#seq)
    const end = page.lastPosition <= this.#until ? page.count : page.slotAfter(this.#until)
    let sent = 0
    this.#page = page
    this.#from = this.#to = this.#seq - page.firstSeq
    while (this.#to < end && !this.#sink.full) {
      const slot = this.#to
      const isWanted = this.#isWanted(filter, channel, page, slot)
      // The filter may have ended the subscription, which wrote the stretch before this event.
      if (!this.isActive) break
      this.#position = page.positions[slot] as number
      if (!isWanted) {
        sent += this.#flushStretch()
        this.#from = slot + 1
        this.#skippedEvents++
        this.#skippedBytes += page.sizeOf(slot)
      }
      this.#to = slot + 1
      if (slice !== null && slice.spend()) break
    }
    sent += this.#flushStretch()
    this.#page = null
    return sent
  }

  #flushStretch(): number {
    if (this.#page === null || this.#from === this.#to || !this.isActive) return 0
    const chunk = this.#page.chunk(this.#from, this.#to)
    this.#from = this.#to
    this.#write(chunk)
    return chunk.bytes.length
  }

  #isWanted(filter: (event: HubEvent) => boolean, channel: Channel, page: LogPage, slot: number): boolean {
    const { reader, onError } = this.#delivery
    const event = reader.read(channel, page, slot)
    if (event === null) return false
    try {
      const answer: unknown = filter(event)
      if (!isThenable(answer)) return Boolean(answer)
      answer.then(undefined, (error: unknown) => onError(error, { where: 'filter' }))
      throw new SseError('SSE_INVALID_FILTER', 'filter must return a boolean, not a promise: do what is asynchronous before subscribing')
    } catch (error) {
      onError(error, { where: 'filter' })
      return false
    }
  }

  /**
   * Tells the client which channels lost events. While others are complete its id stays where it is, so that a client
   * that is cut off now loses nothing of them; of the lost ones nothing up to the newest position is sent.
   */
  #reset(): void {
    const { newest } = this.#delivery.timeline
    const lost: string[] = []
    for (const member of this.members) {
      if (member.channel.log.floor <= Math.max(this.#position, member.after)) continue
      member.after = newest
      lost.push(member.channel.name)
    }
    if (lost.length === this.members.length) this.#position = newest
    this.#sent = this.#position
    this.#skippedEvents = this.#skippedBytes = 0
    this.#sink.write(this.#delivery.control.reset(this.#position, lost, this.#reason))
  }

  #open(): void {
    this.#position = Math.max(this.#position, this.#openAt)
    this.#sent = this.#position
    this.#openAt = -1
    this.#reason = 'slow'
    this.#sink.write(this.#delivery.control.open(this.#position, this.names, this.#replayed, this.#keepAliveMs))
  }

  #write(chunk: Chunk): void {
    this.#sent = chunk.position
    this.#skippedEvents = this.#skippedBytes = 0
    if (this.#openAt >= 0) this.#replayed += chunk.count
    this.#sink.write(chunk.bytes)
  }

  #sendPosition(): void {
    this.#sent = this.#position
    this.#skippedEvents = this.#skippedBytes = 0
    this.#sink.write(this.#delivery.control.position(this.#position))
  }

  #rewind(n: number): void {
    for (const member of this.members) member.after = member.channel.log.positionBefore(n)
    this.#position = Math.min(...this.members.map((member) => member.after))
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}
