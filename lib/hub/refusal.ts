import { SseError, type SseErrorCode } from '../basics/errors.ts'
import { type DelayRange, randomDelay, SOON_MS, streamEnd, type StreamEndReason } from './stream-end.ts'

/**
 * The reason for which a stream was refused: a limit was reached (`'maxSubscribers'`, `'maxSubscribersPerOwner'`), the hub is closing, a
 * callback of the route failed (`'fault'`), the backplane did not answer, or the stream was disconnected before it began.
 */
export type RefusalReason = 'maxSubscribers' | 'maxSubscribersPerOwner' | 'closing' | 'fault' | 'backplane' | 'disconnected'

/** The delay for clients that would be refused again soon. */
const LATER_MS: DelayRange = { min: 10_000, max: 30_000 }

/**
 * The refusal of one stream. An EventSource stops for good at a status of 503, so it receives 200, a `stream-end` event with a
 * `retry:`, and the end. A client that does not accept event streams receives the error, with `Retry-After`.
 */
export interface Refusal {
  readonly reason: RefusalReason
  /** The answer for a client that does not accept event streams. */
  readonly error: SseError
  /** The last block of the stream, for a client that does. */
  readonly last: string
  /** Whether the client must not reconnect. It receives `stream-close` in place of {@link last}. */
  readonly isFinal: boolean
}

interface Cause {
  readonly code: SseErrorCode
  readonly text: string
  readonly end: StreamEndReason
  readonly delay: DelayRange
}

const CAUSES: Readonly<Record<RefusalReason, Cause>> = {
  maxSubscribers: {
    code: 'SSE_LIMIT_REACHED',
    text: 'the hub has as many subscribers as maxSubscribers allows',
    end: 'limit',
    delay: LATER_MS,
  },
  maxSubscribersPerOwner: {
    code: 'SSE_LIMIT_REACHED',
    text: 'this owner has as many subscribers as maxSubscribersPerOwner allows',
    end: 'limit',
    delay: LATER_MS,
  },
  closing: { code: 'SSE_HUB_CLOSED', text: 'the hub is closing', end: 'closing', delay: SOON_MS },
  fault: { code: 'SSE_UNAVAILABLE', text: 'a callback of the route failed', end: 'unavailable', delay: LATER_MS },
  backplane: { code: 'SSE_BACKPLANE_UNAVAILABLE', text: 'the backplane of the hub did not answer', end: 'unavailable', delay: SOON_MS },
  disconnected: { code: 'SSE_UNAVAILABLE', text: 'the stream was disconnected before it began', end: 'disconnected', delay: SOON_MS },
}

/** Options of {@link refusal}. */
export interface RefusalOptions {
  /** Whether the client must not reconnect. Default `false`. */
  readonly isFinal?: boolean
  /** Whether the client may reconnect soon, although a limit was reached. Default `false`. */
  readonly isSoon?: boolean
}

/** Creates the refusal for one client. */
export function refusal(reason: RefusalReason, { isFinal = false, isSoon = false }: RefusalOptions = {}): Refusal {
  const { code, text, end, delay } = CAUSES[reason]
  const ms = randomDelay(isSoon ? SOON_MS : delay)
  const seconds = Math.ceil(ms / 1_000)
  const error = new SseError(code, `subscribe: ${text}; retry in ${seconds} s`, { headers: { 'Retry-After': String(seconds) } })
  return { reason, error, last: streamEnd(end, ms), isFinal }
}

/** The last block of an open stream that is ended because of a limit. */
export function limitEnd(): string {
  return streamEnd('limit', randomDelay(LATER_MS))
}
