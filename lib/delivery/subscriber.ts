import type { OnError } from '../basics/on-error.ts'
import { type TimeSlice, unitsFor } from '../basics/time-slice.ts'
import type { Chunk, LogPage } from '../log/log-page.ts'
import { type EventFilter, isWanted } from '../stream/event-filter.ts'
import { MAX_WRITE_BYTES } from '../stream/output.ts'
import type { SubscribeSettings, TakeSnapshot } from '../stream/subscription.ts'
import type { Channel, ChannelCursor } from './channel.ts'
import type { DirectWriter } from './lockstep-group.ts'
import type { ResetReason } from './control-events.ts'
import { Cursor, EVENT, LOSS, NOTHING } from './cursor.ts'
import type { EventReader } from './event-reader.ts'
import type { Sink } from './sink.ts'
import type { SnapshotCall, Snapshots } from './snapshots.ts'
import type { Start } from './start.ts'

/** What the subscribers of a hub share. */
export interface Delivery {
  /** The one order of the hub's events. */
  readonly timeline: { readonly newest: number }
  readonly reader: EventReader
  readonly snapshots: Snapshots
  readonly onError: OnError
  readonly counters: { delivered: number; resets: number }
}

/**
 * A cursor over the logs of one or several channels, and the sink that is given what follows it. Live delivery,
 * catching up and replay are the same loop: whatever is after the cursor, in order of position, as far as the sink
 * takes it.
 */
export class Subscriber extends Cursor {
  /** Whether the pump has it among those that take bytes again. */
  isQueued = false
  readonly #sink: Sink
  readonly #delivery: Delivery
  readonly #settings: SubscribeSettings
  /** Where its bytes go, if it may keep step with others; nothing is to be asked about any event then. */
  readonly #directWriter: DirectWriter | null
  /** The snapshot that goes out before anything else does. */
  #snapshot: SnapshotCall | null = null
  /** The newest position that the client has as an id. */
  #sent = -1
  #reason: ResetReason
  /** The sink is told that it is live when what was published up to here is dealt with; -1 once it was. */
  #openAt = 0
  #replayed = 0
  /** What the filter has skipped since the client's id was last moved, and how much it may before the id is moved. */
  #skippedEvents = 0
  #skippedBytes = 0
  readonly #maxSkippedEvents: number = 1
  readonly #maxSkippedBytes: number = 1
  #isDelivering = false
  /** The wanted events that were looked at and not given yet: a part of a page. */
  #page: LogPage | null = null
  #from = 0
  #to = 0
  /** Where the subscription ends, and what is called when it got there. */
  #finishAt = Infinity
  #onFinished: (() => void) | null = null

