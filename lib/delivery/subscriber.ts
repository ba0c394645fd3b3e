import { type TimeSlice, unitsFor } from '../basics/time-slice.ts'
import type { Chunk, LogPage } from '../log/log-page.ts'
import type { Channel, ChannelCursor } from './channel.ts'
import type { ResetReason } from './control-events.ts'
import { Cursor, EVENT, LOSS, NOTHING, type StartPosition } from './cursor.ts'
import type { DeliveryEngine } from './delivery-engine.ts'
import { type DirectWriter, MAX_WRITE_BYTES } from './direct-writer.ts'
import type { Sink } from './sink.ts'
import type { SnapshotCall } from './snapshots.ts'
import type { EventFilter, SubscribeSettings, TakeSnapshot } from './subscribe-options.ts'

/**
 * A cursor over the logs of one or several channels, together with the sink that receives the events after it. Live delivery, catching
 * up and replay are one loop: it delivers the events after the cursor to the sink, in order of position, until the sink is full.
 */
export class Subscriber extends Cursor {
  isQueued = false
  readonly #sink: Sink
  readonly #engine: DeliveryEngine
  readonly #settings: SubscribeSettings
  /** The sink's output, if the subscriber may join a lockstep group; otherwise `null`. */
  readonly #directWriter: DirectWriter | null
  /** The snapshot that must be sent before anything else. */
  #snapshot: SnapshotCall | null = null
  /** The newest position that the client has as an id. */
  #sent = -1
  #reason: ResetReason
  /** The client is live once its cursor has reached this position; -1 if it is live. */
  #openAt = 0
  #replayed = 0
  /** Events and bytes that the filter has skipped since the client's id last moved, and the limits at which the id is moved. */
  #skippedEvents = 0
  #skippedBytes = 0
  readonly #maxSkippedEvents: number = 1
  readonly #maxSkippedBytes: number = 1
  #isDelivering = false
  /** Events that have passed the filter and that the sink has not received: the slots of one page from `#from` up to `#to`. */
  #page: LogPage | null = null
  #from = 0
  #to = 0
  /** The position at which the subscription ends, and the function to call there. */
  #finishAt = Infinity
  #onFinished: (() => void) | null = null

