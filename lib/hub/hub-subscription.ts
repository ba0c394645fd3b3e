import { type Deferred, deferred } from '../basics/promises.ts'
import type { ResetReason } from '../delivery/control-events.ts'
import { type ResumePoint, startPosition } from '../delivery/cursor.ts'
import type { DirectWriter } from '../delivery/direct-writer.ts'
import type { Sink } from '../delivery/sink.ts'
import type { SubscribeSettings } from '../delivery/subscribe-options.ts'
import { Subscriber } from '../delivery/subscriber.ts'
import type { LogHead } from '../event/timeline.ts'
import type { SharedBytes } from '../gzip/shared-bytes.ts'
import type { Chunk } from '../log/log-page.ts'
import type { ClientConnection, ConnectionFeed } from './client-connection.ts'
import type { HubContext } from './hub-context.ts'
import { streamEnd, type StreamEndReason } from './stream-end.ts'
import type { Subscription } from './subscribable.ts'
import type { RegisteredStream } from './subscription-registry.ts'

/** The subscription of one connection. It is the sink of a subscriber, and the feed of the connection to which it writes. */
export class HubSubscription implements Subscription, RegisteredStream, ConnectionFeed, Sink {
  readonly owner: string | undefined
  readonly openedAt = performance.now()
  readonly #connection: ClientConnection
  readonly #context: HubContext
  readonly #subscriber: Subscriber
  /** Whether the stream is counted against its owner's limit in all processes. */
  readonly #isCounted: boolean
  /** The age in ms at which the client's id is moved, even on a busy stream. An older id could fall out of the log. */
  readonly #maxIdAgeMs: number
  /** The position of the client's id at the last tick, and the tick at which it last changed. */
  #sent = -1
  #sentAt = 0
  /** Created when the program asks for it. */
  #ended: Deferred<void> | null = null

  /** @param now the head of the log at which a client without an id begins: see {@link startPosition}. */
  constructor(
    channels: readonly string[],
    connection: ClientConnection,
    context: HubContext,
    settings: SubscribeSettings,
    from: ResumePoint,
    now: LogHead | undefined,
    isCounted: boolean,
  ) {
    const { engine } = context
    this.owner = settings.owner
    this.#connection = connection
    this.#context = context
    this.#isCounted = isCounted
    const start = startPosition(from, engine.timeline, now)
    const found = engine.channelsFor(channels)
    this.#maxIdAgeMs = Math.min(...found.map(({ log }) => log.bounds.maxAgeMs)) / 4
    this.#subscriber = new Subscriber(found, this, engine, settings, start)
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

  /** Makes the subscription live, and delivers at once what the output accepts. */
  begin(): void {
    // A listener of the diagnostics channel may have ended the stream already.
    if (!this.#connection.isOpen) {
      this.released()
      this.finished()
      return
    }
    this.#connection.attach(this)
    const { firstSlice, pump } = this.#context.engine
    firstSlice.beginOncePerTurn()
    if (firstSlice.isOver || !this.#subscriber.deliver(firstSlice, Infinity)) pump.ready(this.#subscriber)
  }

  close(): void {
    if (this.isClosed) return
    this.flush()
    this.#connection.detach(this)
    this.released()
    this.finished()
  }

  endForReconnect(reason: StreamEndReason, last = streamEnd(reason)): void {
    if (!this.isClosed) this.#connection.end(last, reason === 'closing')
  }

  endForGood(): void {
    if (!this.isClosed) this.#connection.endForGood()
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
    const { keepAliveMs, output } = this.#connection
    output.write(this.#context.engine.control.open(position, this.channels, replayed, keepAliveMs))
  }

  reset(position: number | undefined, lost: readonly string[], reason: ResetReason): void {
    this.#context.telemetry.reset(this, lost, reason)
    if (this.isClosed) return
    this.#connection.output.writeOwn(this.#context.engine.control.reset(position, lost, reason))
  }

  moved(position: number): void {
    this.#connection.output.write(this.#context.engine.control.position(position))
  }

  snapshot(position: number, body: SharedBytes): void {
    const { output } = this.#connection
    output.writeOwn(this.#context.engine.control.id(position))
    // Written even if the id has filled the output, because the id and the body are one event.
    output.write(body)
  }

  cork(): void {
    this.#connection.output.cork()
  }

  uncork(): void {
    this.#connection.output.uncork()
  }

  drained(): void {
    this.#context.engine.pump.ready(this.#subscriber)
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
      // The lockstep group bypasses the output, so `touched` lacks a write that was made since the previous tick.
      output.touched = Math.max(output.touched, tick - 1)
    } else if (tick - this.#sentAt >= this.#connection.ticksIn(this.#maxIdAgeMs)) {
      this.keepAlive()
    }
  }

  flush(): void {
    this.#subscriber.flush()
  }

  finish(done: () => void): boolean {
    const caughtUp = this.#context.logs.caughtUp()
    if (caughtUp === undefined) return this.#subscriber.finish(done)
    void this.#finishAfter(caughtUp, done)
    return false
  }

  stalled(): void {
    this.#context.telemetry.stalled(this)
  }

  released(): void {
    if (this.isClosed) return
    const { engine, logs, registry, telemetry } = this.#context
    this.#subscriber.leave()
    engine.leave(this.#subscriber.channelCursors)
    registry.released(this)
    if (this.#isCounted && this.owner !== undefined) logs.releaseOwner(this.owner)
    this.#ended?.resolve()
    telemetry.closed(this)
  }

  finished(): void {
    this.#context.registry.finished(this)
  }

  async #finishAfter(caughtUp: Promise<void>, done: () => void): Promise<void> {
    try {
      await caughtUp
    } catch {
      // The backplane did not answer, so events may be missing here. The client reconnects to receive them.
      this.endForReconnect('unavailable')
      return
    }
    if (!this.isClosed && this.#subscriber.finish(done)) done()
  }
}
