import {
  type IncomingMessage,
  type OutgoingHttpHeader,
  type OutgoingHttpHeaders,
  type ServerResponse,
  validateHeaderName,
  validateHeaderValue,
} from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import { describeValue } from '../basics/errors.ts'
import { safeOnError, type OnError, warn } from '../basics/on-error.ts'
import { checkDuration, checkFunction, checkInteger, checkOptions } from '../basics/options.ts'
import { TurnBudget } from '../basics/turn-budget.ts'
import type { Serialize } from '../event/event.ts'
import { SharedBytes } from '../gzip/shared-bytes.ts'
import { ResponseStream, type StreamContext } from '../stream/response-stream.ts'
import type { SseStream } from '../stream/sse-stream.ts'
import { Watchdog } from '../stream/watchdog.ts'
import { WriteBuffer } from '../stream/write-buffer.ts'

declare global {
  // oxlint-disable-next-line typescript/no-namespace -- Express is extended through its global namespace
  namespace Express {
    interface Response {
      /**
       * The event stream of this response. Nothing is sent until it is used.
       *
       * It is `undefined` if `sseMiddleware()` is not mounted before the route.
       */
      sse: SseStream
    }
  }
}

/** Options of {@link sseMiddleware}. Durations are in milliseconds, sizes in bytes. */
export interface SseMiddlewareOptions {
  /**
   * The time in milliseconds without a write after which a keep-alive is sent, so that proxies keep the connection. One timer serves all
   * streams. `false` switches it off. Default 15,000.
   */
  readonly keepAliveMs?: number | false | undefined
  /**
   * The form of a keep-alive. `'comment'` is a comment line, which a page cannot see. `'event'` is a `stream-alive` event without an id:
   * if a page does not receive it, its connection is dead. Default `'comment'`.
   */
  readonly keepAlive?: 'comment' | 'event' | undefined
  /** The delay in milliseconds after which clients reconnect: the `retry:` field sent on open. `false` sends none. Default 2,000. */
  readonly retryMs?: number | false | undefined
  /**
   * Headers to set when a stream opens. They override the defaults `Content-Type: text/event-stream; charset=utf-8`,
   * `Cache-Control: no-cache, no-store, no-transform` and `X-Accel-Buffering: no`. A value of `undefined` removes a default. An old client
   * or proxy that compares the whole type needs `{ 'Content-Type': 'text/event-stream' }`.
   */
  readonly headers?: Readonly<Record<string, OutgoingHttpHeader | undefined>> | undefined
  /** The status of the response. An EventSource accepts only the default, 200. */
  readonly status?: number | undefined
  /**
   * The time in milliseconds after which a connection is destroyed if its socket is full and no byte leaves it. `false` switches it off.
   * Default 30,000.
   */
  readonly stallTimeoutMs?: number | false | undefined
  /**
   * The most bytes of direct sends (`send`, `comment`, `stream`) that may wait for the socket. Past it, the stream is destroyed and
   * `send` resolves with `false`. A single event may be larger if nothing waits. Default 1,048,576 (1 MiB).
   */
  readonly maxQueuedBytes?: number | undefined
  /**
   * The longest lifetime of a stream in milliseconds. The stream is closed at a random point between 80 and 100 % of it, and the client
   * resumes. So a load balancer can spread the clients anew. Default `false`: no limit.
   */
  readonly maxLifetimeMs?: number | false | undefined
  /**
   * Whether clients that accept gzip receive it. A hub compresses the events of one channel and turn of the event loop as one batch, once
   * for all clients, and keeps no compressor per client, unlike `compression()`. Default `false`.
   *
   * `true` compresses each batch by itself. Large events shrink to about a third, small events hardly. `'shared'` lets a batch refer to
   * earlier events of its channel that the client has received too. Small events shrink to about a quarter as well. **Anyone who can
   * publish into a channel can then guess its other events** from the sizes on the wire, as in the attacks CRIME and BREACH. With `true`,
   * they can guess only events of the same turn. Nothing ever refers to another channel. Use compression if everyone who publishes into a
   * channel may read it.
   *
   * Some bytes are sent uncompressed: an event larger than 1 MiB, a direct send of less than 256 bytes, and a piece of less than 1 KiB
   * from the middle of a batch. A filter, or the order among several channels, splits batches into such pieces.
   */
  readonly compress?: boolean | 'shared' | undefined
  /** Turns data of direct sends that is not a string into text. Default `JSON.stringify`. */
  readonly serialize?: Serialize | undefined
  /** Called with errors that have no caller, such as a failure to stop a source. Default: `process.emitWarning`. */
  readonly onError?: OnError | undefined
}

/** The result of {@link sseMiddleware}: an Express handler, which also works with plain `node:http` and HTTP/2 servers. */
export type SseMiddleware = (
  req: IncomingMessage | Http2ServerRequest,
  res: ServerResponse | Http2ServerResponse,
  next: (error?: unknown) => void,
) => void

const DEFAULT_HEADERS = {
  // Without the charset, clients that use the old default for text, such as Python's requests, decode Latin-1.
  'Content-Type': 'text/event-stream; charset=utf-8',
  // Without no-store, Chromium writes the body that fetch() reads to its disk cache.
  'Cache-Control': 'no-cache, no-store, no-transform',
  'X-Accel-Buffering': 'no',
}

/**
 * Creates the middleware that attaches an {@link SseStream} to every response, as `res.sse`. It sends nothing by itself, so it can be
 * mounted for the whole app, and a handler can still answer 401 or 404.
 *
 * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
 * @example
 * app.use(sseMiddleware())
 * app.get('/time', async (req, res) => {
 *   await res.sse.send({ now: Date.now() }, { event: 'tick' })
 * })
 */