  constructor(channels: readonly Channel[], sink: Sink, delivery: Delivery, start: Start) {
    super(channels, start.position)
    this.#sink = sink
    this.#delivery = delivery
    const { settings } = start
    const { filter, snapshot, rewind, expiresAt } = settings
    this.#settings = settings
    this.#reason = start.reason
    const isPlain = channels.length === 1 && filter === undefined && expiresAt === Infinity
    this.#directWriter = isPlain && !channels[0]?.log.bounds.latestPerKey ? sink.directWriter : null
    this.#openAt = delivery.timeline.newest
    if (filter !== undefined) {
      // A client that is not told moves out of the log sooner than it hears of it: a quarter of the log is early enough.
      const bounds = channels.map(({ log }) => log.bounds)
      this.#maxSkippedEvents = Math.max(1, Math.min(...bounds.map(({ maxEvents }) => maxEvents)) / 4)
      this.#maxSkippedBytes = Math.max(1, Math.min(...bounds.map(({ maxBytes }) => maxBytes)) / 4)
    }
    if (start.isFirst && snapshot !== undefined) this.giveUp(this.members, this.#ask(snapshot, this.members))
    else if (start.isFirst && rewind > 0) this.rewind(rewind)
  }

  /**
   * Gives the sink what follows the cursor until it is full, nothing follows or the slice is over.
   *
   * @returns `false` when the slice was over before everything up to the position `goal` was dealt with.
   */
  deliver(slice: TimeSlice | null, goal: number): boolean {
    if (this.#isDelivering) return true
    this.#member.part()
    this.#isDelivering = true
    const sink = this.#sink
    const { filter } = this.#settings
    if (this.isExpired) sink.endForReconnect('expired')
    let gathered = 0
    let isOver = false
    while (this.isActive && !sink.full && !isOver && (this.#snapshot === null || this.#giveSnapshot(this.#snapshot))) {
      const limit = this.#openAt < 0 ? this.#finishAt : this.#openAt
      const found = this.find(limit)
      if (found === LOSS) {
        this.#reset()
      } else if (this.#skippedEvents >= this.#maxSkippedEvents || this.#skippedBytes >= this.#maxSkippedBytes) {
        this.#giveId()
        sink.moved(this.position)
      } else if (found === EVENT) {
        // Runs of several channels that interleave, and the stretches that a filter leaves, go out in one write.
        if (gathered === 0 && (this.until < limit || filter !== undefined)) sink.cork()
        const given = filter === undefined ? this.#giveRun() : this.#giveWanted(filter, slice)
        gathered += given
        if (gathered >= MAX_WRITE_BYTES) {
          sink.uncork()
          gathered = 0
        }
        isOver = slice !== null && slice.spend(unitsFor(given))
      } else if (this.#openAt >= 0) {
        this.#open()
      } else {
        break
      }
    }
    sink.uncork()
    this.#isDelivering = false
    if (this.#onFinished !== null && this.isActive && this.#hasFinished()) this.#onFinished()
    this.#joinLockstep()
    return !isOver || this.position >= goal
  }

  /** Gives what is due, as far as the sink takes it, also when it is called from within a filter. */
  flush(): void {
    this.#flushStretch()
    this.deliver(null, Infinity)
  }

  /** Goes on to what is published now and, where it can be, no further: `true` when it is there, else `done` is called when it is. */
  finish(done: () => void, slice: TimeSlice | null = null): boolean {
    // With `latestPerKey`, a newer event at a later position may replace one that is due, so there is no fixed end.
    const mayMove = this.members.some(({ channel }) => channel.log.bounds.latestPerKey)
    this.#finishAt = mayMove ? Infinity : this.#delivery.timeline.newest
    this.deliver(slice, Infinity)
    if (!this.#isDelivering && this.#hasFinished()) return true
    this.#onFinished = done
    return false
  }

  restart(): void {
    const { newest } = this.#delivery.timeline
    this.forget()
    this.#reason = 'restarted'
    this.#sent = -1
    this.#skippedEvents = this.#skippedBytes = 0
    this.#snapshot?.waiting.delete(this)
    this.#snapshot = null
    if (this.#openAt >= 0) this.#openAt = newest
    if (this.#finishAt !== Infinity) this.#finishAt = newest
  }

  override leave(): void {
    super.leave()
    this.#snapshot?.waiting.delete(this)
  }

  /** The newest position that the client has as an id. */
  get sent(): number {
    const { channel, isInLockstep } = this.#member
    return isInLockstep ? Math.max(this.#sent, channel.positionOf(this.#member)) : this.#sent
  }

  /** Whether the access of the client has ended. */
  get isExpired(): boolean {
    const { expiresAt } = this.#settings
    return expiresAt !== Infinity && Date.now() >= expiresAt
  }

  /** Moves the client's id to the hub's newest position; `false` where it is there, or has events due before it. */
  keepAlive(): boolean {
    const { newest } = this.#delivery.timeline
    if (newest <= this.sent) return false
    this.#member.part()
    if (this.#openAt >= 0 || this.#snapshot !== null || this.find(Infinity) !== NOTHING) return false
    this.position = newest
    this.#giveId()
    this.#sink.moved(newest)
    this.#joinLockstep()
    return true
  }

  leftLockstep(position: number): void {
    this.position = Math.max(this.position, position)
    this.#sent = Math.max(this.#sent, position)
  }

  /** The one that keeps step with others, where any does. */
  get #member(): ChannelCursor {
    return this.members[0] as ChannelCursor
  }

  /** Keeps step with the others who have all that there is, where it may and does. */
  #joinLockstep(): void {
    const directWriter = this.#directWriter
    if (
      directWriter === null ||
      directWriter.socket === null ||
      directWriter.full ||
      !this.isActive ||
      this.#openAt >= 0 ||
      this.#snapshot !== null ||
      this.#finishAt !== Infinity
    ) {
      return
    }
    const { channel } = this.#member
    if (this.position >= channel.log.end) channel.joinLockstep(this.#member, directWriter.socket, directWriter)
  }

  #hasFinished(): boolean {
    return this.#openAt < 0 && this.#snapshot === null && this.find(this.#finishAt) === NOTHING
  }

  /** Gives the snapshot that comes before anything else, if it is there: `true` when events may follow. */
  #giveSnapshot({ body }: SnapshotCall): boolean {
    if (body === null) this.#sink.endForReconnect('unavailable')
    if (body === null || body === undefined) return false
    this.#snapshot = null
    this.#giveId()
    this.#sink.snapshot(this.position, body)
    return !this.#sink.full
  }

  /** Gives the run of events that was found: as far as its page goes and no other channel comes before. */
  #giveRun(): number {
    const member = this.next as ChannelCursor
    const { log } = member.channel
    log.seek(this.after(member))
    const chunk = log.page.chunk(log.slot, this.#endOf(log.page, log.slot))
    this.position = chunk.position
    this.#give(chunk, member.channel)
    return chunk.framed.length
  }

  /** The same for a filtered subscriber: the wanted stretches of the run, until the sink is full or the slice over. */
  #giveWanted(filter: EventFilter, slice: TimeSlice | null): number {
    const member = this.next as ChannelCursor
    const { channel } = member
    const { reader, onError } = this.#delivery
    channel.log.seek(this.after(member))
    const { page, slot } = channel.log
    const end = this.#endOf(page, slot)
    let given = 0
    this.#page = page
    this.#from = this.#to = slot
    while (this.#to < end && !this.#sink.full) {
      const at = this.#to
      const event = reader.read(channel, page, at)
      const wanted = event !== null && isWanted(filter, event, onError)
      // The filter may have ended the subscription, which gave the stretch before this event.
      if (!this.isActive) break
      this.position = page.positions[at] as number
      if (!wanted) {
        given += this.#flushStretch()
        this.#from = at + 1
        this.#skippedEvents++
        this.#skippedBytes += page.lengthOf(at)
      }
      this.#to = at + 1
      if (slice !== null && slice.spend()) break
    }
    given += this.#flushStretch()
    this.#page = null
    return given
  }

  /** Where the run that begins in a slot ends for this sink. */
  #endOf(page: LogPage, slot: number): number {
    const end = page.endOf(slot, this.until)
    const { directWriter } = this.#sink
    if (directWriter === null || directWriter.gzip === null) return end
    const cut = page.segmentEnd(slot, end)
    if (cut < end) this.#sink.cork()
    return cut
  }

  #flushStretch(): number {
    if (this.#page === null || this.#from === this.#to || !this.isActive) return 0
    const chunk = this.#page.chunk(this.#from, this.#to)
    this.#from = this.#to
    this.#give(chunk, (this.next as ChannelCursor).channel)
    return chunk.framed.length
  }

  /**
   * Tells the client which channels lost events. While others are complete its id stays where it is, so that a client
   * that is cut off now loses nothing of them; of the lost ones nothing up to the newest position is given.
   *
   * Where a snapshot follows, it is what carries the id, and until it is there nothing else is given.
   */
  #reset(): void {
    const lost = this.lost()
    const names = lost.map(({ channel }) => channel.name)
    const take = this.#settings.snapshot
    this.giveUp(lost, take === undefined ? this.#delivery.timeline.newest : this.#ask(take, lost))
    if (take === undefined) this.#giveId()
    this.#delivery.counters.resets++
    this.#sink.reset(take === undefined ? this.position : undefined, names, this.#reasonFor(lost))
    if (this.#openAt < 0) this.#reason = 'slow'
  }

  /** What the bounds of this hub drop was lost by a slow client; what was gone before it came here was not. */
  #reasonFor(lost: readonly ChannelCursor[]): ResetReason {
    const isGap = this.#reason === 'slow' && lost.some(({ channel }) => channel.gap === channel.log.floor)
    return isGap ? 'expired' : this.#reason
  }

  /** Asks for a snapshot of channels; its position is returned. */
  #ask(take: TakeSnapshot, members: readonly ChannelCursor[]): number {
    const names = members.map(({ channel }) => channel.name)
    const floor = Math.max(...members.map(({ channel }) => channel.log.floor))
    this.#snapshot = this.#delivery.snapshots.ask(take, names, this.#settings.owner, floor, this)
    return this.#snapshot.position
  }

  #open(): void {
    this.position = Math.max(this.position, this.#openAt)
    this.#giveId()
    this.#openAt = -1
    this.#reason = 'slow'
    this.#sink.opened(this.position, this.#replayed)
  }

  #give(chunk: Chunk, channel: Channel): void {
    this.#sent = chunk.position
    this.#skippedEvents = this.#skippedBytes = 0
    if (this.#openAt >= 0) this.#replayed += chunk.count
    this.#delivery.counters.delivered += chunk.count
    this.#sink.events(chunk, channel)
  }

  /** The client is given the cursor as its id, with what follows. */
  #giveId(): void {
    this.#sent = this.position
    this.#skippedEvents = this.#skippedBytes = 0
  }
}
