import { inspect } from 'node:util'

/** Every `code` that an {@link SseError} can carry. The set is closed: a new one is a new minor version. */
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

/** Two copies of this package in one process recognise each other's errors by it. */
const BRAND = Symbol.for('express-sse-hub.SseError')

/**
 * What this package throws, rejects with, or hands to Express, apart from the `TypeError` and `RangeError`
 * of a wrong option or argument.
 *
 * Tell errors apart by `code`; `status` is the HTTP status that Express's error handling honours
 * (400, 403, 406 and 503 where they apply, otherwise 500). `instanceof SseError` also holds for an error that another
 * copy of the package made.
 */
export class SseError extends Error {
  override readonly name = 'SseError'
  /** What went wrong, stable across versions. */
  readonly code: SseErrorCode
  /** The HTTP status for it, read by Express: 400, 403, 406, 503 or 500. */
  readonly status: number
  /** Headers that belong to the answer, set by Express's own error handling: `Retry-After` where the status is 503. */
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

/** A value as it appears in an error message: one line, cut at a length that keeps the message readable. */
export function describeValue(value: unknown): string {
  let text: string
  try {
    // Of an error the message: its stack has many lines, and paths that are nobody's business.
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

/** The beginning of an error message about a publish. */
export function publishPrefix(channel: string, event: string): string {
  return `publish ${describeValue(event)} to ${describeValue(channel)}: `
}
