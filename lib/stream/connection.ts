import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Deferred, deferred } from '../basics/promises.ts'
import type { OnError } from '../basics/on-error.ts'
import type { TurnBudget } from '../basics/turn-budget.ts'
import type { GzipBody } from '../gzip/gzip-body.ts'
import { SharedBytes } from '../gzip/shared-bytes.ts'
import { encodeComment, formatEvent } from '../event/event.ts'
import { http2StreamOf, onDisconnect } from './client-disconnect.ts'
import type { WriteBuffer } from './write-buffer.ts'
import { Output, type OutputOwner } from './output.ts'
import { streamEnd } from './stream-end.ts'
import { suspendTimeouts } from './timeouts.ts'
import type { Watchdog, Watched } from './watchdog.ts'

/** The two forms of a keep-alive: a comment, which a page cannot see, and an event, which it can. */
const KEEP_ALIVE = {
  comment: SharedBytes.of(Buffer.from(encodeComment())),
  event: SharedBytes.of(Buffer.from(formatEvent('', { event: 'stream-alive' }))),
}

/** Never 2^31 or more: clients on Node would then reconnect at once, again and again. */
const NEVER_MS = 2_000_000_000

/** The last block of a stream whose client is not to reconnect. */
export const STREAM_CLOSE = formatEvent('', { event: 'stream-close', retry: NEVER_MS })

/** What all connections of a middleware share. Durations in ticks of the watchdog; `Infinity` where switched off. */
export interface ConnectionContext {
  readonly watchdog: Watchdog
  readonly budget: TurnBudget
  readonly gather: WriteBuffer
  readonly keepAlive: 'comment' | 'event'
  readonly keepAliveTicks: number
  readonly keepAliveMs: number | false
  readonly stallTicks: number
  readonly lifetimeTicks: number
  readonly maxQueuedBytes: number
  readonly onError: OnError
}

/** What feeds a connection with events beside direct sends. */
export interface Feed {
  /** The output takes bytes again. */
  drained(): void
  /** Whether the client's access has ended: asked about once a tick. */
  readonly isExpired: boolean
  /** Called about once a tick while the output takes bytes: it may have been written to past the output. */
  watch(tick: number): void
  /** Nothing was written for a while: `true` when the feed wrote something in place of the comment. */
  keepAlive(): boolean
  /** Writes what is due, as far as the output takes it. */
  flush(): void
  /** Goes on to what is due now and no further: `true` when that is written, else `done` is called when it is. */
  finish(done: () => void): boolean
  /** Nothing left the full output for too long: the connection is destroyed. */
  stalled(): void
  /** The connection takes nothing any more. */
  released(): void
  /** The response is over. */
  finished(): void
}

/** One open response: its output, its silence, stalls and lifetime, and its end. */
export class Connection implements Watched, OutputOwner {
  index = -1
  readonly output: Output
  readonly context: ConnectionContext
  #isOpen = true
  /** What is written last, once the feed has finished; `null` while the end was not asked for. And when that was. */
  #last: string | null = null
  #lastSince = 0
  #feed: Feed | null = null
  #lastTick: number
  #room: Deferred<boolean> | null = null
  #closers: Set<() => void> | null = null
  /** Gives the connection its timeout back. */
  #resumeTimeouts: (() => void) | undefined

  /**
   * Sends the head that was set on the response.
   *
   * @param first goes out together with the head.
   * @param gzip what makes a gzip stream of the body, where the head says that it is one.
   */
  constructor(req: IncomingMessage, res: ServerResponse, context: ConnectionContext, first: SharedBytes | null, gzip: GzipBody | null) {
    const { watchdog, lifetimeTicks } = context
    this.context = context
    this.output = new Output(res, this, watchdog, gzip, context.gather)
    // Spread, so that the clients that came together do not all leave together.
    this.#lastTick = watchdog.tick + lifetimeTicks * (0.8 + 0.2 * Math.random())
    this.#resumeTimeouts = suspendTimeouts(req, http2StreamOf(res))
    onDisconnect(req, res, () => this.#gone())
    // The program may end the response itself: nothing may follow its last chunk on the connection.
    res.once('prefinish', () => this.#endedOutside())
    watchdog.add(this)
    this.output.begin(req, first)
  }

  /** Whether it takes events; the program may have ended the response itself. */
  get isOpen(): boolean {
    return this.#isOpen && this.#last === null && !this.output.isEnded
  }

  /** Connects the one feed there is. */
  feedFrom(feed: Feed): void {
    this.#feed = feed
  }

  /** Disconnects it again. */
  unfeed(feed: Feed): void {
    if (this.#feed === feed) this.#feed = null
  }

  /** Calls `closer` when the connection closes; the function that is returned takes it back. */
  onClosed(closer: () => void): () => void {
    const closers = (this.#closers ??= new Set())
    closers.add(closer)
    return () => closers.delete(closer)
  }

  /** Settles when the output takes bytes again (`true`), or when the connection is closed (`false`). */
  room(): Promise<boolean> {
    if (!this.isOpen) return Promise.resolve(false)
    this.#room ??= deferred()
    return this.#room.promise
  }

  /**
   * Ends the response, after what the feed has due, as far as the output takes it, and `last`. The client resumes: also
   * one that was to be ended for good, and has not got all that is due to it.
   *
   * @param isConnectionClosed whether the connection is closed as well, because the process is about to go.
   */
  end(last = '', isConnectionClosed = false): void {
    if (!this.#isOpen) return
    this.#feed?.flush()
    this.#end(last, isConnectionClosed)
  }

  /**
   * Ends the response for good, after all that the feed has due and `last`: the client does not come back for what it
   * has not got, so a slow one is waited for, as long as it takes bytes.
   */
  endForGood(last: string): void {
    if (!this.isOpen) return
    this.#last = last
    this.#lastSince = this.context.watchdog.tick
    this.#notify()
    if (this.#feed === null || this.#feed.finish(() => this.#end(last))) this.#end(last)
  }

  /** Ends the response if the client's access has ended: `true` where it has. */
  expire(): boolean {
    if (!this.#isOpen || !this.#feed?.isExpired) return false
    this.end(streamEnd('expired'))
    return true
  }

  /** Ends the connection without waiting for the client to take anything. */
  destroy(): void {
    this.output.destroy()
    this.#gone()
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
    if (this.#last === null && tick >= this.#lastTick) this.end()
    else this.expire()
    if (output.full || !this.#isOpen) {
      if (output.stalledTicks() < context.stallTicks) return
      this.#feed?.stalled()
      this.destroy()
    } else if (this.#last !== null && tick - this.#lastSince >= context.stallTicks) {
      // Something other than the client keeps the feed from finishing, so the client comes back for the rest.
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

  #end(last: string, isConnectionClosed = false): void {
    if (!this.#isOpen) return
    if (last !== '') this.output.writeDirect(last)
    this.#close()
    const { isConnected } = this.output
    this.output.end(isConnectionClosed)
    if (!isConnected) this.#gone()
  }

  /** The response is over: nothing of it is left to look after. */
  #gone(): void {
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

  /** Tells those who write that it takes nothing more of them. */
  #notify(): void {
    this.#room?.resolve(false)
    this.#room = null
    const closers = this.#closers
    this.#closers = null
    for (const closer of closers ?? []) closer()
  }
}
