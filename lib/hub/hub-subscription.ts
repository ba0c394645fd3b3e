import { type Deferred, deferred } from '../basics/promises.ts'
import type { TimeSlice } from '../basics/time-slice.ts'
import type { Channel } from '../delivery/channel.ts'
import type { DirectWriter } from '../delivery/lockstep-group.ts'
import type { ControlEvents, ResetReason } from '../delivery/control-events.ts'
import type { Pump } from '../delivery/pump.ts'
import type { Sink } from '../delivery/sink.ts'
import type { Start } from '../delivery/start.ts'
import { type Delivery, Subscriber } from '../delivery/subscriber.ts'
import type { SharedBytes } from '../gzip/shared-bytes.ts'
import type { Chunk } from '../log/log-page.ts'
import { type Connection, type Feed, STREAM_CLOSE } from '../stream/connection.ts'
import { streamEnd, type StreamEndReason } from '../stream/stream-end.ts'
import type { Subscription } from '../stream/subscription.ts'
import type { Counters } from './counters.ts'
import { diagnostics } from './diagnostics.ts'

/** What a hub lends to its subscriptions. */
export interface HubParts {
  /** The hub itself, as diagnostics name it. */
  readonly hub: object
  readonly pump: Pump
  readonly delivery: Delivery
  readonly control: ControlEvents
  readonly counters: Counters
  /** The time that the first deliveries of all new subscriptions of a turn may take. */
  readonly firstSlice: TimeSlice
  /** Settles when this process has everything that any process published before; `null` where there is only this one. */
  readonly caughtUp: (() => Promise<void>) | null
  /** The subscription is over. */
  readonly onRelease: (subscription: HubSubscription) => void
  /** Its stream is over too, or not the hub's any more. */
  readonly onFinish: (subscription: HubSubscription) => void
}

/** The subscription of one connection: it joins a subscriber, the connection it writes to, and the pump. */
export class HubSubscription implements Subscription, Feed, Sink {
  /** Whose connection it is. */
  readonly owner: string | undefined
  /** When it began, in monotonic ms. */
  readonly openedAt = performance.now()
  readonly #connection: Connection
  readonly #subscriber: Subscriber
  readonly #parts: HubParts
  /** After so long the client's id is moved, though something else was written: else it would leave the log. */
  readonly #maxIdAgeMs: number
  readonly #onRelease: () => void
  #sent = -1
  #sentAt = 0
  /** Made when somebody asks for it. */
  #ended: Deferred<void> | null = null

  constructor(
    channels: readonly Channel[],
    connection: Connection,
    parts: HubParts,
    start: Start,
    owner: string | undefined,
    onRelease: () => void,
  ) {
    this.owner = owner
    this.#onRelease = onRelease
    this.#connection = connection
    this.#parts = parts
    this.#maxIdAgeMs = Math.min(...channels.map(({ log }) => log.bounds.maxAgeMs)) / 4
    this.#subscriber = new Subscriber(channels, this, parts.delivery, start)
  }

  get channels(): readonly string[] {
    return this.#subscriber.names
  }

  get isClosed(): boolean {
    return !this.#subscriber.isActive
  }

  get ended(): Promise<void> {
    this.#ended ??= deferred()
    if (this.isClosed) this.#ended.resolve()
    return this.#ended.promise
  }

  /** The channels with what their consumers are kept by. */
  get members(): Subscriber['members'] {
    return this.#subscriber.members
  }

  /** Makes the subscription live, and delivers at once what the output takes. */
  begin(): void {
    // Whoever was told of it may have ended it already.
    if (!this.#connection.isOpen) {
      this.released()
      this.finished()
      return
    }
    this.#connection.feedFrom(this)
    const { firstSlice, pump } = this.#parts
    firstSlice.beginOncePerTurn()
    if (firstSlice.isOver || !this.#subscriber.deliver(firstSlice, Infinity)) pump.ready(this.#subscriber)
  }

  close(): void {
    if (this.isClosed) return
    this.flush()
    this.#connection.unfeed(this)
    this.released()
    this.finished()
  }

  /** Ends the stream after what is due, and the client reconnects. A stream that is no longer subscribed stays as it is. */
  endForReconnect(reason: StreamEndReason, last = streamEnd(reason)): void {
    if (!this.isClosed) this.#connection.end(last, reason === 'closing')
  }

  /** Ends the stream after everything that was published before, and the client does not reconnect. */
  endForGood(): void {
    if (!this.isClosed) this.#connection.endForGood(STREAM_CLOSE)
  }

  destroy(): void {
    this.#connection.destroy()
  }

  get full(): boolean {
    return this.#connection.output.full
  }

  get directWriter(): DirectWriter {
    return this.#connection.output
  }

  events(chunk: Chunk): void {
    this.#connection.output.write(chunk)
  }

  opened(position: number, replayed: number): void {
    const { context, output } = this.#connection
    output.write(this.#parts.control.open(position, this.channels, replayed, context.keepAliveMs))
  }

  reset(position: number | undefined, lost: readonly string[], reason: ResetReason): void {
    if (diagnostics.reset.hasSubscribers) diagnostics.reset.publish({ ...this.#about(), lost, reason })
    if (this.isClosed) return
    this.#connection.output.writeOwn(this.#parts.control.reset(position, lost, reason))
  }

  moved(position: number): void {
    this.#connection.output.write(this.#parts.control.position(position))
  }

  snapshot(position: number, body: SharedBytes): void {
    const { output } = this.#connection
    output.writeOwn(this.#parts.control.id(position))
    // Full or not: the rest of an event follows its id.
    output.write(body)
  }

  cork(): void {
    this.#connection.output.cork()
  }

  uncork(): void {
    this.#connection.output.uncork()
  }

  drained(): void {
    this.#parts.pump.ready(this.#subscriber)
  }

  keepAlive(): boolean {
    return this.#subscriber.keepAlive()
  }

  get isExpired(): boolean {
    return this.#subscriber.isExpired
  }

  watch(tick: number): void {
    const { sent } = this.#subscriber
    const { output } = this.#connection
    if (sent !== this.#sent) {
      this.#sent = sent
      this.#sentAt = tick
      // Since the last tick, that is.
      output.touched = Math.max(output.touched, tick - 1)
    } else if (tick - this.#sentAt >= this.#connection.context.watchdog.ticksIn(this.#maxIdAgeMs)) {
      this.keepAlive()
    }
  }

  flush(): void {
    this.#subscriber.flush()
  }

  finish(done: () => void): boolean {
    const { caughtUp } = this.#parts
    if (caughtUp === null) return this.#subscriber.finish(done)
    void this.#finishCaughtUp(caughtUp, done)
    return false
  }

  async #finishCaughtUp(caughtUp: () => Promise<void>, done: () => void): Promise<void> {
    try {
      await caughtUp()
    } catch {
      // Nobody knows what was published before, so the client comes back for it.
      this.endForReconnect('unavailable')
      return
    }
    if (!this.isClosed && this.#subscriber.finish(done)) done()
  }

  stalled(): void {
    this.#parts.counters.stalls++
    if (diagnostics.stall.hasSubscribers) diagnostics.stall.publish(this.#about())
  }

  released(): void {
    if (this.isClosed) return
    this.#subscriber.leave()
    this.#parts.onRelease(this)
    this.#onRelease()
    this.#ended?.resolve()
    if (diagnostics.close.hasSubscribers) diagnostics.close.publish(this.#about())
  }

  finished(): void {
    this.#parts.onFinish(this)
  }

  #about() {
    return { hub: this.#parts.hub, channels: this.channels, owner: this.owner }
  }
}
