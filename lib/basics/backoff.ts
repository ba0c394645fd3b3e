/** Delays of a backoff in milliseconds, before the random factor: the first one, and the longest one. */
export interface BackoffBounds {
  readonly min: number
  readonly max: number
}

/**
 * Delay before the next attempt, in milliseconds: `min`, doubled after each failed attempt up to `max`, times a random factor
 * between 0.5 and 1 so that processes that failed together do not retry together.
 *
 * @param attempt index of the attempt that failed, beginning with 0.
 */
export function backoffMs(attempt: number, { min, max }: BackoffBounds): number {
  return Math.min(max, min * 2 ** attempt) * (0.5 + Math.random() / 2)
}
