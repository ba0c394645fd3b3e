import { formatEvent } from '../event/event.ts'

/**
 * Why the server ends a stream whose client it expects back: the hub closes, a limit was reached, the client's access
 * expired or was taken away, or a part that the stream needs did not answer.
 */
export type StreamEndReason = 'closing' | 'limit' | 'expired' | 'disconnected' | 'unavailable'

/** A range of milliseconds, from which each client is given its own: they do not all come back at once. */
export interface DelayRange {
  readonly min: number
  readonly max: number
}

/** The delay for clients that can be served again soon. */
export const SOON_MS: DelayRange = { min: 1_000, max: 5_000 }

/** The last block of a stream whose client is to reconnect after `retryMs`: a `stream-end` event. */
export function streamEnd(reason: StreamEndReason, retryMs = randomDelay(SOON_MS)): string {
  return formatEvent(JSON.stringify({ reason }), { event: 'stream-end', retry: retryMs })
}

/** A whole number of milliseconds within the range, both ends included. */
export function randomDelay({ min, max }: DelayRange): number {
  return min + Math.floor(Math.random() * (max - min + 1))
}
