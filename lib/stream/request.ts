import { isUtf8 } from 'node:buffer'
import type { IncomingHttpHeaders } from 'node:http'

/** What is read of a request: the common part of HTTP/1 and HTTP/2, Express or not. */
export interface StreamRequest {
  readonly method?: string | undefined
  readonly url?: string | undefined
  readonly headers: IncomingHttpHeaders
}

/** How closely a media range names `text/event-stream`. */
const MEDIA_RANGES: ReadonlyMap<string, number> = new Map([
  ['*/*', 1],
  ['text/*', 2],
  ['text/event-stream', 3],
])

/** How closely a coding names gzip. */
const CODINGS: ReadonlyMap<string, number> = new Map([
  ['*', 1],
  ['gzip', 2],
  ['x-gzip', 2],
])

/**
 * Whether an `Accept` header allows `text/event-stream` (RFC 9110, section 12.5.1): the most specific range that
 * matches decides, `q=0` refuses, and a missing or empty header allows everything.
 */
export function acceptsEventStream(accept: string | undefined): boolean {
  // What an EventSource sends, and what most others do.
  if (accept === undefined || accept === 'text/event-stream' || accept === '*/*') return true
  return accept.trim() === '' || isAllowed(accept, MEDIA_RANGES)
}

/**
 * Whether an `Accept-Encoding` header names gzip (RFC 9110, section 12.5.3). One that is missing or empty does not: such
 * clients seldom decode anything.
 */
export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  return acceptEncoding !== undefined && isAllowed(acceptEncoding, CODINGS)
}

/** Whether a list of ranges with their qualities allows something: of those that match it, by how closely they do, the closest decides. */
function isAllowed(list: string, closeness: ReadonlyMap<string, number>): boolean {
  let best = 0
  let allowed = false
  for (const range of list.split(',')) {
    const [type = '', ...parameters] = range.split(';')
    const specificity = closeness.get(type.trim().toLowerCase()) ?? 0
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

/** Where clients that cannot set a header put the id: this library's name, and those of widely used polyfills. */
const QUERY_NAMES = ['lastEventId', 'last_event_id', 'Last-Event-ID', 'evs_last_event_id']

/** The id that the client asks to resume from: the `Last-Event-ID` header, else the query, else `''`. */
export function lastEventIdOf(request: StreamRequest): string {
  const header = request.headers['last-event-id']
  if (typeof header === 'string' && header !== '') {
    const bytes = Buffer.from(header, 'latin1')
    // Clients on Node send what is up to U+00FF as Latin-1.
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
