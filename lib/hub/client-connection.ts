import type { DirectWriter } from '../delivery/direct-writer.ts'
import type { SharedBytes } from '../gzip/shared-bytes.ts'

/** The output of a stream, as a subscription uses it. */
export interface ClientOutput extends DirectWriter {
  /** Tick of the last write. Code that writes to the socket directly must update it. */
  touched: number
  /** Writes bytes that other streams may receive too. Call it only while the output is not full. */
  write(shared: SharedBytes): void
  /** Writes bytes for this stream alone. Call it only while the output is not full. */
  writeOwn(bytes: Buffer): void
  /** Gathers the writes up to {@link uncork} into one. */
  cork(): void
  uncork(): void
}

/** The connection of one client, as its subscription uses it. */
export interface ClientConnection {
  readonly output: ClientOutput
  /** Whether it accepts events. The program may end the response itself. */
  readonly isOpen: boolean
  /** The interval of keep-alives in ms, as `stream-open` announces it. */
  readonly keepAliveMs: number | false
  /** The ticks of the connection's clock in a duration. */
  ticksIn(ms: number): number
  /** Attaches the feed that the connection calls from now on. */
  attach(feed: ConnectionFeed): void
  detach(feed: ConnectionFeed): void
  /**
   * Ends the response, so that the client reconnects. Before the end it sends what the feed has due, as far as the output accepts
   * it, and the block `last`.
   *
   * @param closesConnection whether the connection is closed as well, because the process is about to exit.
   */
  end(last: string, closesConnection?: boolean): void
  /** Ends the response after everything that the feed has due and a `stream-close`, so that the client does not reconnect. */
  endForGood(): void
  /** Closes the connection without sending anything more. */
  destroy(): void
}

/** The source of a connection's events, beside direct sends. The connection calls it. */
export interface ConnectionFeed {
  /** Whether the client's access has ended. The connection asks about once a tick. */
  readonly isExpired: boolean
  /** The output accepts bytes again. */
  drained(): void
  /** Called about once a tick while the output accepts bytes. */
  watch(tick: number): void
  /** Nothing was written for a while. Returns `true` if the feed wrote something in place of the comment. */
  keepAlive(): boolean
  /** Writes what is due, as far as the output accepts it. */
  flush(): void
  /** Delivers what is due now and nothing later. Returns `true` if that is written; otherwise it calls `done` then. */
  finish(done: () => void): boolean
  /** The client has taken nothing for `stallTimeoutMs`. The connection is destroyed after this call. */
  stalled(): void
  /** The connection accepts nothing more. */
  released(): void
  /** The response is over. */
  finished(): void
}
