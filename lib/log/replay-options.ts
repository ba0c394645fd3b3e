import { describeValue } from '../basics/errors.ts'
import { checkBoolean, checkInteger, checkOptions, MAX_DELAY_MS } from '../basics/options.ts'

/** The bounds of a channel's replay log. The first bound to be reached drops the oldest events. */
export interface ReplayOptions {
  /** Number of events to keep. `0` keeps none, so that delivery is live only. Default 1,000. */
  readonly maxEvents?: number | undefined
  /** Time for which an event is kept, in milliseconds. Default 300,000 (5 minutes). */
  readonly maxAgeMs?: number | undefined
  /** Bytes of encoded events to keep. Default 1,048,576 (1 MiB). */
  readonly maxBytes?: number | undefined
  /**
   * Whether an event that is published with a `key` replaces the previous event with that key. The log then keeps only the
   * newest event of each key. A subscriber that has not received the older event yet, because it is behind or because both
   * were published in one turn of the event loop, receives only the newer one. Default `false`.
   */
  readonly latestPerKey?: boolean | undefined
}

/** {@link ReplayOptions} that have been checked, with their defaults filled in. */
export type ReplayBounds = { readonly [K in keyof ReplayOptions]-?: Exclude<ReplayOptions[K], undefined> }

/**
 * Checks replay options and fills in their defaults.
 *
 * @param name the name of the options in error messages.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type, or is out of range.
 */
export function replayBounds(name: string, options: ReplayOptions | undefined): ReplayBounds {
  if (options !== undefined && (typeof options !== 'object' || options === null || Array.isArray(options))) {
    throw new TypeError(`${name} must be an object of bounds, such as { maxEvents: 100 }, got ${describeValue(options)}`)
  }
  checkOptions(name, options, ['maxEvents', 'maxAgeMs', 'maxBytes', 'latestPerKey'])
  return {
    maxEvents: checkInteger(`${name}.maxEvents`, options?.maxEvents, 1_000, { min: 0 }),
    maxAgeMs: checkInteger(`${name}.maxAgeMs`, options?.maxAgeMs, 300_000, { min: 1, max: MAX_DELAY_MS }),
    maxBytes: checkInteger(`${name}.maxBytes`, options?.maxBytes, 1_048_576, { min: 0 }),
    latestPerKey: checkBoolean(`${name}.latestPerKey`, options?.latestPerKey, false),
  }
}
