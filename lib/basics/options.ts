import { describeValue } from './errors.ts'

/** The longest delay that a timer of Node or of a client supports. A timer with a longer delay fires at once. */
export const MAX_DELAY_MS = 2_147_483_647

/**
 * Checks that `value` is `undefined` or an object that has no properties other than `names`.
 *
 * @param where the class or function that the error message begins with.
 */
export function checkOptions(where: string, value: unknown, names: readonly string[]): void {
  if (value === undefined) return
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError(`${where}: options must be an object, got ${describeValue(value)}; the options are ${names.join(', ')}`)
  }
  for (const name of Object.keys(value)) {
    if (!names.includes(name)) {
      throw new TypeError(`${where}: there is no option ${describeValue(name)}; the options are ${names.join(', ')}`)
    }
  }
}

interface Range {
  readonly min: number
  readonly max?: number
  /** Whether the error message offers `false` as an alternative. */
  readonly orFalse?: boolean
}

/** Checks an integer option. Returns `fallback` for `undefined`. */
export function checkInteger(name: string, value: unknown, fallback: number, range: Range): number {
  if (value === undefined) return fallback
  const { min, max = Number.MAX_SAFE_INTEGER, orFalse } = range
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
  const bounds = range.max === undefined ? `an integer, ${min} or more` : `an integer from ${min} to ${max}`
  const message = `${name} must be ${bounds}${orFalse ? ', or false' : ''}, got ${describeValue(value)}`
  throw typeof value === 'number' ? new RangeError(message) : new TypeError(message)
}

/** Checks a duration in milliseconds that `false` switches off. Returns `fallback` for `undefined`. */
export function checkDuration(name: string, value: unknown, fallback: number | false, min = 1): number | false {
  if (value === false) return false
  // `checkInteger` takes no `false` as a default, so the default is returned here.
  return value === undefined ? fallback : checkInteger(name, value, 0, { min, max: MAX_DELAY_MS, orFalse: true })
}

/** Checks a boolean option. Returns `fallback` for `undefined`. */
export function checkBoolean(name: string, value: unknown, fallback: boolean): boolean {
  if (value === undefined) return fallback
  if (typeof value !== 'boolean') throw new TypeError(`${name} must be a boolean, got ${describeValue(value)}`)
  return value
}

/** Checks a function option. Returns `fallback` for `undefined`. */
export function checkFunction<F>(name: string, value: F | undefined, fallback: F): F {
  if (value === undefined) return fallback
  if (typeof value !== 'function') throw new TypeError(`${name} must be a function, got ${describeValue(value)}`)
  return value
}
