import type { SharedBytes } from '../gzip/shared-bytes.ts'
import type { Chunk } from '../log/log-page.ts'
import type { Channel } from './channel.ts'
import type { ResetReason } from './control-events.ts'
import type { DirectWriter } from './direct-writer.ts'

/** The receiver of a subscriber's events: a stream, or an iterator. */
export interface Sink {
  /** Whether it accepts nothing at the moment. */
  readonly full: boolean
  /** Its output, for delivery in lockstep with other streams; `null` for a receiver that has no output. */
  readonly directWriter: DirectWriter | null
  /** Receives consecutive events of one channel. Other sinks receive the same object. */
  events(chunk: Chunk, channel: Channel): void
  /** The replay is complete, with `replayed` events. Everything that follows is live. */
  opened(position: number, replayed: number): void
  /** Events of the channels `lost` are missing. If there is no position, a snapshot follows, which carries one. */
  reset(position: number | undefined, lost: readonly string[], reason: ResetReason): void
  /** The cursor has moved to this position, past events that were not wanted. */
  moved(position: number): void
  /** Receives the encoded snapshot, without its id, and the position that it belongs to. */
  snapshot(position: number, body: SharedBytes): void
  /** Ends the stream, so that the client reconnects. The subscriber delivers nothing after this call. */
  endForReconnect(reason: 'expired' | 'unavailable'): void
  /** Gathers the writes up to {@link uncork} into one. */
  cork(): void
  uncork(): void
}
