import { SseError, describeValue } from './errors.ts'

const MAX_NAME_UNITS = 256

/** Whether a value is a well-formed string of 1 to 256 UTF-16 units. */
export function isName(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= MAX_NAME_UNITS && value.isWellFormed()
}

/**
 * Checks a channel name.
 *
 * @param where the call that the error message begins with.
 * @throws {SseError} `SSE_INVALID_CHANNEL` if it is not a valid name.
 */
export function checkChannelName(where: string, name: unknown): void {
  if (isName(name)) return
  throw new SseError(
    'SSE_INVALID_CHANNEL',
    `${where}: a channel name must be a well-formed string of 1 to ${MAX_NAME_UNITS} UTF-16 units, got ${describeValue(name)}`,
  )
}

/**
 * Checks one channel name or a list of names, and returns a list without duplicates.
 *
 * @throws {SseError} `SSE_INVALID_CHANNEL` if anything in the list is not a valid name.
 * @throws {RangeError} if the list is empty.
 */
export function checkChannels(where: string, channels: unknown): string[] {
  const list: readonly unknown[] = Array.isArray(channels) ? channels : [channels]
  if (list.length === 0) throw new RangeError(`${where}: channels must name at least one channel, got []`)
  for (const name of list) checkChannelName(where, name)
  return [...new Set(list as readonly string[])]
}

/** Matches a segment that a template literal with a missing value leaves in a name. */
const MISSING_VALUE = /(?:^|[:/.|])(?:undefined|NaN)(?:$|[:/.|])/

/** Whether a whole segment of a name is `undefined` or `NaN`, as in `user:undefined`. Unrelated users would share such a name. */
export function hasMissingValue(name: string): boolean {
  return MISSING_VALUE.test(name)
}

/**
 * Checks the name of an event that the program publishes. Names that begin with `stream-` are reserved for the hub's own events.
 *
 * @param where the call that the error message begins with.
 * @throws {SseError} `SSE_INVALID_EVENT` if it is not a valid name.
 */
export function checkEventName(where: string, event: unknown): void {
  if (typeof event === 'string' && event !== '' && !/[\r\n]/.test(event) && !event.startsWith('stream-')) return
  throw new SseError(
    'SSE_INVALID_EVENT',
    `${where}: an event name must be a non-empty string without CR or LF that does not begin with "stream-", got ${describeValue(event)}`,
  )
}

/** Checks the key or idempotency key of an event, and returns a {@link detachString detached} copy. `undefined` means no key. */
export function checkKey(name: string, key: string | undefined): string | undefined {
  if (key === undefined) return key
  if (isName(key)) return detachString(key)
  throw new SseError(
    'SSE_INVALID_KEY',
    `${name} must be a well-formed string of 1 to ${MAX_NAME_UNITS} UTF-16 units, got ${describeValue(key)}`,
  )
}

/**
 * Checks the owner of a stream, and returns a {@link detachString detached} copy. `undefined` means no owner. The value may
 * originate from a client, so its length is not limited.
 */
export function checkOwner(name: string, owner: string | undefined): string | undefined {
  if (owner === undefined) return owner
  if (typeof owner === 'string' && owner !== '') return detachString(owner)
  throw new SseError('SSE_INVALID_OWNER', `${name} must be a non-empty string, got ${describeValue(owner)}`)
}

/** Copies a name that is kept for a long time. V8 represents a substring as a view, which would keep the whole string in memory. */
export function detachString(text: string): string {
  return Buffer.from(text, 'utf16le').toString('utf16le')
}
