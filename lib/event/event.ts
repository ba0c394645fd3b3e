import { SseError, show } from '../basics/errors.ts'
import { MAX_DELAY_MS } from '../basics/options.ts'

/** The fields that an event may have beside its data. */
export interface EventFields {
  /** The event's name: no CR or LF. Left out, `''` or `'message'`: no `event:` line, so that `onmessage` sees it. */
  readonly event?: string | undefined
  /** What the client sends back as `Last-Event-ID`: no CR, LF or NUL. `''` clears the client's id. */
  readonly id?: string | undefined
  /** Milliseconds that the client waits before it reconnects: an integer from 0 to 2,147,483,647. */
  readonly retry?: number | undefined
}

/** One event, as {@link encodeEvent} takes it. */
export interface EventInput extends EventFields {
  /** The payload. A string is sent as it is, anything else as JSON. */
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
 *   `SSE_INVALID_DATA` when `data` has no JSON form (`undefined`, a function, a BigInt, a cycle).
 * @example
 * encodeEvent({ event: 'created', id: '7', data: { total: 12 } })
 * // 'id: 7\nevent: created\ndata: {"total":12}\n\n'
 */
export function encodeEvent(input: EventInput): string {
  if (typeof input !== 'object' || input === null) {
    throw new SseError('SSE_INVALID_EVENT', `an event must be an object { data, event?, id?, retry? }, got ${show(input)}`)
  }
  const fields = checkedFields(input, 'data')
  return formatEvent(toText(input.data, JSON.stringify), fields)
}

/** The same as {@link encodeEvent}, for data that is text already and fields that have been checked. */
export function formatEvent(text: string, fields: EventFields): string {
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

/** Encodes a comment: every line of the text becomes a comment line, which clients ignore. */
export function encodeComment(text = ''): string {
  if (text === '') return ':\n\n'
  return `: ${text.split(LINE_BREAK).join('\n: ')}\n\n`
}

const FIELDS = ['event', 'id', 'retry']

/**
 * A copy of the fields, read once, in which nothing can end its line and so forge another field or event. It cannot be
 * switched off.
 *
 * @param beside a name that may stand beside those of the fields.
 */
export function checkedFields(fields: EventFields, beside?: 'data'): EventFields {
  for (const name of Object.keys(fields)) {
    if (!FIELDS.includes(name) && name !== beside) {
      throw new SseError('SSE_INVALID_EVENT', `an event has no field ${show(name)}; the fields are ${[...(beside ? [beside] : []), ...FIELDS].join(', ')}`)
    }
  }
  const { event, id, retry } = fields
  if (event !== undefined && (typeof event !== 'string' || BREAKS_LINE.test(event))) {
    throw new SseError('SSE_INVALID_EVENT', `event must be a string without CR or LF, got ${show(event)}`)
  }
  if (id !== undefined && (typeof id !== 'string' || BREAKS_ID.test(id))) {
    throw new SseError('SSE_INVALID_EVENT', `id must be a string without CR, LF or NUL, got ${show(id)}`)
  }
  if (retry !== undefined && !(Number.isInteger(retry) && retry >= 0 && retry <= MAX_DELAY_MS)) {
    throw new SseError('SSE_INVALID_EVENT', `retry must be an integer from 0 to ${MAX_DELAY_MS} (milliseconds), got ${show(retry)}`)
  }
  return { event, id, retry }
}

/** The text of a payload: a string as it is, anything else through `serialize`. What `where` gives begins the messages of errors. */
export function toText(data: unknown, serialize: Serialize, where = (): string => ''): string {
  if (typeof data === 'string') return data
  let text: unknown
  try {
    text = serialize(data)
  } catch (error) {
    throw new SseError('SSE_INVALID_DATA', `${where()}data could not be serialised: ${reason(error)}; got ${show(data)}`, { cause: error })
  }
  if (text !== undefined && typeof text !== 'string') {
    throw new SseError('SSE_INVALID_DATA', `${where()}serialize must return a string, it returned ${show(text)}`)
  }
  if (text === undefined) {
    throw new SseError('SSE_INVALID_DATA', `${where()}data must be a string or have a JSON form, got ${show(data)}`)
  }
  return text
}

/** Reads back what {@link formatBody} wrote, with every line break of the data as LF: what a client reads. */
export function parseBlock(block: string): { readonly event: string; readonly text: string } {
  const start = block.startsWith('data: ') ? 0 : block.indexOf('\ndata: ') + 1
  const name = /(?:^|\n)event: ([^\n]*)\n/.exec(block.slice(0, start))
  return { event: name?.[1] ?? 'message', text: block.slice(start + 'data: '.length, -2).replaceAll('\ndata: ', '\n') }
}

function reason(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n', 1)[0] ?? '') : show(error)
}
