import type { IncomingMessage, OutgoingHttpHeader, ServerResponse } from 'node:http'
import { GzipBody } from '../gzip/gzip-body.ts'
import { acceptsGzip } from './request.ts'
import { isHttp2 } from './response-socket.ts'

/** Headers that describe a body other than the event stream. */
const OTHER_BODY_HEADERS = ['Content-Length', 'Content-Encoding', 'ETag']

/** The settings of a middleware that concern the head. */
export interface HeadSettings {
  readonly status: number
  /** The headers to set. Headers whose value is `undefined` have been left out. */
  readonly headers: readonly (readonly [name: string, value: OutgoingHttpHeader])[]
  /** Whether clients that accept gzip receive it, and whether blocks may refer to earlier events of their channel. */
  readonly compress: boolean | 'shared'
}

/**
 * Sets the head of an event stream on a response. Headers that the program has set stay, apart from those of another body.
 *
 * @returns the gzip stream of the body; `null` without compression.
 */
export function setHead(req: IncomingMessage, res: ServerResponse, { status, headers, compress }: HeadSettings): GzipBody | null {
  res.statusCode = status
  for (const name of OTHER_BODY_HEADERS) if (res.hasHeader(name)) res.removeHeader(name)
  for (const [name, value] of headers) res.setHeader(name, value)
  const gzip = compress !== false && negotiateGzip(req, res) ? new GzipBody(compress === 'shared') : null
  if (req.method !== 'HEAD') omitKeepAlive(res)
  return gzip
}

/** Removes `Connection: keep-alive`, which Node adds. It is the default of HTTP/1.1, and proxies decide for themselves. */
function omitKeepAlive(response: ServerResponse): void {
  const res = response as ServerResponse & { readonly maxRequestsOnConnectionReached?: boolean }
  if (isHttp2(res) || !res.useChunkedEncodingByDefault || !res.shouldKeepAlive || res.maxRequestsOnConnectionReached) return
  if (!res.hasHeader('Connection')) res.removeHeader('Connection')
}

/** Sets the headers of a body that depends on `Accept-Encoding`, and returns whether the client accepts gzip. */
function negotiateGzip(req: IncomingMessage, res: ServerResponse): boolean {
  const vary = [res.getHeader('Vary') ?? []].flat().join(', ')
  if (!/(^|,)\s*(\*|accept-encoding)\s*(,|$)/i.test(vary)) {
    res.setHeader('Vary', vary === '' ? 'Accept-Encoding' : `${vary}, Accept-Encoding`)
  }
  const isAccepted = acceptsGzip(req.headers['accept-encoding'])
  if (isAccepted) res.setHeader('Content-Encoding', 'gzip')
  return isAccepted
}
