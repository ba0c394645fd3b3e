import type { SharedBytes } from '../gzip/shared-bytes.ts'
import type { Chunk } from '../log/log-page.ts'
import type { Channel } from './channel.ts'
import type { DirectWriter } from './lockstep-group.ts'
import type { ResetReason } from './control-events.ts'

/** What takes a subscriber's events. */
export interface Sink {
  /** Whether it takes nothing now. */
  readonly full: boolean
  /** Where the bytes go that others who keep step are given too; `null` where there are none. */
  readonly directWriter: DirectWriter | null
  /** Takes a stretch of events of one channel, which others are given too. */
  events(chunk: Chunk, channel: Channel): void
  /** The replay is over, with so many events: what follows is live. */
  opened(position: number, replayed: number): void
  /** Events of these channels were lost. Without a position, a snapshot follows that has one. */
  reset(position: number | undefined, lost: readonly string[], reason: ResetReason): void
  /** Everything up to the position was dealt with, though nothing of it was wanted. */
  moved(position: number): void
  /** Takes the encoded state of the channels, which others are given too, and the position that it belongs to. */
  snapshot(position: number, body: SharedBytes): void
  /** Ends the stream: nothing more may be delivered, and the client has to reconnect. */
  endForReconnect(reason: 'expired' | 'unavailable'): void
  cork(): void
  uncork(): void
}
