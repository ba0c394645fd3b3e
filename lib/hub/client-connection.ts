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
  /** Converts a duration into ticks of the connection's clock. */
  ticksIn(ms: number): number
  /** Attaches the feed that the connection calls from now on. */
  attach(feed: ConnectionFeed): void
  detach(feed: ConnectionFeed): void
  /**
   * Ends the response, so that the client reconnects. Before that, it sends the events that are due, until the output is full, and
   * then the block `last`.
   *
   * @param closesConnection whether the connection is closed as well, because the process is about to exit.
   */
  end(last: string, closesConnection?: boolean): void
  /** Ends the response after every event that is due and a `stream-close`, so that the client does not reconnect. */
  endForGood(): void
  /** Closes the connection without sending anything more. */
  destroy(): void
}

/** The source of a connection's events, apart from direct sends. The connection calls it. */
export interface ConnectionFeed {
  /** Whether the client's access has ended. The connection reads it about once a tick. */
  readonly isExpired: boolean
  /** The output accepts bytes again. */
  drained(): void
  /** Called about once a tick while the output accepts bytes. */
  watch(tick: number): void
  /** Nothing was written for a while. Returns `true` if the feed wrote something in place of the comment. */
  keepAlive(): boolean
  /** Writes the events that are due, until the output is full. */
  flush(): void
  /** Delivers the events that are due now and, if possible, no later ones. Returns `true` if they are written, or calls `done` later. */
  finish(done: () => void): boolean
  /** The client has taken nothing for `stallTimeoutMs`. The connection is destroyed after this call. */
  stalled(): void
  /** The connection accepts nothing more. */
  released(): void
  /** The response is over. */
  finished(): void
}
