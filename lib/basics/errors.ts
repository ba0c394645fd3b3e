import { inspect } from 'node:util'

/** Every `code` that an {@link SseError} can have. The set is closed: adding a code takes a new minor version. */
export type SseErrorCode =
  | 'SSE_NOT_ACCEPTABLE'
  | 'SSE_HEAD_SENT'
  | 'SSE_INVALID_EVENT'
  | 'SSE_INVALID_DATA'
  | 'SSE_INVALID_CHANNEL'
  | 'SSE_INVALID_FILTER'
  | 'SSE_ALREADY_SUBSCRIBED'
  | 'SSE_ID_RESERVED'
  | 'SSE_HUB_CLOSED'
  | 'SSE_INVALID_KEY'
  | 'SSE_INVALID_OWNER'
  | 'SSE_INVALID_SNAPSHOT'
  | 'SSE_SNAPSHOT_NOT_SHARED'
  | 'SSE_LIMIT_REACHED'
  | 'SSE_UNAVAILABLE'
  | 'SSE_BACKPLANE_UNAVAILABLE'
  | 'SSE_BACKPLANE_MISSING'
  | 'SSE_BAD_REQUEST'
  | 'SSE_FORBIDDEN'

const STATUS: Readonly<Partial<Record<SseErrorCode, number>>> = {
  SSE_NOT_ACCEPTABLE: 406,
  SSE_HUB_CLOSED: 503,
  SSE_LIMIT_REACHED: 503,
  SSE_UNAVAILABLE: 503,
  SSE_BACKPLANE_UNAVAILABLE: 503,
  SSE_BAD_REQUEST: 400,
  SSE_FORBIDDEN: 403,
}

/** Brand by which two copies of this package in one process recognise each other's errors. */
const BRAND = Symbol.for('express-sse-hub.SseError')

/**
 * The error that this package throws, rejects with, or passes to Express. Only a wrong option or argument throws a
 * `TypeError` or `RangeError` instead.
 *
 * Tell errors apart by `code`. `instanceof SseError` is also true for an error that another copy of this package made.
 */
export class SseError extends Error {
  override readonly name = 'SseError'
  /** Identifies the kind of error. It is stable across versions. */
  readonly code: SseErrorCode
  /** HTTP status that Express's error handling responds with: 400, 403, 406 or 503 for some codes, 500 for all others. */
  readonly status: number
  /** Headers that Express's error handling adds to the response, such as `Retry-After` with status 503. */
  readonly headers: Readonly<Record<string, string>> | undefined
  readonly [BRAND] = true

  constructor(
    code: SseErrorCode,
    message: string,
    options: { readonly cause?: unknown; readonly headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.headers = options.headers
    this.code = code
    this.status = STATUS[code] ?? 500
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && BRAND in value
  }
}

/** Formats a value for an error message: on one line, and cut after 120 UTF-16 units to keep the message readable. */
export function describeValue(value: unknown): string {
  let text: string
  try {
    // An error is shown by its message, because its stack has many lines and reveals paths of the server.
    text =
      value instanceof Error
        ? `[${value.name}: ${value.message}]`
        : inspect(value, { depth: 0, maxStringLength: 60, maxArrayLength: 4, breakLength: Infinity })
    text = text.slice(0, 1_000).replaceAll(/\s*[\r\n]\s*/g, ' ')
  } catch {
    text = typeof value
  }
  return text.length > 120 ? `${text.slice(0, 120).toWellFormed()}…` : text
}

/** The beginning of an error message about publishing an event. */
export function publishPrefix(channel: string, event: string): string {
  return `publish ${describeValue(event)} to ${describeValue(channel)}: `
}
