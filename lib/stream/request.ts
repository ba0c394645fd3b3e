import { isUtf8 } from 'node:buffer'
import type { IncomingHttpHeaders } from 'node:http'

/** The part of a request that is read. It is the same for HTTP/1, HTTP/2 and Express. */
export interface StreamRequest {
  readonly method?: string | undefined
  readonly url?: string | undefined
  readonly headers: IncomingHttpHeaders
}

/** The media ranges that match `text/event-stream`, and how specific each one is. */
const MEDIA_RANGES: ReadonlyMap<string, number> = new Map([
  ['*/*', 1],
  ['text/*', 2],
  ['text/event-stream', 3],
])

/** The content codings that match gzip, and how specific each one is. */
const CODINGS: ReadonlyMap<string, number> = new Map([
  ['*', 1],
  ['gzip', 2],
  ['x-gzip', 2],
])

/**
 * Whether an `Accept` header allows `text/event-stream` (RFC 9110, section 12.5.1). The most specific range that matches decides, `q=0`
 * refuses, and a missing or empty header allows everything.
 */
export function acceptsEventStream(accept: string | undefined): boolean {
  // The usual values, sent by an EventSource and by most other clients.
  if (accept === undefined || accept === 'text/event-stream' || accept === '*/*') return true
  return accept.trim() === '' || isAllowed(accept, MEDIA_RANGES)
}

/**
 * Whether an `Accept-Encoding` header allows gzip (RFC 9110, section 12.5.3). A missing or empty header does not, because clients without
 * it seldom decode anything.
 */
export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  return acceptEncoding !== undefined && isAllowed(acceptEncoding, CODINGS)
}

/** Whether a list of ranges with qualities allows something. The most specific range that matches decides. */
function isAllowed(list: string, specificities: ReadonlyMap<string, number>): boolean {
  let best = 0
  let allowed = false
  for (const range of list.split(',')) {
    const [type = '', ...parameters] = range.split(';')
    const specificity = specificities.get(type.trim().toLowerCase()) ?? 0
    if (specificity === 0 || specificity < best) continue
    const accepted = quality(parameters) > 0
    allowed = specificity === best ? allowed || accepted : accepted
    best = specificity
  }
  return allowed
}

function quality(parameters: readonly string[]): number {
  for (const parameter of parameters) {
    const [name = '', value = ''] = parameter.split('=')
    if (name.trim().toLowerCase() === 'q') {
      const q = Number(value.trim() || Number.NaN)
      return Number.isNaN(q) ? 1 : q
    }
  }
  return 1
}

/** The query parameters of clients that cannot set a header: this library's name, and those of widely used polyfills. */
const QUERY_NAMES = ['lastEventId', 'last_event_id', 'Last-Event-ID', 'evs_last_event_id']

/** The id that the client asks to resume from: the `Last-Event-ID` header, else the query, else `''`. */
export function lastEventIdOf(request: StreamRequest): string {
  const header = request.headers['last-event-id']
  if (typeof header === 'string' && header !== '') {
    const bytes = Buffer.from(header, 'latin1')
    // Clients on Node send characters up to U+00FF as Latin-1.
    return isUtf8(bytes) ? bytes.toString('utf8') : header
  }
  const query = queryOf(request)
  for (const name of QUERY_NAMES) {
    const value = query.get(name)
    if (value !== null && value !== '') return value
  }
  return ''
}

/** The query of a request's URL. It does not rely on `req.query`, which Express applications can reconfigure. */
export function queryOf({ url = '' }: Pick<StreamRequest, 'url'>): URLSearchParams {
  const mark = url.indexOf('?')
  return new URLSearchParams(mark === -1 ? '' : url.slice(mark + 1))
}

/** Whether the request announces a body. */
export function hasBody({ headers }: StreamRequest): boolean {
  const length = headers['content-length']
  return headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
}
