import { formatEvent } from '../event/event.ts'

/**
 * The reason for which the server ends a stream whose client should reconnect: the hub closes (`'closing'`), a limit was reached
 * (`'limit'`), the client's access ended (`'expired'`) or was taken away (`'disconnected'`), or something that the stream needs has failed
 * (`'unavailable'`).
 */
export type StreamEndReason = 'closing' | 'limit' | 'expired' | 'disconnected' | 'unavailable'

/** A range of delays in ms. Each client gets a random one, so that they do not reconnect all at once. */
export interface DelayRange {
  readonly min: number
  readonly max: number
}

/** The delay for clients that can be served again soon. */
export const SOON_MS: DelayRange = { min: 1_000, max: 5_000 }

/** The last block of a stream whose client reconnects after `retryMs`: a `stream-end` event. */
export function streamEnd(reason: StreamEndReason, retryMs = randomDelay(SOON_MS)): string {
  return formatEvent(JSON.stringify({ reason }), { event: 'stream-end', retry: retryMs })
}

/** 23 days. It must stay below 2^31 ms, because a client on Node treats a longer delay as none and reconnects in an endless loop. */
const NEVER_MS = 2_000_000_000

/** The last block of a stream whose client must not reconnect. */
export const STREAM_CLOSE = formatEvent('', { event: 'stream-close', retry: NEVER_MS })

/** A random whole number of milliseconds within the range, both ends included. */
export function randomDelay({ min, max }: DelayRange): number {
  return min + Math.floor(Math.random() * (max - min + 1))
}
