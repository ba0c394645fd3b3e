import { SseError, describeValue } from './errors.ts'

const MAX_NAME_UNITS = 256

/** Whether a value is a well-formed string of 1 to 256 UTF-16 units. */
export function isName(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= MAX_NAME_UNITS && value.isWellFormed()
}

/** Checks the name of a channel. `where` is the call that begins the message of the error. */
export function checkChannelName(where: string, name: unknown): void {
  if (isName(name)) return
  throw new SseError(
    'SSE_INVALID_CHANNEL',
    `${where}: a channel name must be a well-formed string of 1 to ${MAX_NAME_UNITS} UTF-16 units, got ${describeValue(name)}`,
  )
}

/**
 * Checks one channel name or a list of them. The list that is returned has each name once.
 *
 * @throws {SseError} `SSE_INVALID_CHANNEL` for anything that is not such a name; {RangeError} for an empty list.
 */
export function checkChannels(where: string, channels: unknown): string[] {
  const list: readonly unknown[] = Array.isArray(channels) ? channels : [channels]
  if (list.length === 0) throw new RangeError(`${where}: channels must name at least one channel, got []`)
  for (const name of list) checkChannelName(where, name)
  return [...new Set(list as readonly string[])]
}

/** A part of a name that a template with a missing value leaves behind. */
const MISSING_VALUE = /(?:^|[:/.|])(?:undefined|NaN)(?:$|[:/.|])/

/** Whether a segment of a name is `undefined` or `NaN`, as in `user:undefined`: strangers would share it. */
export function hasMissingValue(name: string): boolean {
  return MISSING_VALUE.test(name)
}

/** Checks the name of a program's event. `where` is the call that begins the message of the error. */
export function checkEventName(where: string, event: unknown): void {
  if (typeof event === 'string' && event !== '' && !/[\r\n]/.test(event) && !event.startsWith('stream-')) return
  throw new SseError(
    'SSE_INVALID_EVENT',
    `${where}: an event name must be a string that is not empty, has no CR or LF and does not begin with "stream-", got ${describeValue(event)}`,
  )
}

/** Checks a key by which events are told apart; `undefined` is none. */
export function checkKey(name: string, key: string | undefined): string | undefined {
  if (key === undefined) return key
  if (isName(key)) return detachString(key)
  throw new SseError(
    'SSE_INVALID_KEY',
    `${name} must be a well-formed string of 1 to ${MAX_NAME_UNITS} UTF-16 units, got ${describeValue(key)}`,
  )
}

/** Checks whose connection a stream is; `undefined` is nobody's. It may come from a client: any length will do. */
export function checkOwner(name: string, owner: string | undefined): string | undefined {
  if (owner === undefined) return owner
  if (typeof owner === 'string' && owner !== '') return detachString(owner)
  throw new SseError('SSE_INVALID_OWNER', `${name} must be a string that is not empty, got ${describeValue(owner)}`)
}

/** A copy of a string that is kept for long: a part of a larger one would keep all of that. */
export function detachString(text: string): string {
  return Buffer.from(text, 'utf16le').toString('utf16le')
}
