import { SseError, type SseErrorCode } from '../basics/errors.ts'

/** Why a stream was refused: at a limit, because the hub closes, a callback of the program failed, the backplane is away, or it was disconnected before it began. */
export type RefusalReason = 'maxSubscribers' | 'maxSubscribersPerOwner' | 'closing' | 'fault' | 'backplane' | 'disconnected'

/** A client that is told to come back does so within this range, so that not all come at once. */
const RETURN_MS = { min: 1_000, max: 5_000 }
/** The same for one that is refused for as long as things stay as they are: it should not try again and again. */
const REFUSED_MS = { min: 10_000, max: 30_000 }
const PASSING: ReadonlySet<RefusalReason> = new Set(['closing', 'backplane', 'disconnected'])

/**
 * A polite refusal. An EventSource that is answered 503 stops for good, so it gets 200, a `retry:` and the end; what does
 * not accept event streams gets the error, with `Retry-After`.
 */
export interface Refusal {
  readonly reason: RefusalReason
  /** For what does not accept event streams. */
  readonly error: SseError
  /** For what does: the last block of its stream. */
  readonly last: string
}

const CAUSES: Readonly<Record<RefusalReason, readonly [SseErrorCode, string]>> = {
  maxSubscribers: ['SSE_LIMIT_REACHED', 'the hub has as many subscribers as maxSubscribers allows'],
  maxSubscribersPerOwner: ['SSE_LIMIT_REACHED', 'there are as many subscribers of this owner as maxSubscribersPerOwner allows'],
  closing: ['SSE_HUB_CLOSED', 'the hub is closing'],
  fault: ['SSE_UNAVAILABLE', 'the subscription could not be prepared'],
  backplane: ['SSE_BACKPLANE_UNAVAILABLE', 'the backplane of the hub did not answer'],
  disconnected: ['SSE_UNAVAILABLE', 'the subscription was ended before it began'],
}

/** @param isPassing whether the client is to come back soon; by default that depends on the reason. */
export function refusal(reason: RefusalReason, isPassing: boolean = PASSING.has(reason)): Refusal {
  const ms = randomFrom(isPassing ? RETURN_MS : REFUSED_MS)
  const seconds = Math.ceil(ms / 1_000)
  const [code, what] = CAUSES[reason]
  const error = new SseError(code, `${what}: come back in ${seconds} s`, { headers: { 'Retry-After': String(seconds) } })
  return { reason, error, last: retryBlock(ms) }
}

/** Tells a client to come back within 1 to 5 s. */
export function comeBack(): string {
  return retryBlock(randomFrom(RETURN_MS))
}

function retryBlock(ms: number): string {
  return `retry: ${ms}\n\n`
}

function randomFrom({ min, max }: { readonly min: number; readonly max: number }): number {
  return min + Math.floor(Math.random() * (max - min + 1))
}
