import { types } from 'node:util'
import { SseError, describeValue } from '../basics/errors.ts'
import { isThenable, ignoreRejection } from '../basics/promises.ts'
import { MAX_DELAY_MS } from '../basics/options.ts'

/** The optional fields of an event besides its data. `null` means the same as omitting the field. */
export interface EventFields {
  /**
   * Name of the event, without CR or LF. If it is omitted, `''` or `'message'`, no `event:` line is written, and clients
   * receive the event with `onmessage`.
   */
  readonly event?: string | null | undefined
  /**
   * Value that the client sends back as `Last-Event-ID`: a string without CR, LF or NUL, or a safe integer. `''` clears the id
   * of the client.
   */
  readonly id?: string | number | null | undefined
  /** Milliseconds that the client waits before it reconnects, an integer from 0 to 2,147,483,647. */
  readonly retry?: number | null | undefined
}

/** {@link EventFields} that have been checked, with one type per field. */
export interface CheckedFields {
  readonly event?: string | undefined
  readonly id?: string | undefined
  readonly retry?: number | undefined
}

/** The input of {@link encodeEvent}. */
export interface EventInput extends EventFields {
  /** The payload. A string is sent unchanged, any other value as JSON. Bytes, promises, Maps, Sets and Errors are refused. */
  readonly data: unknown
}

/** Converts a payload that is not a string to text. */
export type Serialize = (value: unknown) => string

/** Converts text made by {@link Serialize} back to the payload. */
export type Deserialize = (text: string) => unknown

const LINE_BREAK = /\r\n|\r|\n/
const BREAKS_LINE = /[\r\n]/
// oxlint-disable-next-line no-control-regex -- the standard forbids NUL in an id
const BREAKS_ID = /[\r\n\0]/

/**
 * Encodes one event as a block of a WHATWG event stream (HTML Standard, section 9.2) that ends with a blank line.
 *
 * Data is split at CRLF, CR and LF into `data:` lines. Trailing line breaks are kept.
 *
 * @throws {SseError} `SSE_INVALID_EVENT` if `event` or `id` contains a character that would end its line, if `id` contains a
 *   NUL (clients ignore such an id), or if `retry` is not an integer from 0 to 2,147,483,647. `SSE_INVALID_DATA` if `data` has
 *   no JSON form (`undefined`, a function, a BigInt, a cycle), or a JSON form that loses the content (bytes, a promise, a Map,
 *   a Set, an Error).
 * @example
 * encodeEvent({ event: 'created', id: '7', data: { total: 12 } })
 * // 'id: 7\nevent: created\ndata: {"total":12}\n\n'
 */
export function encodeEvent(input: EventInput): string {
  if (typeof input !== 'object' || input === null) {
    throw new SseError(
      'SSE_INVALID_EVENT',
      `encodeEvent: an event must be an object { data, event?, id?, retry? }, got ${describeValue(input)}`,
    )
  }
  const fields = checkedFields('encodeEvent', input, 'data')
  return formatEvent(
    toText(input.data, JSON.stringify, () => 'encodeEvent: '),
    fields,
  )
}

/** Encodes an event as {@link encodeEvent} does, from text and from fields that have already been checked. */
export function formatEvent(text: string, fields: CheckedFields): string {
  let block = ''
  if (fields.id !== undefined) block += `id: ${fields.id}\n`
  if (fields.retry !== undefined) block += `retry: ${fields.retry}\n`
  return block + formatBody(text, fields.event)
}

/** Formats the `event:` and `data:` lines of an event and the blank line that ends it. */
export function formatBody(text: string, event: string | undefined): string {
  const name = event === undefined || event === '' || event === 'message' ? '' : `event: ${event}\n`
  if (!BREAKS_LINE.test(text)) return `${name}data: ${text}\n\n`
  return `${name}data: ${text.split(LINE_BREAK).join('\ndata: ')}\n\n`
}

/**
 * Encodes a comment. Each line of the text becomes a comment line, which clients ignore. No blank line follows, because many
 * parsers treat every blank line as the end of an event.
 */
export function encodeComment(text = ''): string {
  if (text === '') return ':\n'
  return `: ${text.split(LINE_BREAK).join('\n: ')}\n`
}

const FIELDS = ['event', 'id', 'retry']

/**
 * Checks the fields of an event and returns a copy. No field of the copy contains a character that ends its line, so that a
 * value cannot forge another field or event. Each field is read only once, so that it cannot change after the check. The
 * check cannot be switched off.
 *
 * @param where the call that the error message begins with.
 * @param alsoAllowed a property that is allowed in addition to the fields.
 * @throws {SseError} `SSE_INVALID_EVENT` if a field is unknown or invalid.
 */
