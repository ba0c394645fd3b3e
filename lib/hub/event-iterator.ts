import { Fifo } from '../basics/fifo.ts'
import { TimeSlice } from '../basics/time-slice.ts'
import type { Channel } from '../delivery/channel.ts'
import type { ResetReason } from '../delivery/control-events.ts'
import type { StartPosition } from '../delivery/cursor.ts'
import type { Sink } from '../delivery/sink.ts'
import type { SubscribeSettings } from '../delivery/subscribe-options.ts'
import { Subscriber } from '../delivery/subscriber.ts'
import type { AnyChannels, ChannelName, HubEvent } from '../event/channel-types.ts'
import { formatId, parseId } from '../event/event-id.ts'
import type { Chunk, LogPage } from '../log/log-page.ts'
import type { HubContext } from './hub-context.ts'
import type { RegisteredIterator } from './subscription-registry.ts'

/** The number of bytes from which an iterator accepts nothing more while the program is busy. Later events stay in the logs. */
const MAX_HELD_BYTES = 65_536

/** An item of `hub.events()` that reports a loss: events of these channels are missing. No channel has the name `''`. */
export interface ResetEvent {
  readonly id: string
  readonly channel: ''
  readonly event: 'stream-reset'
  readonly data: { readonly channels: readonly string[]; readonly reason: ResetReason }
}

/** The result of `hub.events()`. */
export interface HubEvents<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>> extends AsyncIterableIterator<
  HubEvent<C, N> | ResetEvent
> {
  /**
   * The id to resume from: that of the last item, or a later one. It moves past events that the filter did not want, and is available
   * before the first item.
   */
  readonly lastEventId: string
  return(): Promise<IteratorResult<HubEvent<C, N> | ResetEvent>>
}

interface HeldChunk {
  readonly chunk: Chunk
  readonly channel: Channel
  /** The bytes that it counts for: its whole page for the first held chunk of that page, 0 for the next ones. */
  readonly bytes: number
}

type Item = HubEvent | ResetEvent
type Result = IteratorResult<Item>

const DONE: Result = { done: true, value: undefined }

/**
 * The events of channels as an async iterator. It is the sink of a subscriber, and accepts events as a socket does: everything while
 * the program waits for an item, and up to {@link MAX_HELD_BYTES} while the program is busy. The rest stays in the logs.
 */
export class EventIterator implements HubEvents, RegisteredIterator, Sink {
  readonly #context: HubContext
  /** `null` until its channels are ready. */
  #subscriber: Subscriber | null = null
  readonly #signal: AbortSignal | undefined
  readonly #startId: string
  readonly #slice = new TimeSlice()
  /** Events and resets that the subscriber has delivered and the program has not requested yet, in order. */
  #held = new Fifo<HeldChunk | ResetEvent>()
  #heldBytes = 0
  #lastPage: LogPage | null = null
  /** The chunk from which items are taken, and its next slot. */
  #current: HeldChunk | undefined
  #slot = 0
  /** The position and epoch of the last item that the program received. */
  #taken = -1
  #epoch = ''
  readonly #requests = new Fifo<(result: Result | Promise<Result>) => void>()
  #waiting = 0
  /** Whether the program waits for an item, or waited when the delivery in progress began. While it is `true`, the bytes have no bound. */
  #isPulling = false
  #isFinished = false
  /** The error that ended the iteration. The program receives it after the items that are held. */
  #failure: { readonly error: unknown } | undefined
  #isOver = false

