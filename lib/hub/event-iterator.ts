import { Fifo } from '../basics/fifo.ts'
import { TimeSlice } from '../basics/time-slice.ts'
import type { TurnBudget } from '../basics/turn-budget.ts'
import type { Channel } from '../delivery/channel.ts'
import type { ResetReason } from '../delivery/control-events.ts'
import type { Pump } from '../delivery/pump.ts'
import type { Sink } from '../delivery/sink.ts'
import type { Start } from '../delivery/start.ts'
import { type Delivery, Subscriber } from '../delivery/subscriber.ts'
import type { AnyChannels, ChannelName, HubEvent } from '../event/channel-types.ts'
import { formatId, parseId } from '../event/event-id.ts'
import type { Timeline } from '../event/timeline.ts'
import type { Chunk, LogPage } from '../log/log-page.ts'
import { diagnostics } from './diagnostics.ts'

/** As much as is held for a consumer that is busy: what it has not asked for beyond it stays in the logs. */
const MAX_HELD_BYTES = 65_536

/** An item of `hub.events()` that is no event: events of these channels were lost. No channel has the name `''`. */
export interface ResetEvent {
  readonly id: string
  readonly channel: ''
  readonly event: 'stream-reset'
  readonly data: { readonly channels: readonly string[]; readonly reason: ResetReason }
}

/** What `hub.events()` returns. */
export interface HubEvents<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>> extends AsyncIterableIterator<
  HubEvent<C, N> | ResetEvent
> {
  /**
   * The id to go on from, that of the last item or later: it moves over events that the filter did not want, and is there
   * before the first item.
   */
  readonly lastEventId: string
  return(): Promise<IteratorResult<HubEvent<C, N> | ResetEvent>>
}

/** What a hub lends to its iterators. */
export interface IteratorParts {
  readonly hub: object
  readonly timeline: Timeline
  readonly pump: Pump
  readonly delivery: Delivery
  readonly budget: TurnBudget
  /** The iterator is over. */
  readonly onOver: (iterator: EventIterator) => void
}

interface Stretch {
  readonly chunk: Chunk
  readonly channel: Channel
  /** What holding it costs: the page, where it is the first stretch of it. */
  readonly bytes: number
}

type Item = HubEvent | ResetEvent
type Result = IteratorResult<Item>

const DONE: Result = { done: true, value: undefined }

/**
 * The events of channels, pulled one by one: a subscriber whose sink is whoever asks for the next one. A consumer that
 * waits is given all that comes in a turn, as a socket with room is; for one that is busy little is held, and the rest
 * stays in the logs.
 */
export class EventIterator implements HubEvents, Sink {
  readonly #parts: IteratorParts
  /** `null` until its channels are ready. */
  #subscriber: Subscriber | null = null
  readonly #signal: AbortSignal | undefined
  readonly #begunAt: string
  readonly #slice = new TimeSlice()
  /** What was given and not asked for yet, in order. */
  #held = new Fifo<Stretch | ResetEvent>()
  #heldBytes = 0
  #lastPage: LogPage | null = null
  /** The stretch that is being read, and where. */
  #stretch: Stretch | undefined
  #slot = 0
  /** The place of the last item that was asked for. */
  #taken = -1
  #epoch = ''
  readonly #requests = new Fifo<(result: Result | Promise<Result>) => void>()
  #waiting = 0
  /** Whether the consumer waits, or did at the beginning of this turn: it keeps up. */
  #isPulling = false
  #isFinished = false
  /** Why it could not begin, or cannot go on; the consumer was not told yet. */
  #failure: { readonly error: unknown } | undefined
  #isOver = false