  constructor(channels: readonly Channel[], sink: Sink, engine: DeliveryEngine, settings: SubscribeSettings, start: StartPosition) {
    super(channels, start.position)
    const { filter, snapshot, rewind, expiresAt } = settings
    this.#sink = sink
    this.#engine = engine
    this.#settings = settings
    this.#reason = start.reason
    const isPlain = channels.length === 1 && filter === undefined && expiresAt === Infinity
    this.#directWriter = isPlain && !channels[0]?.log.bounds.latestPerKey ? sink.directWriter : null
    this.#openAt = engine.timeline.newest
    if (filter !== undefined) {
      // The client's id must move before its event leaves the log. A limit of a quarter of the log is early enough.
      const bounds = channels.map(({ log }) => log.bounds)
      this.#maxSkippedEvents = Math.max(1, Math.min(...bounds.map(({ maxEvents }) => maxEvents)) / 4)
      this.#maxSkippedBytes = Math.max(1, Math.min(...bounds.map(({ maxBytes }) => maxBytes)) / 4)
    }
    if (start.isFirst && snapshot !== undefined) this.giveUp(this.channelCursors, this.#requestSnapshot(snapshot, this.channelCursors))
    else if (start.isFirst && rewind > 0) this.rewind(rewind)
  }

  /**
   * Delivers the events after the cursor, until the sink is full, no event is due or the time slice ends.
   *
   * @returns `false` if the slice ended before everything up to the position `goal` was dealt with.
   */
  deliver(slice: TimeSlice | null, goal: number): boolean {
    if (this.#isDelivering) return true
    this.#firstCursor.leaveLockstep()
    this.#isDelivering = true
    const sink = this.#sink
    const { filter } = this.#settings
    if (this.isExpired) sink.endForReconnect('expired')
    let corkedBytes = 0
    let isOver = false
    while (this.isActive && !sink.full && !isOver && (this.#snapshot === null || this.#deliverSnapshot(this.#snapshot))) {
      const limit = this.#openAt < 0 ? this.#finishAt : this.#openAt
      const found = this.find(limit)
      if (found === LOSS) {
        this.#reset()
      } else if (this.#skippedEvents >= this.#maxSkippedEvents || this.#skippedBytes >= this.#maxSkippedBytes) {
        this.#recordId()
        sink.moved(this.position)
      } else if (found === EVENT) {
        // Interleaved channels and filters cause small chunks, which are gathered into one write.
        if (corkedBytes === 0 && (this.until < limit || filter !== undefined)) sink.cork()
        const bytes = filter === undefined ? this.#deliverChunk() : this.#deliverWanted(filter, slice)
        corkedBytes += bytes
        if (corkedBytes >= MAX_WRITE_BYTES) {
          sink.uncork()
          corkedBytes = 0
        }
        isOver = slice !== null && slice.spend(unitsFor(bytes))
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

  /** Delivers what is due until the sink is full. It may be called from within a filter. */
  flush(): void {
    this.#flushWanted()
    this.deliver(null, Infinity)
  }

  /**
   * Delivers the events that have been published by now and, if possible, no later ones.
   *
   * @returns `true` if they are delivered. Otherwise, `done` is called once they are.
   */
  finish(done: () => void, slice: TimeSlice | null = null): boolean {
    // With `latestPerKey`, a newer event at a later position may replace one that is due, so there is no fixed end.
    const mayMove = this.channelCursors.some(({ channel }) => channel.log.bounds.latestPerKey)
    this.#finishAt = mayMove ? Infinity : this.#engine.timeline.newest
    this.deliver(slice, Infinity)
    if (!this.#isDelivering && this.#hasFinished()) return true
    this.#onFinished = done
    return false
  }

  restart(): void {
    const { newest } = this.#engine.timeline
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

  leftLockstep(position: number): void {
    this.position = Math.max(this.position, position)
    this.#sent = Math.max(this.#sent, position)
  }

  /** The newest position that the client has as an id. */
  get sent(): number {
    const cursor = this.#firstCursor
    return cursor.isInLockstep ? Math.max(this.#sent, cursor.channel.lockstepPositionOf(cursor)) : this.#sent
  }

  /** Whether the client's access has ended. */
  get isExpired(): boolean {
    const { expiresAt } = this.#settings
    return expiresAt !== Infinity && Date.now() >= expiresAt
  }

  /** Moves the client's id to the hub's newest position. Returns `false` if it is there already, or if events before it are due. */
  keepAlive(): boolean {
    const { newest } = this.#engine.timeline
    if (newest <= this.sent) return false
    this.#firstCursor.leaveLockstep()
    if (this.#openAt >= 0 || this.#snapshot !== null || this.find(Infinity) !== NOTHING) return false
    this.position = newest
    this.#recordId()
    this.#sink.moved(newest)
    this.#joinLockstep()
    return true
  }

  /** The only cursor that can be in a lockstep group. A subscriber of several channels is in none, because it has to merge them. */
  get #firstCursor(): ChannelCursor {
    return this.channelCursors[0] as ChannelCursor
  }

  /** Joins the channel's lockstep group, if the subscriber may and has everything. */
  #joinLockstep(): void {
    const writer = this.#directWriter
    if (writer === null || writer.socket === null || writer.full || !this.isActive) return
    if (this.#openAt >= 0 || this.#snapshot !== null || this.#finishAt !== Infinity) return
    const cursor = this.#firstCursor
    if (this.position >= cursor.channel.log.end) cursor.channel.joinLockstep(cursor, writer.socket, writer)
  }

  #hasFinished(): boolean {
    return this.#openAt < 0 && this.#snapshot === null && this.find(this.#finishAt) === NOTHING
  }

  /** Delivers the snapshot that must come first, if its call has ended. Returns `true` if events may follow it. */
  #deliverSnapshot({ body }: SnapshotCall): boolean {
    if (body === null) this.#sink.endForReconnect('unavailable')
    if (body === null || body === undefined) return false
    this.#snapshot = null
    this.#recordId()
    this.#sink.snapshot(this.position, body)
    return !this.#sink.full
  }

  /** Delivers the events that {@link find} has found, up to the end of their page or to the next event of another channel. */
  #deliverChunk(): number {
    const cursor = this.next as ChannelCursor
    const { log } = cursor.channel
    log.seek(this.after(cursor))
    const chunk = log.page.chunk(log.slot, this.#endOf(log.page, log.slot))
    this.position = chunk.position
    this.#send(chunk, cursor.channel)
    return chunk.framed.length
  }

  /** Delivers the wanted events of a subscriber with a filter, until the end of their page, or until the sink is full or the slice ends. */
  #deliverWanted(filter: EventFilter, slice: TimeSlice | null): number {
    const cursor = this.next as ChannelCursor
    const { channel } = cursor
    channel.log.seek(this.after(cursor))
    const { page, slot } = channel.log
    const end = this.#endOf(page, slot)
    let bytes = 0
    this.#page = page
    this.#from = this.#to = slot
    while (this.#to < end && !this.#sink.full) {
      const at = this.#to
      const isWanted = this.#engine.reader.isWanted(filter, channel, page, at)
      // The filter may have ended the subscription. The events before this one were flushed then.
      if (!this.isActive) break
      this.position = page.positions[at] as number
      if (!isWanted) {
        bytes += this.#flushWanted()
        this.#from = at + 1
        this.#skippedEvents++
        this.#skippedBytes += page.lengthOf(at)
      }
      this.#to = at + 1
      if (slice !== null && slice.spend()) break
    }
    bytes += this.#flushWanted()
    this.#page = null
    return bytes
  }

  /** The end (exclusive) of the chunk that begins in `slot`. For a sink with gzip, it is at most the end of the segment. */
  #endOf(page: LogPage, slot: number): number {
    const end = page.endOf(slot, this.until)
    const { directWriter } = this.#sink
    if (directWriter === null || directWriter.gzip === null) return end
    const segmentEnd = page.segmentEnd(slot, end)
    if (segmentEnd < end) this.#sink.cork()
    return segmentEnd
  }

  /** Delivers the wanted events that the filter has passed so far. */
  #flushWanted(): number {
    if (this.#page === null || this.#from === this.#to || !this.isActive) return 0
    const chunk = this.#page.chunk(this.#from, this.#to)
    this.#from = this.#to
    this.#send(chunk, (this.next as ChannelCursor).channel)
    return chunk.framed.length
  }

  /**
   * Sends a `stream-reset` for the channels that have lost events. These channels continue after the hub's newest position. If other
   * channels are complete, the client's id does not move, so that a client that is cut off now can still resume them.
   *
   * With a snapshot function, the reset carries no id. The snapshot follows the reset directly and carries the id.
   */
  #reset(): void {
    const lost = this.lost()
    const names = lost.map(({ channel }) => channel.name)
    const take = this.#settings.snapshot
    this.giveUp(lost, take === undefined ? this.#engine.timeline.newest : this.#requestSnapshot(take, lost))
    if (take === undefined) this.#recordId()
    this.#engine.counters.resets++
    this.#sink.reset(take === undefined ? this.position : undefined, names, this.#reasonFor(lost))
    if (this.#openAt < 0) this.#reason = 'slow'
  }

  /** The reason for a reset. A live client is `slow`, unless the backplane lost the events before this hub received them. */
  #reasonFor(lost: readonly ChannelCursor[]): ResetReason {
    const isGap = this.#reason === 'slow' && lost.some(({ channel }) => channel.gap === channel.log.floor)
    return isGap ? 'expired' : this.#reason
  }

  /** Requests a snapshot of channels, and returns its position. */
  #requestSnapshot(take: TakeSnapshot, cursors: readonly ChannelCursor[]): number {
    const names = cursors.map(({ channel }) => channel.name)
    const floor = Math.max(...cursors.map(({ channel }) => channel.log.floor))
    this.#snapshot = this.#engine.snapshots.ask(take, names, this.#settings.owner, floor, this)
    return this.#snapshot.position
  }

  #open(): void {
    this.position = Math.max(this.position, this.#openAt)
    this.#recordId()
    this.#openAt = -1
    this.#reason = 'slow'
    this.#sink.opened(this.position, this.#replayed)
  }

  #send(chunk: Chunk, channel: Channel): void {
    this.#sent = chunk.position
    this.#skippedEvents = this.#skippedBytes = 0
    if (this.#openAt >= 0) this.#replayed += chunk.count
    this.#engine.counters.delivered += chunk.count
    this.#sink.events(chunk, channel)
  }

  /** Records that the next block carries the cursor's position as its id. */
  #recordId(): void {
    this.#sent = this.position
    this.#skippedEvents = this.#skippedBytes = 0
  }
}