  /** @param lastEventId the id to resume from; `''` for none. */
  constructor(context: HubContext, signal: AbortSignal | undefined, lastEventId: string) {
    this.#context = context
    this.#startId = lastEventId
    this.#signal = signal
    context.registry.iterators.add(this)
    signal?.addEventListener('abort', this.#end, { once: true })
    if (signal?.aborted) this.#end()
  }

  /** Joins these channels. */
  begin(channels: readonly Channel[], settings: SubscribeSettings, start: StartPosition): void {
    if (this.#isOver) return
    const { engine } = this.#context
    this.#taken = start.position
    this.#epoch = engine.timeline.epoch
    this.#subscriber = new Subscriber(channels, this, engine, settings, start)
    this.#fill()
  }

  fail(error: unknown): void {
    if (this.#isOver || this.#failure !== undefined) return
    this.#failure = { error }
    this.#subscriber?.leave()
    this.#serve()
  }

  /** The names of its channels; none before it has begun. */
  get channels(): readonly string[] {
    return this.#subscriber?.names ?? []
  }

  isIn(channel: Channel): boolean {
    return this.#subscriber?.channelCursors.some((cursor) => cursor.channel === channel) ?? false
  }

  get isOver(): boolean {
    return this.#isOver
  }

  get lastEventId(): string {
    const subscriber = this.#subscriber
    if (subscriber === null) return this.#startId
    if (!this.#isOver && this.#failure === undefined && this.#current === undefined && this.#held.size === 0) {
      subscriber.keepAlive()
      this.#taken = subscriber.position
    }
    return this.#taken < 0 ? this.#startId : formatId(this.#epoch, this.#taken)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<Result> {
    if (this.#isOver) return Promise.resolve(DONE)
    return new Promise((resolve) => {
      this.#requests.push(resolve)
      this.#waiting++
      this.#isPulling = true
      const { budget } = this.#context
      // A loop that always finds an item must let the rest of the program run.
      if (budget.isSpent()) void budget.nextTurn().then(this.#pull)
      else this.#pull()
    })
  }

  return(): Promise<Result> {
    this.#end()
    return Promise.resolve(DONE)
  }

  finish(): void {
    if (this.#failure !== undefined) return
    if (this.#subscriber === null) return this.#end()
    const finished = (): void => {
      this.#isFinished = true
      this.#serve()
    }
    this.#slice.begin()
    if (this.#subscriber.finish(finished, this.#slice)) finished()
    else this.#context.engine.pump.ready(this.#subscriber)
  }

  readonly directWriter = null
  /** An iterator has no owner. */
  readonly owner = undefined

  get full(): boolean {
    return this.#heldBytes >= MAX_HELD_BYTES && !this.#isPulling
  }

  events(chunk: Chunk, channel: Channel): void {
    const bytes = chunk.page === this.#lastPage ? 0 : chunk.page.used
    this.#lastPage = chunk.page
    this.#heldBytes += bytes
    this.#held.push({ chunk, channel, bytes })
    // After this delivery, the program counts as keeping up only if it still waits for an item.
    if (this.#isPulling) queueMicrotask(this.#endDelivery)
    this.#serve()
  }

  reset(position: number | undefined, lost: readonly string[], reason: ResetReason): void {
    const { engine, telemetry } = this.#context
    const channels = Object.freeze([...lost])
    telemetry.reset(this, channels, reason)
    const data = Object.freeze({ channels, reason })
    this.#held.push(Object.freeze({ id: formatId(engine.timeline.epoch, position ?? 0), channel: '', event: 'stream-reset', data }))
    this.#serve()
  }

  opened(): void {}
  moved(): void {}
  snapshot(): void {}
  endForReconnect(): void {}
  cork(): void {}
  uncork(): void {}

  readonly #pull = (): void => {
    this.#serve()
    // Cleared first, so that `full` limits what the iterator takes from the logs to catch up.
    this.#isPulling = false
    if (this.#waiting > 0) this.#fill()
    this.#isPulling = this.#waiting > 0
  }

  readonly #endDelivery = (): void => {
    this.#isPulling = this.#waiting > 0
  }

  /** Takes what is due within one time slice. The pump continues with the rest. */
  #fill(): void {
    if (this.#subscriber === null || this.#failure !== undefined) return
    this.#slice.begin()
    if (!this.#subscriber.deliver(this.#slice, Infinity)) this.#context.engine.pump.ready(this.#subscriber)
  }

  #serve(): void {
    while (this.#waiting > 0) {
      const item = this.#take()
      // The program's `deserialize` may have ended the iteration. All requests are answered then.
      if (this.#isOver) return
      if (item === undefined) {
        if (this.#failure !== undefined) {
          this.#waiting--
          this.#requests.shift()?.(Promise.reject(this.#failure.error))
        }
        if (this.#failure !== undefined || this.#isFinished) this.#end()
        return
      }
      this.#waiting--
      this.#requests.shift()?.({ done: false, value: item })
    }
  }

  /** Removes and returns the next item. An event that cannot be decoded has been reported, and is left out. */
  #take(): Item | undefined {
    while (!this.#isOver) {
      const current = this.#current
      if (current === undefined) {
        const held = this.#held.shift()
        if (held === undefined) return undefined
        if (!('chunk' in held)) {
          const { epoch = this.#epoch, position = this.#taken } = parseId(held.id) ?? {}
          this.#epoch = epoch
          this.#taken = position
          return held
        }
        this.#current = held
        this.#slot = held.chunk.start
        continue
      }
      const { chunk, channel } = current
      const slot = this.#slot++
      this.#taken = chunk.page.positions[slot] as number
      if (this.#slot === chunk.end) {
        this.#current = undefined
        this.#heldBytes -= current.bytes
        if (chunk.page === this.#lastPage) this.#lastPage = null
      }
      const event = this.#context.engine.reader.read(channel, chunk.page, slot)
      if (event !== null) return event
    }
    return undefined
  }

  readonly #end = (): void => {
    if (this.#isOver) return
    this.#isOver = true
    this.#signal?.removeEventListener('abort', this.#end)
    const { engine, registry } = this.#context
    if (this.#failure === undefined) this.#subscriber?.leave()
    this.#held = new Fifo()
    this.#current = undefined
    this.#lastPage = null
    registry.iterators.delete(this)
    engine.leave(this.#subscriber?.channelCursors ?? [])
    for (; this.#waiting > 0; this.#waiting--) this.#requests.shift()?.(DONE)
  }
}
