import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Deferred, deferred } from '../basics/promises.ts'
import type { OnError } from '../basics/on-error.ts'
import type { TurnBudget } from '../basics/turn-budget.ts'
import type { GzipBody } from '../gzip/gzip-body.ts'
import { SharedBytes } from '../gzip/shared-bytes.ts'
import { encodeComment, formatEvent } from '../event/event.ts'
import type { ClientConnection, ConnectionFeed } from '../hub/client-connection.ts'
import { STREAM_CLOSE, streamEnd } from '../hub/stream-end.ts'
import { onDisconnect } from './client-disconnect.ts'
import { Output, type OutputOwner } from './output.ts'
import { http2StreamOf } from './response-socket.ts'
import { suspendTimeouts } from './timeouts.ts'
import type { Watchdog, Watched } from './watchdog.ts'
import type { WriteBuffer } from './write-buffer.ts'

/** The two forms of a keep-alive. A page sees the event, and does not see the comment. */
const KEEP_ALIVE = {
  comment: SharedBytes.of(Buffer.from(encodeComment())),
  event: SharedBytes.of(Buffer.from(formatEvent('', { event: 'stream-alive' }))),
}

/** The settings of a middleware that its connections use. Names that end in `Ticks` are durations in ticks; `Infinity` means never. */
export interface ConnectionContext {
  readonly watchdog: Watchdog
  readonly budget: TurnBudget
  readonly writeBuffer: WriteBuffer
  readonly keepAlive: 'comment' | 'event'
  readonly keepAliveTicks: number
  readonly keepAliveMs: number | false
  readonly stallTicks: number
  readonly lifetimeTicks: number
  readonly maxQueuedBytes: number
  readonly onError: OnError
}

/** One open response: its output, keep-alives, stalls, lifetime and end. */
export class Connection implements ClientConnection, Watched, OutputOwner {
  index = -1
  readonly output: Output
  readonly context: ConnectionContext
  #isOpen = true
  /** Whether the response ends for good once the feed has finished, and the tick at which that was requested. */
  #isFinishing = false
  #finishingSince = 0
  #feed: ConnectionFeed | null = null
  /** The tick at which the stream's lifetime ends. */
  readonly #lastTick: number
  #room: Deferred<boolean> | null = null
  #closers: Set<() => void> | null = null
  /** Restores the timeouts of the connection. */
  #resumeTimeouts: (() => void) | undefined

  /**
   * Sends the head that was set on the response.
   *
   * @param first bytes to send together with the head.
   * @param gzip the gzip stream of the body; `null` without compression.
   */
  constructor(req: IncomingMessage, res: ServerResponse, context: ConnectionContext, first: SharedBytes | null, gzip: GzipBody | null) {
    const { watchdog, lifetimeTicks } = context
    this.context = context
    this.output = new Output(res, this, watchdog, gzip, context.writeBuffer)
    // Random, so that clients that connected at the same time do not all reconnect at the same time.
    this.#lastTick = watchdog.tick + lifetimeTicks * (0.8 + 0.2 * Math.random())
    this.#resumeTimeouts = suspendTimeouts(req, http2StreamOf(res))
    onDisconnect(req, res, () => this.#disconnected())
    // The program may end the response itself. Nothing may follow its last chunk on the connection.
    res.once('prefinish', () => this.#endedOutside())
    watchdog.add(this)
    this.output.begin(req, first)
  }

  get isOpen(): boolean {
    return this.#isOpen && !this.#isFinishing && !this.output.isEnded
  }

  get keepAliveMs(): number | false {
    return this.context.keepAliveMs
  }

  ticksIn(ms: number): number {
    return this.context.watchdog.ticksIn(ms)
  }

  attach(feed: ConnectionFeed): void {
    this.#feed = feed
  }

  detach(feed: ConnectionFeed): void {
    if (this.#feed === feed) this.#feed = null
  }

  /** Calls `closer` when the connection closes. The returned function removes it again. */
  onClosed(closer: () => void): () => void {
    const closers = (this.#closers ??= new Set())
    closers.add(closer)
    return () => closers.delete(closer)
  }

  /** Resolves with `true` when the output accepts bytes again, and with `false` when the connection closes. */
  room(): Promise<boolean> {
    if (!this.isOpen) return Promise.resolve(false)
    this.#room ??= deferred()
    return this.#room.promise
  }

  end(last = '', closesConnection = false): void {
    if (!this.#isOpen) return
    this.#feed?.flush()
    this.#end(last, closesConnection)
  }

  endForGood(): void {
    if (!this.isOpen) return
    this.#isFinishing = true
    this.#finishingSince = this.context.watchdog.tick
    this.#notify()
    const end = (): void => this.#end(STREAM_CLOSE)
    // The client will not reconnect to receive the rest, so the stream waits for a slow client until that client stalls.
    if (this.#feed === null || this.#feed.finish(end)) end()
  }

  /** Ends the response if the client's access has ended, and returns whether it has. */
  expire(): boolean {
    if (!this.#isOpen || !this.#feed?.isExpired) return false
    this.end(streamEnd('expired'))
    return true
  }

  destroy(): void {
    this.output.destroy()
    this.#disconnected()
  }

  drained(): void {
    const room = this.#room
    this.#room = null
    room?.resolve(true)
    if (this.#isOpen) this.#feed?.drained()
  }

  failed(error: unknown): void {
    this.context.onError(error, { where: 'response' })
    this.destroy()
  }

  watch(): void {
    const { context, output } = this
    const { tick } = context.watchdog
    if (!this.#isFinishing && tick >= this.#lastTick) this.end()
    else this.expire()
    if (output.full || !this.#isOpen) {
      if (output.stalledTicks() < context.stallTicks) return
      this.#feed?.stalled()
      this.destroy()
    } else if (this.#isFinishing && tick - this.#finishingSince >= context.stallTicks) {
      // Something other than the client keeps the feed from finishing, so the client has to reconnect for the rest.
      this.end(streamEnd('unavailable'))
    } else {
      this.#feed?.watch(tick)
      if (tick - output.touched >= context.keepAliveTicks) this.#keepAlive()
    }
  }

  #endedOutside(): void {
    if (!this.#isOpen) return
    this.output.abandon()
    this.#close()
  }

  #keepAlive(): void {
    const { keepAlive } = this.context
    const hasMoved = this.#feed?.keepAlive() ?? false
    if ((!hasMoved || keepAlive === 'event') && !this.output.full) this.output.write(KEEP_ALIVE[keepAlive])
  }

  #end(last: string, closesConnection = false): void {
    if (!this.#isOpen) return
    if (last !== '') this.output.writeDirect(last)
    this.#close()
    const { isConnected } = this.output
    this.output.end(closesConnection)
    if (!isConnected) this.#disconnected()
  }

  /** Releases everything, because the response is over. */
  #disconnected(): void {
    this.context.watchdog.remove(this)
    this.#close()
    this.output.release()
    this.#resumeTimeouts?.()
    this.#resumeTimeouts = undefined
    this.#feed?.finished()
    this.#feed = null
  }

  #close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#feed?.released()
    this.#notify()
  }

  /** Settles the promises of waiting writers and calls the closers, because nothing more is accepted. */
  #notify(): void {
    this.#room?.resolve(false)
    this.#room = null
    const closers = this.#closers
    this.#closers = null
    for (const closer of closers ?? []) closer()
  }
}