export function checkedFields(where: string, fields: EventFields, alsoAllowed?: 'data'): CheckedFields {
  for (const name of Object.keys(fields)) {
    if (!FIELDS.includes(name) && name !== alsoAllowed) {
      throw new SseError(
        'SSE_INVALID_EVENT',
        `${where}: an event has no field ${describeValue(name)}; ` +
          `the fields are ${[...(alsoAllowed ? [alsoAllowed] : []), ...FIELDS].join(', ')}`,
      )
    }
  }
  const event = fields.event ?? undefined
  const id = checkedId(where, fields.id ?? undefined)
  const retry = fields.retry ?? undefined
  if (event !== undefined && (typeof event !== 'string' || BREAKS_LINE.test(event))) {
    throw new SseError('SSE_INVALID_EVENT', `${where}: event must be a string without CR or LF, got ${describeValue(event)}`)
  }
  if (retry !== undefined && !(Number.isInteger(retry) && retry >= 0 && retry <= MAX_DELAY_MS)) {
    throw new SseError(
      'SSE_INVALID_EVENT',
      `${where}: retry must be an integer from 0 to ${MAX_DELAY_MS} (milliseconds), got ${describeValue(retry)}`,
    )
  }
  return { event, id, retry }
}

function checkedId(where: string, id: string | number | undefined): string | undefined {
  if (id === undefined || (typeof id === 'string' && !BREAKS_ID.test(id))) return id
  if (Number.isSafeInteger(id)) return String(id)
  throw new SseError(
    'SSE_INVALID_EVENT',
    `${where}: id must be a string without CR, LF or NUL, or a safe integer, got ${describeValue(id)}`,
  )
}

/**
 * Converts a payload to text. A string stays as it is; any other value goes through `serialize`.
 *
 * @param where returns the beginning of error messages. It is a function because only an error needs the text.
 * @throws {SseError} `SSE_INVALID_DATA` if the payload is refused or cannot be serialised.
 */
export function toText(data: unknown, serialize: Serialize, where = (): string => ''): string {
  if (typeof data === 'string') return data
  if (typeof data === 'object' && data !== null) {
    const instead = replacementFor(data, serialize)
    if (instead !== undefined) {
      ignoreRejection(data)
      throw new SseError('SSE_INVALID_DATA', `${where()}${instead}, got ${describeValue(data)}`)
    }
  }
  let text: unknown
  try {
    text = serialize(data)
  } catch (error) {
    throw new SseError('SSE_INVALID_DATA', `${where()}data could not be serialised: ${reason(error)}; got ${describeValue(data)}`, {
      cause: error,
    })
  }
  if (text !== undefined && typeof text !== 'string') {
    ignoreRejection(text)
    throw new SseError('SSE_INVALID_DATA', `${where()}serialize must return a string, it returned ${describeValue(text)}`)
  }
  if (text === undefined) {
    throw new SseError('SSE_INVALID_DATA', `${where()}data must be a string or have a JSON form, got ${describeValue(data)}`)
  }
  return text
}

/**
 * Returns an error message for an object whose JSON form loses its content, or `undefined` for any other object. The message
 * says what to send instead. A custom `serialize` may support such objects, but it cannot support a promise.
 */
function replacementFor(data: object, serialize: Serialize): string | undefined {
  if (isThenable(data)) return 'data must not be a promise: await it'
  if (serialize !== JSON.stringify) return undefined
  if (ArrayBuffer.isView(data) || types.isAnyArrayBuffer(data)) {
    return (
      "data must be text, not bytes: decode it (readable.setEncoding('utf8'), " +
      'webStream.pipeThrough(new TextDecoderStream()), buffer.toString())'
    )
  }
  if ('toJSON' in data) return undefined
  if (types.isMap(data)) return 'data must not be a Map, whose JSON is {}: send Object.fromEntries(map) or [...map]'
  if (types.isSet(data)) return 'data must not be a Set, whose JSON is {}: send [...set]'
  // On Node 20, `isNativeError` is false for a DOMException, such as the reason of an aborted signal.
  if (types.isNativeError(data) || data instanceof DOMException) {
    return 'data must not be an Error, whose JSON is {}: send { message: error.message }, or other properties that clients may see'
  }
  return undefined
}

/** Parses the output of {@link formatBody} as a client does, which turns every line break of the data into LF. */
export function parseBlock(block: string): { readonly event: string; readonly text: string } {
  const start = block.startsWith('data: ') ? 0 : block.indexOf('\ndata: ') + 1
  const name = /(?:^|\n)event: ([^\n]*)\n/.exec(block.slice(0, start))
  return { event: name?.[1] ?? 'message', text: block.slice(start + 'data: '.length, -2).replaceAll('\ndata: ', '\n') }
}

function reason(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n', 1)[0] ?? '') : describeValue(error)
}
