import { types } from 'node:util'
import { SseError, describeValue } from '../basics/errors.ts'
import { isThenable, ignoreRejection } from '../basics/promises.ts'
import { MAX_DELAY_MS } from '../basics/options.ts'

/** The fields that an event may have beside its data. `null` is the same as leaving a field out. */
export interface EventFields {
  /** The event's name: no CR or LF. Left out, `''` or `'message'`: no `event:` line, so that `onmessage` sees it. */
  readonly event?: string | null | undefined
  /** The value that the client sends back as `Last-Event-ID`: a string without CR, LF or NUL, or a safe integer. `''` clears the client's id. */
  readonly id?: string | number | null | undefined
  /** Milliseconds that the client waits before it reconnects: an integer from 0 to 2,147,483,647. */
  readonly retry?: number | null | undefined
}

/** {@link EventFields} that have been checked: each of them has one form. */
export interface CheckedFields {
  readonly event?: string | undefined
  readonly id?: string | undefined
  readonly retry?: number | undefined
}

/** One event, as {@link encodeEvent} takes it. */
export interface EventInput extends EventFields {
  /** The payload. A string is sent as it is, anything else as JSON. Bytes, a promise, a Map, a Set and an Error are refused. */
  readonly data: unknown
}

/** Turns a payload that is not a string into text. */
export type Serialize = (value: unknown) => string

/** Turns text that {@link Serialize} made into the payload again. */
export type Deserialize = (text: string) => unknown

const LINE_BREAK = /\r\n|\r|\n/
const BREAKS_LINE = /[\r\n]/
// oxlint-disable-next-line no-control-regex -- NUL is what the standard refuses in an id
const BREAKS_ID = /[\r\n\0]/

/**
 * Encodes one event as the text of a WHATWG event stream block (HTML Standard, section 9.2), ended by a blank line.
 *
 * Data is split at CRLF, CR and LF into `data:` lines, and trailing newlines are kept.
 *
 * @throws {SseError} `SSE_INVALID_EVENT` when `event` or `id` holds a character that would end its line (or a NUL in
 *   `id`, for which clients ignore the field) or when `retry` is not an integer from 0 to 2,147,483,647;
 *   `SSE_INVALID_DATA` when `data` has no JSON form (`undefined`, a function, a BigInt, a cycle), or one that is never what
 *   was meant (bytes, a promise, a Map, a Set, an Error).
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

/** The same as {@link encodeEvent}, for data that is text already and fields that have been checked. */
export function formatEvent(text: string, fields: CheckedFields): string {
  let block = ''
  if (fields.id !== undefined) block += `id: ${fields.id}\n`
  if (fields.retry !== undefined) block += `retry: ${fields.retry}\n`
  return block + formatBody(text, fields.event)
}

/** The `event:` and `data:` lines of an event, and the blank line that ends it. */
export function formatBody(text: string, event: string | undefined): string {
  const name = event === undefined || event === '' || event === 'message' ? '' : `event: ${event}\n`
  if (!BREAKS_LINE.test(text)) return `${name}data: ${text}\n\n`
  return `${name}data: ${text.split(LINE_BREAK).join('\ndata: ')}\n\n`
}

/**
 * Encodes a comment: every line of the text becomes a comment line, which clients ignore. No blank line follows, because
 * many parsers take each blank line for the end of an event.
 */
export function encodeComment(text = ''): string {
  if (text === '') return ':\n'
  return `: ${text.split(LINE_BREAK).join('\n: ')}\n`
}

const FIELDS = ['event', 'id', 'retry']

/**
 * A copy of the fields, read once, in which nothing can end its line and so forge another field or event. It cannot be
 * switched off.
 *
 * @param where the call that the message of an error begins with.
 * @param beside a name that may stand beside those of the fields.
 */
export function checkedFields(where: string, fields: EventFields, beside?: 'data'): CheckedFields {
  for (const name of Object.keys(fields)) {
    if (!FIELDS.includes(name) && name !== beside) {
      throw new SseError(
        'SSE_INVALID_EVENT',
        `${where}: an event has no field ${describeValue(name)}; the fields are ${[...(beside ? [beside] : []), ...FIELDS].join(', ')}`,
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
 * The text of a payload: a string as it is, anything else through `serialize`. The string that `where` returns begins the
 * messages of errors.
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
 * For an object whose JSON is never what was meant: a message that says what to send instead. A `serialize` of the
 * program's own may know such objects, but no promise.
 */
function replacementFor(data: object, serialize: Serialize): string | undefined {
  if (isThenable(data)) return 'data must not be a promise: await it'
  if (serialize !== JSON.stringify) return undefined
  if (ArrayBuffer.isView(data) || types.isAnyArrayBuffer(data)) {
    return "data must be text, not bytes: decode it (readable.setEncoding('utf8'), webStream.pipeThrough(new TextDecoderStream()), buffer.toString())"
  }
  if ('toJSON' in data) return undefined
  if (types.isMap(data)) return 'data must not be a Map, whose JSON is {}: send Object.fromEntries(map) or [...map]'
  if (types.isSet(data)) return 'data must not be a Set, whose JSON is {}: send [...set]'
  // On Node 20 a DOMException, such as the reason of an aborted signal, is no native error.
  if (types.isNativeError(data) || data instanceof DOMException) {
    return 'data must not be an Error, whose JSON is {}: send { message: error.message }, or what else clients may know'
  }
  return undefined
}

/** Reads back what {@link formatBody} wrote, with every line break of the data as LF: what a client reads. */
export function parseBlock(block: string): { readonly event: string; readonly text: string } {
  const start = block.startsWith('data: ') ? 0 : block.indexOf('\ndata: ') + 1
  const name = /(?:^|\n)event: ([^\n]*)\n/.exec(block.slice(0, start))
  return { event: name?.[1] ?? 'message', text: block.slice(start + 'data: '.length, -2).replaceAll('\ndata: ', '\n') }
}

function reason(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n', 1)[0] ?? '') : describeValue(error)
}
