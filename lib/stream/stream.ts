import type { IncomingMessage, OutgoingHttpHeader, ServerResponse } from 'node:http'
import { SseError, describeValue } from '../basics/errors.ts'
import { checkBoolean, checkOptions } from '../basics/options.ts'
import { reported, isThenable, ignoreRejection } from '../basics/promises.ts'
import type { AnyChannels, ChannelName } from '../event/channel-types.ts'
import {
  type CheckedFields,
  checkedFields,
  encodeComment,
  type EventFields,
  type EventInput,
  formatEvent,
  type Serialize,
  toText,
} from '../event/event.ts'
import { GzipBody } from '../gzip/gzip-body.ts'
import type { SharedBytes } from '../gzip/shared-bytes.ts'
import { Connection, type ConnectionContext, STREAM_CLOSE } from './connection.ts'
import { isDisconnected, isHttp2, isPipelined, onDisconnect, whenTurn } from './client-disconnect.ts'
import type { Refusal } from './refusal.ts'
import { acceptsEventStream, acceptsGzip, hasBody, lastEventIdOf } from './request.ts'
import { isAbortError, readAll, readSource, type Source } from './source.ts'
import { join, type Plan, type Subscribable } from './subscribable.ts'
import { closedSubscription, type SubscribeOptions, type Subscription } from './subscription.ts'

/** What the head may say of a body that is not sent. */
const OTHER_BODY_HEADERS = ['Content-Length', 'Content-Encoding', 'ETag']

/** What all streams of a middleware share. */
export interface StreamContext extends ConnectionContext {
  readonly status: number
  /** What is set on the response when a stream opens; `undefined` values have been left out. */
  readonly headers: readonly (readonly [name: string, value: OutgoingHttpHeader])[]
  /** The `retry:` line that streams begin with. */
  readonly retryLine: SharedBytes | null
  readonly serialize: Serialize
  /** Whether clients that take gzip are given it, and whether what one channel sent before is referred to. */
  readonly compress: boolean | 'shared'
}

/** How {@link SseStream.stream} sends the items of a source, where they need no function. */
export interface StreamOptions {
  /** The name of each event. Default: none, as in `send`. */
  readonly event?: string | null | undefined
  /** Whether the end of the source closes the stream for good, as `close({ reconnect: false })` does. Default `false`. */
  readonly end?: boolean | undefined
}

/** How a stream is closed. */
export interface CloseOptions {
  /** `false` tells an EventSource not to come back. Default `true`. */
  readonly reconnect?: boolean | undefined
}

/**
 * One response as an event stream: `res.sse`. Nothing is written to the response until the stream is first used.
 *
 * What a client causes (it is gone, it does not accept event streams, it stopped reading) never throws or rejects.
 * What the program causes (a bad event, a head that it sent before) does.
 */
export class SseStream {
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  readonly #next: (error?: unknown) => void
  readonly #context: StreamContext
  #connection: Connection | null = null
  #isClosed = false
  #isSubscribed = false
  #controller: AbortController | null = null
  #lastEventId: string | undefined

  constructor(req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void, context: StreamContext) {
    this.#req = req
    this.#res = res
    this.#next = next
    this.#context = context
  }