  /** @param lastEventId where it begins, if that is given. */
  constructor(parts: IteratorParts, signal: AbortSignal | undefined, lastEventId: string) {
    this.#parts = parts
    this.#begunAt = lastEventId
    this.#signal = signal
    signal?.addEventListener('abort', this.#end, { once: true })
    if (signal?.aborted) this.#end()
  }

  /** It follows these channels from here on. */
  begin(channels: readonly Channel[], start: Start): void {
    if (this.#isOver) return
    const { delivery, timeline } = this.#parts
    this.#taken = start.position
    this.#epoch = timeline.epoch
    this.#subscriber = new Subscriber(channels, this, delivery, start)
    this.#fill()
  }

  /** It cannot begin, or not go on from its place: after what it holds, the consumer is told why. */
  fail(error: unknown): void {
    if (this.#isOver || this.#failure !== undefined) return
    this.#failure = { error }
    this.#subscriber?.leave()
    this.#serve()
  }

  get channels(): readonly Channel[] {
    return this.#subscriber?.members.map(({ channel }) => channel) ?? []
  }

  get isOver(): boolean {
    return this.#isOver
  }

  get lastEventId(): string {
    const subscriber = this.#subscriber
    if (subscriber === null) return this.#begunAt
    if (!this.#isOver && this.#failure === undefined && this.#stretch === undefined && this.#held.size === 0) {
      subscriber.keepAlive()
      this.#taken = subscriber.position
    }
    return this.#taken < 0 ? this.#begunAt : formatId(this.#epoch, this.#taken)
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
      const { budget } = this.#parts
      // A loop that always finds something must let others have their turn.
      if (budget.isSpent()) void budget.nextTurn().then(this.#pull)
      else this.#pull()
    })
  }

  return(): Promise<Result> {
    this.#end()
    return Promise.resolve(DONE)
  }

  /** Goes on to what is published now, and ends. */
  finish(): void {
    if (this.#failure !== undefined) return
    if (this.#subscriber === null) return this.#end()
    const finished = (): void => {
      this.#isFinished = true
      this.#serve()
    }
    this.#slice.begin()
    if (this.#subscriber.finish(finished, this.#slice)) finished()
    else this.#parts.pump.ready(this.#subscriber)
  }

  readonly directWriter = null

  get full(): boolean {
    return this.#heldBytes >= MAX_HELD_BYTES && !this.#isPulling
  }

  events(chunk: Chunk, channel: Channel): void {
    const bytes = chunk.page === this.#lastPage ? 0 : chunk.page.used
    this.#lastPage = chunk.page
    this.#heldBytes += bytes
    this.#held.push({ chunk, channel, bytes })
    // Before it has asked again, it is not known to keep up.
    if (this.#isPulling) queueMicrotask(this.#rest)
    this.#serve()
  }

  reset(position: number | undefined, lost: readonly string[], reason: ResetReason): void {
    const { hub, timeline } = this.#parts
    const channels = Object.freeze([...lost])
    if (diagnostics.reset.hasSubscribers) {
      diagnostics.reset.publish({ hub, channels: this.#subscriber?.names ?? [], owner: undefined, lost: channels, reason })
    }
    const data = Object.freeze({ channels, reason })
    this.#held.push(Object.freeze({ id: formatId(timeline.epoch, position ?? 0), channel: '', event: 'stream-reset', data }))
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
    // Of what is in the logs anyway it takes no more than it may hold.
    this.#isPulling = false
    if (this.#waiting > 0) this.#fill()
    this.#isPulling = this.#waiting > 0
  }

  readonly #rest = (): void => {
    this.#isPulling = this.#waiting > 0
  }

  /** Takes what is due, for as long as a slice of time lasts; the pump goes on with the rest. */
  #fill(): void {
    if (this.#subscriber === null || this.#failure !== undefined) return
    this.#slice.begin()
    if (!this.#subscriber.deliver(this.#slice, Infinity)) this.#parts.pump.ready(this.#subscriber)
  }

  #serve(): void {
    while (this.#waiting > 0) {
      const item = this.#take()
      // What reads an event may have ended the iteration, and so answered everybody.
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

  /** The next item held. What cannot be read was reported, and is left out. */
  #take(): Item | undefined {
    while (!this.#isOver) {
      const stretch = this.#stretch
      if (stretch === undefined) {
        const held = this.#held.shift()
        if (held === undefined) return undefined
        if (!('chunk' in held)) {
          const { epoch = this.#epoch, position = this.#taken } = parseId(held.id) ?? {}
          this.#epoch = epoch
          this.#taken = position
          return held
        }
        this.#stretch = held
        this.#slot = held.chunk.start
        continue
      }
      const { chunk, channel } = stretch
      const slot = this.#slot++
      this.#taken = chunk.page.positions[slot] as number
      if (this.#slot === chunk.end) {
        this.#stretch = undefined
        this.#heldBytes -= stretch.bytes
        if (chunk.page === this.#lastPage) this.#lastPage = null
      }
      const event = this.#parts.delivery.reader.read(channel, chunk.page, slot)
      if (event !== null) return event
    }
    return undefined
  }

  readonly #end = (): void => {
    if (this.#isOver) return
    this.#isOver = true
    this.#signal?.removeEventListener('abort', this.#end)
    if (this.#failure === undefined) this.#subscriber?.leave()
    this.#held = new Fifo()
    this.#stretch = undefined
    this.#lastPage = null
    this.#parts.onOver(this)
    for (; this.#waiting > 0; this.#waiting--) this.#requests.shift()?.(DONE)
  }
}