export function sseMiddleware(options: SseMiddlewareOptions = {}): SseMiddleware {
  if (typeof options === 'object' && options !== null && 'socket' in options) {
    throw new TypeError(
      'sseMiddleware: call it, because it returns the handler: write app.use(sseMiddleware()), not app.use(sseMiddleware)',
    )
  }
  const context = contextOf(options)
  return (req, res, next) => {
    if (typeof next !== 'function') {
      throw new TypeError(
        `sseMiddleware: the handler takes (req, res, next); next must be a function, which receives refusals; got ${typeof next}`,
      )
    }
    if (typeof (res as Partial<ServerResponse> | null)?.setHeader !== 'function' || typeof res.write !== 'function') {
      throw new TypeError(
        `sseMiddleware: res must be a response of node:http, node:http2 or Express, with setHeader and write, got ${describeValue(res)}`,
      )
    }
    const request = req as IncomingMessage
    const response = res as ServerResponse & { sse?: SseStream }
    // If the middleware is mounted twice, the options of the inner one apply, unless the stream is in use already.
    if (response.sse === undefined || response.sse.state === 'idle') {
      response.sse = new ResponseStream(request, response, next, context)
    }
    next()
  }
}

function contextOf(options: SseMiddlewareOptions): StreamContext {
  checkOptions('sseMiddleware', options, [
    'keepAliveMs',
    'keepAlive',
    'retryMs',
    'headers',
    'status',
    'stallTimeoutMs',
    'maxQueuedBytes',
    'maxLifetimeMs',
    'compress',
    'serialize',
    'onError',
  ])
  const keepAliveMs = checkDuration('sseMiddleware: keepAliveMs', options.keepAliveMs, 15_000)
  const stallTimeoutMs = checkDuration('sseMiddleware: stallTimeoutMs', options.stallTimeoutMs, 30_000)
  const maxLifetimeMs = checkDuration('sseMiddleware: maxLifetimeMs', options.maxLifetimeMs, false)
  const retryMs = checkDuration('sseMiddleware: retryMs', options.retryMs, 2_000, 0)
  const headers = headersOf(options.headers)
  const compress = checkCompress(options.compress, headers)
  const watchdog = new Watchdog([keepAliveMs, stallTimeoutMs, maxLifetimeMs])
  const ticks = (ms: number | false): number => (ms === false ? Infinity : watchdog.ticksIn(ms))
  return {
    watchdog,
    budget: new TurnBudget(),
    writeBuffer: new WriteBuffer(),
    keepAliveMs,
    keepAlive: checkKeepAlive(options.keepAlive),
    keepAliveTicks: ticks(keepAliveMs),
    // A stall may begin just before a tick. One more tick makes the time long enough.
    stallTicks: ticks(stallTimeoutMs) + 1,
    lifetimeTicks: ticks(maxLifetimeMs),
    status: checkStatus(options.status),
    headers,
    compress,
    retryLine: retryMs === false ? null : SharedBytes.of(Buffer.from(`retry: ${retryMs}\n`), false),
    maxQueuedBytes: checkInteger('sseMiddleware: maxQueuedBytes', options.maxQueuedBytes, 1_048_576, { min: 0 }),
    serialize: checkFunction('sseMiddleware: serialize', options.serialize, JSON.stringify),
    onError: safeOnError(checkFunction('sseMiddleware: onError', options.onError, warn)),
  }
}

function checkStatus(status: number | undefined): number {
  const checked = checkInteger('sseMiddleware: status', status, 200, { min: 200, max: 599 })
  if ([204, 205, 304].includes(checked)) throw new RangeError(`sseMiddleware: status must be one that has a body, got ${checked}`)
  return checked
}

function checkKeepAlive(keepAlive: SseMiddlewareOptions['keepAlive'] = 'comment'): StreamContext['keepAlive'] {
  if (keepAlive === 'comment' || keepAlive === 'event') return keepAlive
  throw new TypeError(`sseMiddleware: keepAlive must be 'comment' or 'event', got ${describeValue(keepAlive)}`)
}

function checkCompress(compress: SseMiddlewareOptions['compress'] = false, headers: StreamContext['headers']): StreamContext['compress'] {
  if (typeof compress !== 'boolean' && compress !== 'shared') {
    throw new TypeError(`sseMiddleware: compress must be a boolean or 'shared', got ${describeValue(compress)}`)
  }
  if (compress !== false && headers.some(([name]) => name.toLowerCase() === 'content-encoding')) {
    throw new TypeError(
      `sseMiddleware: headers: Content-Encoding cannot be set together with compress: ${describeValue(compress)}, which sets it`,
    )
  }
  return compress
}

function headersOf(headers: SseMiddlewareOptions['headers']): [string, OutgoingHttpHeader][] {
  checkOptions('sseMiddleware: headers', headers, Object.keys(headers ?? {}))
  const merged = new Map<string, [string, OutgoingHttpHeader | undefined]>()
  const all: OutgoingHttpHeaders[] = [DEFAULT_HEADERS, headers ?? {}]
  for (const [name, value] of all.flatMap((set) => Object.entries(set))) {
    validateHeaderName(name)
    if (/^(content-length|transfer-encoding|connection)$/i.test(name)) {
      throw new TypeError(`sseMiddleware: headers: ${name} cannot be set, because the stream lasts as long as its connection`)
    }
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined) validateHeaderValue(name, String(one))
    }
    merged.set(name.toLowerCase(), [name, value])
  }
  return [...merged.values()].filter((header): header is [string, OutgoingHttpHeader] => header[1] !== undefined)
}