  /** `'idle'` until first used, `'open'` once the head is sent, `'closed'` when the client is gone or either side ended it. */
  get state(): 'idle' | 'open' | 'closed' {
    if (this.#connection !== null) return this.#connection.isOpen ? 'open' : 'closed'
    return this.#isClosed || isDisconnected(this.#req, this.#res) ? 'closed' : 'idle'
  }

  /**
   * Where the client wants to resume from: the `Last-Event-ID` header (as UTF-8), else the query (`lastEventId`,
   * `last_event_id`, `Last-Event-ID` or `evs_last_event_id`; of repeated values the first), else `''`.
   */
  get lastEventId(): string {
    return (this.#lastEventId ??= lastEventIdOf(this.#req))
  }

  /** Aborted when the client goes away or the stream is closed. It is made when first asked for. */
  get signal(): AbortSignal {
    if (this.#controller === null) {
      const controller = (this.#controller = new AbortController())
      if (this.state === 'closed' || isDisconnected(this.#req, this.#res)) controller.abort()
      else if (this.#connection === null) onDisconnect(this.#req, this.#res, () => controller.abort())
      else this.#connection.onClosed(() => controller.abort())
    }
    return this.#controller.signal
  }

  /**
   * Sends the head now. Does nothing on a stream that is open.
   *
   * @returns `false` when nothing can be sent: the client is gone, was refused, or asked for the head alone (HEAD).
   *   A client that does not accept `text/event-stream` is refused with a 406 through `next(error)`.
   * @throws {SseError} `SSE_HEAD_SENT` when the program had already sent the head of this response.
   */
  open(): boolean {
    return this.#openFor(undefined)
  }

  /**
   * Sends one event: a string as it is, anything else as JSON (or by the middleware's `serialize`).
   *
   * Await it for backpressure: it resolves `true` when there is room for more, `false` once the stream is closed. It
   * never rejects because of the client. More than `maxQueuedBytes` waiting unsent destroys the stream.
   *
   * @throws {SseError} (as a rejection) `SSE_INVALID_DATA`, `SSE_INVALID_EVENT` and `SSE_HEAD_SENT` as in
   *   {@link encodeEvent} and {@link open}; `SSE_ID_RESERVED` for an `id` on a subscribed stream, whose ids are the
   *   hub's. The stream goes on. A rejection that nobody looks at goes to `onError`.
   * @example
   * await res.sse.send({ done: 3, of: 7 }, { event: 'progress' })
   */
  send(data: unknown, fields: EventFields = {}): Promise<boolean> {
    return this.#reported('send', () => {
      if (typeof fields !== 'object' || fields === null) {
        throw new TypeError(`send: the fields must be an object { event?, id?, retry? }, got ${describeValue(fields)}`)
      }
      return this.#write(this.#encode('send', data, checkedFields('send', fields)), undefined)
    })
  }

  /** Sends a comment, which clients ignore; every line of the text becomes one. Resolves as {@link send} does. */
  comment(text = ''): Promise<boolean> {
    return this.#reported('comment', () => {
      if (typeof text !== 'string') throw new TypeError(`comment: text must be a string, got ${describeValue(text)}`)
      return this.#write(encodeComment(text), undefined)
    })
  }

  /**
   * Sends each item of an iterable, an async iterable, a Readable or a web `ReadableStream`, at the client's pace.
   *
   * Without `toEvent` an item is the data of its event; `toEvent` gives `{ data, event?, id?, retry? }`. In place of the
   * function, `{ event: 'token', end: true }` names every event and, at the end of the source, closes the stream for good.
   * When the client leaves, the source is stopped, even while it waits for an item: a generator is `return()`ed, a Readable
   * destroyed, a web stream cancelled. Bytes have to be decoded first: `readable.setEncoding('utf8')`, or
   * `response.body.pipeThrough(new TextDecoderStream())`.
   *
   * @returns `true` at the end of the source, `false` when the stream was closed before.
   * @throws whatever the source or `toEvent` throws, and what {@link send} rejects with; the source is stopped then, and
   *   the stream stays open. A rejection that nobody looks at goes to `onError`.
   * @example
   * await res.sse.stream(model.tokens(prompt), { event: 'token', end: true })
   */
  stream<T>(source: Source<T>, toEvent?: ((item: T) => EventInput) | StreamOptions): Promise<boolean> {
    return this.#reported('stream', () => this.#stream(source, toEvent))
  }

  /**
   * Subscribes the client to channels of a hub, from its `Last-Event-ID` on. A stream has one subscription, ever.
   *
   * At a limit of the hub, and while the hub closes, the client is refused politely: 200, a `stream-end` event with a
   * `retry:` and the end, or 503 and `Retry-After` where it does not accept event streams. A channel name that is impossible
   * is the client's doing, wherever it comes from: the client is refused with a 400 through `next(error)`.
   *
   * @returns the subscription once it is live: what is published from then on reaches the client. A closed one when the
   *   client is gone or was refused, and for HEAD.
   * @throws {SseError} (as a rejection) `SSE_ALREADY_SUBSCRIBED` the second time, `SSE_INVALID_OWNER` for an `owner` that is
   *   not valid, `SSE_HEAD_SENT` as in {@link open}. `TypeError` and `RangeError` name a wrong argument or option. If nobody
   *   looks at a rejection, it goes to `onError`, and the request that was not answered to `next(error)`.
   * @example
   * app.get('/events', (req, res) => res.sse.subscribe(hub, ['orders', `user:${req.user.id}`]))
   */
  subscribe<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>>(
    hub: Subscribable<C>,
    channels: N | readonly N[],
    options?: SubscribeOptions<C, N>,
  ): Promise<Subscription> {
    return this.#reported('subscribe', () => this.#subscribe(hub, channels, options))
  }

  /**
   * Ends the response, after what is due to its subscription and the socket takes. An EventSource comes back for the rest;
   * `reconnect: false` tells it not to, by a `stream-close` event with a `retry:` of 23 days, or with status 204 when the
   * head was not sent yet. A slow client is then waited for until it has everything published before. If something other
   * than the client holds the rest back for `stallTimeoutMs`, such as a snapshot that never resolves, the stream ends and
   * the client reconnects.
   */
  close(options?: CloseOptions): void {
    checkOptions('close', options, ['reconnect'])
    const isFinal = !checkBoolean('close: reconnect', options?.reconnect, true)
    if (this.state === 'closed') return
    if (this.#connection !== null) {
      if (isFinal) this.#connection.endForGood(STREAM_CLOSE)
      else this.#connection.end()
    } else if (this.#res.headersSent) {
      this.#setClosed()
    } else if (isFinal && !isDisconnected(this.#req, this.#res)) {
      this.#setClosed()
      this.#res.statusCode = 204
      this.#res.end()
    } else if (this.open()) {
      this.close()
    }
  }

  /** Runs a call of the program. A rejection that nobody looks at is reported. */
  #reported<T>(where: string, run: () => T | Promise<T>): Promise<T> {
    // A subscription that is under way answers the request.
    const isAnswered = where !== 'subscribe' || this.#isSubscribed
    return reported(run, (error) => {
      this.#context.onError(error, { where })
      // Without an answer the client of this request would wait for ever.
      if (!isAnswered && this.state === 'idle' && !this.#res.headersSent) this.#next(error)
    })
  }

  #stream<T>(source: Source<T>, toEvent: ((item: T) => EventInput) | StreamOptions | undefined): boolean | Promise<boolean> {
    if (toEvent !== undefined && typeof toEvent !== 'function') {
      if (typeof toEvent !== 'object' || toEvent === null) {
        throw new TypeError(`stream: toEvent must be a function or { event?, end? }, got ${describeValue(toEvent)}`)
      }
      checkOptions('stream', toEvent, ['event', 'end'])
    }
    const { event, end } = typeof toEvent === 'object' ? toEvent : {}
    const isEnded = checkBoolean('stream: end', end, false)
    const fields = checkedFields('stream', { event })
    const encode = (item: T): string => {
      if (typeof toEvent !== 'function') return this.#encode('stream', item, fields)
      const input = toEvent(item)
      if (typeof input !== 'object' || input === null || isThenable(input)) {
        ignoreRejection(input)
        throw new SseError('SSE_INVALID_EVENT', `stream: toEvent must return { data, event?, id?, retry? }, got ${describeValue(input)}`)
      }
      return this.#encode('stream', input.data, checkedFields('stream', input, 'data'))
    }
    const reader = readSource(source)
    const report = (error: unknown): void => {
      // A source that heeds the stream's signal fails when the client leaves: that is no fault.
      if (!isAbortError(error)) this.#context.onError(error, { where: 'source' })
    }
    let connection: Connection | null
    try {
      connection = this.#openFor(source) ? this.#connection : null
    } catch (error) {
      reader.stop(report)
      throw error
    }
    if (connection === null) {
      reader.stop(report)
      return false
    }
    const onClosed = connection.onClosed.bind(connection)
    const sent = readAll(reader, (item) => this.#write(encode(item), source), onClosed, report)
    return isEnded ? sent.then((hasEnded) => (hasEnded && this.close({ reconnect: false }), hasEnded)) : sent
  }

  #subscribe<C extends object, N extends ChannelName<C>>(
    hub: Subscribable<C>,
    channels: N | readonly N[],
    options: SubscribeOptions<C, N> | undefined,
  ): Subscription | Promise<Subscription> {
    if (typeof hub !== 'object' || hub === null || typeof hub[join] !== 'function') {
      throw new TypeError(`subscribe: hub must be a Hub, as in subscribe(hub, channels), got ${describeValue(hub)}`)
    }
    const plan = this.#planFor(hub, channels, options)
    if (this.#isSubscribed) {
      throw new SseError(
        'SSE_ALREADY_SUBSCRIBED',
        'subscribe: this stream is or was subscribed; a stream has one subscription, so name all channels in it',
      )
    }
    if (plan instanceof SseError) return this.#refuseChannels(plan)
    if (this.state === 'closed' || this.#req.method === 'HEAD') return this.#start(plan, undefined)
    if (!isPipelined(this.#req, this.#res)) return this.#admit(plan)
    // It is counted when its turn on the connection has come, not before: that may never be.
    this.#isSubscribed = true
    plan.wait()
    return whenTurn(this.#req, this.#res).then(() => this.#admit(plan))
  }

  /** The subscription that is asked for, or the error of a channel whose name is impossible. */
  #planFor<C extends object, N extends ChannelName<C>>(
    hub: Subscribable<C>,
    channels: N | readonly N[],
    options: SubscribeOptions<C, N> | undefined,
  ): Plan | SseError {
    try {
      return hub[join](channels, options)
    } catch (error) {
      if (error instanceof SseError && error.code === 'SSE_INVALID_CHANNEL') return error
      throw error
    }
  }

  #refuseChannels(cause: SseError): Subscription {
    this.#isSubscribed = true
    if (this.#connection !== null) this.close({ reconnect: false })
    else if (this.state === 'idle' && !this.#res.headersSent) this.#refuse(new SseError('SSE_BAD_REQUEST', cause.message, { cause }))
    return closedSubscription([])
  }

  #admit(plan: Plan): Subscription | Promise<Subscription> {
    if (this.state === 'closed') return this.#start(plan, undefined)
    const refusal = plan.refusal()
    const preparation = refusal === undefined ? plan.prepare(this.lastEventId, this.#canOpen()) : undefined
    if (preparation === undefined) return this.#start(plan, refusal)
    this.#isSubscribed = true
    // The limit may have been reached meanwhile.
    return preparation.then((refused) => this.#start(plan, refused ?? (this.state === 'closed' ? undefined : plan.refusal())))
  }

  /** Starts what was planned, or refuses it. A subscription that did not start is a closed one. */
  #start(plan: Plan, refusal: Refusal | undefined): Subscription {
    try {
      if (refusal !== undefined && this.#isUnacceptable()) {
        this.#isSubscribed = true
        this.#refuse(refusal.error)
        return closedSubscription(plan.channels)
      }
      // The head must not promise a connection that is closed with the stream.
      if (refusal?.reason === 'closing' && !isHttp2(this.#res)) this.#res.shouldKeepAlive = false
      // A refusal has a delay of its own.
      const isOpen = this.#openFor(undefined, refusal === undefined)
      this.#isSubscribed = true
      if (!isOpen || this.#connection === null) return closedSubscription(plan.channels)
      if (refusal === undefined) return plan.start(this.#connection, this.lastEventId)
      if (refusal.isFinal) this.close({ reconnect: false })
      else this.#connection.end(refusal.last, refusal.reason === 'closing')
      return closedSubscription(plan.channels)
    } finally {
      plan.cancel()
    }
  }

  #encode(where: string, data: unknown, fields: CheckedFields): string {
    if (this.#isSubscribed) {
      if (fields.id !== undefined) {
        throw new SseError(
          'SSE_ID_RESERVED',
          `${where}: the ids of a subscribed stream are the hub's, by which the client resumes; send without id, got ${describeValue(fields.id)}`,
        )
      }
      if (fields.event?.startsWith('stream-')) {
        throw new SseError(
          'SSE_INVALID_EVENT',
          `${where}: on a subscribed stream event names that begin with "stream-" are the hub's, got ${describeValue(fields.event)}`,
        )
      }
    }
    return formatEvent(
      toText(data, this.#context.serialize, () => `${where}: `),
      fields,
    )
  }

  #write(block: string, source: unknown): boolean | Promise<boolean> {
    if (!this.#openFor(source)) return false
    const connection = this.#connection as Connection
    if (connection.expire()) return false
    if (!connection.output.writeDirect(block, this.#context.maxQueuedBytes)) {
      connection.destroy()
      return false
    }
    if (connection.output.full) return connection.room()
    const { budget } = this.#context
    if (!budget.isSpent()) return true
    return budget.nextTurn().then(() => connection.isOpen)
  }

  /** @param source what may read the request body. @param hasRetry whether the middleware's `retry:` is sent. */
  #openFor(source: unknown, hasRetry = true): boolean {
    const connection = this.#connection
    if (connection !== null) return connection.isOpen
    if (this.#isClosed) return false
    const req = this.#req
    const res = this.#res
    if (res.headersSent) {
      throw new SseError(
        'SSE_HEAD_SENT',
        `SseStream: the head of this response was sent before the stream was opened (${req.method} ${describeValue(req.url)}, status ${res.statusCode}); use res.sse before or instead of res.send`,
      )
    }
    if (isDisconnected(req, res)) {
      this.#setClosed()
      return false
    }
    if (!acceptsEventStream(req.headers.accept)) {
      this.#refuse(
        new SseError(
          'SSE_NOT_ACCEPTABLE',
          `SseStream: the client does not accept text/event-stream, it sent "Accept: ${req.headers.accept}"`,
        ),
      )
      return false
    }
    if (hasBody(req) && req.readableFlowing === null && req !== source) req.resume()
    return this.#begin(hasRetry)
  }

  /** Whether the stream is open, or can be opened. */
  #canOpen(): boolean {
    return this.#connection !== null || (!this.#res.headersSent && acceptsEventStream(this.#req.headers.accept))
  }

  /** Whether the head could still be sent, to a client that does not accept event streams. */
  #isUnacceptable(): boolean {
    return this.state === 'idle' && !this.#res.headersSent && !acceptsEventStream(this.#req.headers.accept)
  }

  #refuse(error: SseError): void {
    this.#setClosed()
    for (const [name, value] of Object.entries(error.headers ?? {})) this.#res.setHeader(name, value)
    this.#next(error)
  }

  #begin(hasRetry: boolean): boolean {
    const req = this.#req
    const res = this.#res
    const { status, headers, retryLine, compress } = this.#context
    res.statusCode = status
    for (const name of OTHER_BODY_HEADERS) if (res.hasHeader(name)) res.removeHeader(name)
    for (const [name, value] of headers) res.setHeader(name, value)
    const gzip = compress !== false && this.#takesGzip() ? new GzipBody(compress === 'shared') : null
    if (req.method === 'HEAD') {
      this.#setClosed()
      res.end()
      return false
    }
    this.#keepConnectionHeader()
    // The retry: line has no blank line after it: it belongs to the first block that has data, whichever that is.
    this.#connection = new Connection(req, res, this.#context, hasRetry ? retryLine : null, gzip)
    const { signal } = this.#controller ?? {}
    if (signal !== undefined) this.#connection.onClosed(() => this.#controller?.abort())
    return true
  }

  /** Node announces that it keeps an HTTP/1.1 connection alive. That is the default there, and proxies have their own ways. */
  #keepConnectionHeader(): void {
    const res = this.#res as ServerResponse & { readonly maxRequestsOnConnectionReached?: boolean }
    if (isHttp2(res) || !res.useChunkedEncodingByDefault || !res.shouldKeepAlive || res.maxRequestsOnConnectionReached) return
    if (!res.hasHeader('Connection')) res.removeHeader('Connection')
  }

  /** Whether the client takes gzip; the head says what it is given, and that others may be given something else. */
  #takesGzip(): boolean {
    const res = this.#res
    const vary = [res.getHeader('Vary') ?? []].flat().join(', ')
    if (!/(^|,)\s*(\*|accept-encoding)\s*(,|$)/i.test(vary)) {
      res.setHeader('Vary', vary === '' ? 'Accept-Encoding' : `${vary}, Accept-Encoding`)
    }
    const takesGzip = acceptsGzip(this.#req.headers['accept-encoding'])
    if (takesGzip) res.setHeader('Content-Encoding', 'gzip')
    return takesGzip
  }

  #setClosed(): void {
    this.#isClosed = true
    this.#controller?.abort()
  }
}
