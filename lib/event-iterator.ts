import type { Channel } from './channel.ts'
import type { HubEvent } from './channel-types.ts'
import type { ResetReason } from './control-events.ts'
import { diagnostics } from './diagnostics.ts'
import { formatId } from './event-id.ts'
import { Fifo } from './fifo.ts'
import type { Chunk } from './log-page.ts'
import type { Pump } from './pump.ts'
import type { Sink } from './sink.ts'
import type { Start } from './start.ts'
import { type Delivery, Subscriber } from './subscriber.ts'
import type { TurnBudget } from './turn-budget.ts'

/** As much as a socket is given at once: what is not asked for beyond it stays in the logs. */
const MAX_HELD_BYTES = 65_536

/** An item of `hub.events()` that is no event: events of these channels were lost. No channel has the name `''`. */
export interface ResetEvent {
  readonly id: string
  readonly channel: ''
  readonly event: 'stream-reset'
  readonly data: { readonly channels: readonly string[]; readonly reason: ResetReason }
}

/** What a hub lends to its iterators. */
export interface IteratorParts {
  readonly hub: object
  readonly epoch: string
  readonly pump: Pump
  readonly delivery: Delivery
  readonly budget: TurnBudget
  /** The iterator is over. */
  readonly onOver: (iterator: EventIterator) => void
}

interface Stretch {
  readonly chunk: Chunk
  readonly channel: Channel
}

type Item = HubEvent | ResetEvent

/**
 * The events of channels, pulled one by one: a subscriber whose sink is whoever asks for the next one. It is handed
 * about as much as a socket is; what nobody asks for is left in the logs.
 */
export class EventIterator implements AsyncIterableIterator<Item>, Sink {
  readonly #parts: IteratorParts
  readonly #subscriber: Subscriber
  readonly #signal: AbortSignal | undefined
  /** What was given and not asked for yet, in order. */
  readonly #held = new Fifo<Stretch | ResetEvent>()
  #heldBytes = 0
  /** The stretch that is being read, and where. */
  #stretch: Stretch | undefined
  #slot = 0
  readonly #requests = new Fifo<(result: IteratorResult<Item>) => void>()
  #waiting = 0
  #isFinished = false
  #isOver = false

  constructor(channels: readonly Channel[], parts: IteratorParts, start: Start, signal: AbortSignal | undefined) {
    this.#parts = parts
    this.#signal = signal
    this.#subscriber = new Subscriber(channels, this, parts.delivery, start)
    this.#subscriber.follow()
    signal?.addEventListener('abort', this.#end, { once: true })
    if (signal?.aborted) this.#end()
  }

  get channels(): readonly Channel[] {
    return this.#subscriber.members.map(({ channel }) => channel)
  }

  get isOver(): boolean {
    return this.#isOver
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<Item>> {
    return new Promise((resolve) => {
      this.#requests.push(resolve)
      this.#waiting++
      this.#serve()
      if (this.#waiting === 0 || this.#isOver) return
      const { budget, pump } = this.#parts
      // A loop that always finds something must let others have their turn.
      if (budget.isSpent()) pump.ready(this.#subscriber)
      else this.#subscriber.deliver(null, Infinity)
    })
  }

  return(): Promise<IteratorResult<Item>> {
    this.#end()
    return Promise.resolve({ done: true, value: undefined })
  }

  /** Goes on to what is published now, and ends. */
  finish(): void {
    const finished = (): void => {
      this.#isFinished = true
      this.#serve()
    }
    if (this.#subscriber.finish(finished)) finished()
  }

  get full(): boolean {
    return this.#heldBytes >= MAX_HELD_BYTES
  }

  events(chunk: Chunk, channel: Channel): void {
    this.#held.push({ chunk, channel })
    this.#heldBytes += chunk.bytes.length
    this.#serve()
  }

  reset(position: number | undefined, channels: readonly string[], reason: ResetReason): void {
    const { hub, epoch } = this.#parts
    if (diagnostics.reset.hasSubscribers) {
      diagnostics.reset.publish({ hub, channels: this.#subscriber.names, key: undefined, lost: channels, reason })
    }
    this.#held.push({ id: formatId(epoch, position ?? 0), channel: '', event: 'stream-reset', data: { channels, reason } })
    this.#serve()
  }

  opened(): void {}
  moved(): void {}
  snapshot(): void {}
  turnedAway(): void {}
  cork(): void {}
  uncork(): void {}

  #serve(): void {
    while (this.#waiting > 0) {
      const item = this.#isOver ? undefined : this.#take()
      if (item === undefined && !this.#isOver) {
        if (this.#isFinished) this.#end()
        return
      }
      this.#waiting--
      this.#requests.shift()?.(item === undefined ? { done: true, value: undefined } : { done: false, value: item })
    }
  }

  /** The next item held. What cannot be read was reported, and is left out. */
  #take(): Item | undefined {
    for (;;) {
      const stretch = this.#stretch
      if (stretch === undefined) {
        const held = this.#held.shift()
        if (held === undefined || !('chunk' in held)) return held
        this.#stretch = held
        this.#slot = held.chunk.start
        continue
      }
      const { chunk, channel } = stretch
      const event = this.#parts.delivery.reader.read(channel, chunk.page, this.#slot)
      this.#slot++
      if (this.#slot === chunk.end) {
        this.#stretch = undefined
        this.#heldBytes -= chunk.bytes.length
      }
      if (event !== null) return event
    }
  }

  readonly #end = (): void => {
    if (this.#isOver) return
    this.#isOver = true
    this.#signal?.removeEventListener('abort', this.#end)
    this.#subscriber.leave()
    this.#parts.onOver(this)
    this.#serve()
  }
}
