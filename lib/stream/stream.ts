import type { IncomingMessage, OutgoingHttpHeader, ServerResponse } from 'node:http'
import { SseError, show } from '../basics/errors.ts'
import { checkOptions } from '../basics/options.ts'
import type { ChannelName } from '../event/channel-types.ts'
import { checkedFields, encodeComment, type EventFields, type EventInput, formatEvent, type Serialize, toText } from '../event/event.ts'
import { GzipBody } from '../gzip/gzip-body.ts'
import { Connection, type ConnectionContext } from './connection.ts'
import { isGone, isHttp2, onGone } from './departure.ts'
import type { Refusal } from './refusal.ts'
import { acceptsEventStream, acceptsGzip, hasBody, lastEventIdOf } from './request.ts'
import { readAll, readSource, type Source } from './source.ts'
import { join, type Plan, type Subscribable } from './subscribable.ts'
import { closedSubscription, type SubscribeOptions, type Subscription } from './subscription.ts'

/** Never 2^31 or more: clients on Node would then reconnect at once, again and again. */
const NEVER_MS = 2_000_000_000
/** What the head may say of a body that is not sent. */
const OTHER_BODY_HEADERS = ['Content-Length', 'Content-Encoding', 'ETag']
const CLOSE_BLOCK = formatEvent('', { event: 'stream-close', retry: NEVER_MS })

/** What all streams of a middleware share. */
export interface StreamContext extends ConnectionContext {
  readonly status: number
  /** What is set on the response when a stream opens; `undefined` values have been left out. */
  readonly headers: readonly (readonly [name: string, value: OutgoingHttpHeader])[]
  readonly retryMs: number | false
  readonly serialize: Serialize
  /** Whether clients that take gzip are given it, and whether what one channel sent before is referred to. */
  readonly compress: boolean | 'shared'
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
    return this.#isClosed || isGone(this.#req, this.#res) ? 'closed' : 'idle'
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
      if (this.state === 'closed' || isGone(this.#req, this.#res)) controller.abort()
      else if (this.#connection === null) onGone(this.#req, this.#res, () => controller.abort())
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
   *   hub's. The stream goes on.
   * @example
   * await res.sse.send({ done: 3, of: 7 }, { event: 'progress' })
   */
  async send(data: unknown, fields: EventFields = {}): Promise<boolean> {
    if (typeof fields !== 'object' || fields === null) {
      throw new TypeError(`send: the fields must be an object { event?, id?, retry? }, got ${show(fields)}`)
    }
    return this.#write(this.#encode(data, checkedFields(fields)), undefined)
  }

  /** Sends a comment, which clients ignore; every line of the text becomes one. Resolves as {@link send} does. */
  async comment(text = ''): Promise<boolean> {
    if (typeof text !== 'string') throw new TypeError(`comment: text must be a string, got ${show(text)}`)
    return this.#write(encodeComment(text), undefined)
  }

  /**
   * Sends each item of an iterable, an async iterable or a Readable, at the client's pace.
   *
   * Without `toEvent` an item is the data of its event; `toEvent` gives `{ data, event?, id?, retry? }`. When the client
   * leaves, the source is stopped: a generator is `return()`ed, a Readable destroyed.
   *
   * @returns `true` at the end of the source, when the stream is still open; `false` when the stream was closed before.
   * @throws whatever the source or `toEvent` throws, and what {@link send} rejects with; the source is stopped then, and
   *   the stream stays open.
   * @example
   * await res.sse.stream(model.tokens(prompt), (token) => ({ event: 'token', data: token }))
   * res.sse.close({ reconnect: false })
   */
  async stream<T>(source: Source<T>, toEvent?: (item: T) => EventInput): Promise<boolean> {
    if (toEvent !== undefined && typeof toEvent !== 'function') {
      throw new TypeError(`stream: toEvent must be a function, got ${show(toEvent)}`)
    }
    const reader = readSource(source)
    const report = (error: unknown): void => this.#context.onError(error, { where: 'source' })
    const encode = (item: T): string => {
      if (toEvent === undefined) return this.#encode(item, {})
      const event = toEvent(item)
      if (typeof event !== 'object' || event === null || event instanceof Promise) {
        throw new SseError('SSE_INVALID_EVENT', `stream: toEvent must return { data, event?, id?, retry? }, got ${show(event)}`)
      }
      return this.#encode(event.data, checkedFields(event, 'data'))
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
    return readAll(reader, (item) => this.#write(encode(item), source), (closer) => connection.onClosed(closer), report)
  }

  /**
   * Subscribes the client to channels of a hub, from its `Last-Event-ID` on. A stream has one subscription, ever.
   *
   * At a limit of the hub, and while the hub closes, the client is refused politely: 200, a `retry:` and the end, or 503
   * and `Retry-After` where it does not accept event streams.
   *
   * @returns the subscription once it is live: what is published from then on reaches the client. A closed one when the
   *   client is gone or was refused, and for HEAD.
   * @throws {SseError} (as a rejection) `SSE_ALREADY_SUBSCRIBED` the second time, `SSE_INVALID_CHANNEL` for a name that
   *   is not valid, `SSE_INVALID_OWNER` for such an `owner`, `SSE_HEAD_SENT` as in {@link open}. `TypeError` and `RangeError` name a wrong argument or option.
   * @example
   * app.get('/events', (req, res) => res.sse.subscribe(hub, ['orders', `user:${req.user.id}`]))
   */
  async subscribe<C extends object, N extends ChannelName<C>>(
    hub: Subscribable<C>,
    channels: readonly N[],
    options?: SubscribeOptions<C, N>,
  ): Promise<Subscription> {
    if (typeof hub !== 'object' || hub === null || typeof hub[join] !== 'function') {
      throw new TypeError(`subscribe: hub must be a Hub, got ${show(hub)}`)
    }
    const plan = hub[join](channels, options)
    if (this.#isSubscribed) {
      throw new SseError('SSE_ALREADY_SUBSCRIBED', 'this stream is or was subscribed; a stream has one subscription, so name all channels in it')
    }
    const isServed = this.state !== 'closed' && this.#req.method !== 'HEAD'
    let refusal = isServed ? plan.refusal() : undefined
    const preparation = isServed && refusal === undefined ? plan.prepare(this.lastEventId) : undefined
    if (preparation !== undefined) {
      this.#isSubscribed = true
      refusal = await preparation
      // What it took so long for may be over.
      if (refusal === undefined && this.state !== 'closed') refusal = plan.refusal()
    }
    try {
      return this.#start(plan, refusal) ?? closedSubscription(plan.channels)
    } finally {
      plan.cancel()
    }
  }

  /**
   * Ends the response, after what is due to its subscription and the socket takes. An EventSource comes back for the rest;
   * `reconnect: false` tells it not to, by a `stream-close` event with a `retry:` of 23 days, or with status 204 when the
   * head was not sent yet. A slow client is then waited for until it has everything published before; one that
   * something else than itself keeps from it for `stallTimeoutMs` comes back.
   */
  close(options?: CloseOptions): void {
    checkOptions('close', options, ['reconnect'])
    const { reconnect = true } = options ?? {}
    if (typeof reconnect !== 'boolean') throw new TypeError(`close: reconnect must be a boolean, got ${show(reconnect)}`)
    const isFinal = !reconnect
    if (this.state === 'closed') return
    if (this.#connection !== null) {
      if (isFinal) this.#connection.endForGood(CLOSE_BLOCK)
      else this.#connection.end()
    } else if (this.#res.headersSent) {
      this.#setClosed()
    } else if (isFinal && !isGone(this.#req, this.#res)) {
      this.#setClosed()
      this.#res.statusCode = 204
      this.#res.end()
    } else if (this.open()) {
      this.close()
    }
  }

  #encode(data: unknown, fields: EventFields): string {
    if (this.#isSubscribed) {
      if (fields.id !== undefined) {
        throw new SseError('SSE_ID_RESERVED', `the ids of a subscribed stream are the hub's, by which the client resumes; send without id, got ${show(fields.id)}`)
      }
      if (fields.event?.startsWith('stream-')) {
        throw new SseError('SSE_INVALID_EVENT', `on a subscribed stream event names that begin with "stream-" are the hub's, got ${show(fields.event)}`)
      }
    }
    return formatEvent(toText(data, this.#context.serialize), fields)
  }

  /** Starts what was planned, or refuses it; `undefined` where it did not start. */
  #start(plan: Plan, refusal: Refusal | undefined): Subscription | undefined {
    if (refusal !== undefined && this.#isUnacceptable()) {
      this.#isSubscribed = true
      this.#refuse(refusal.error)
      return undefined
    }
    const isOpen = this.open()
    this.#isSubscribed = true
    if (!isOpen || this.#connection === null) return undefined
    if (refusal === undefined) return plan.start(this.#connection, this.lastEventId)
    this.#connection.end(refusal.last)
    return undefined
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

  #openFor(source: unknown): boolean {
    const connection = this.#connection
    if (connection !== null) return connection.isOpen
    if (this.#isClosed) return false
    const req = this.#req
    const res = this.#res
    if (res.headersSent) {
      throw new SseError('SSE_HEAD_SENT', `the head of this response was sent before the stream was opened (${req.method} ${show(req.url)}, status ${res.statusCode}); use res.sse before or instead of res.send`)
    }
    if (isGone(req, res)) {
      this.#setClosed()
      return false
    }
    if (!acceptsEventStream(req.headers.accept)) {
      this.#refuse(new SseError('SSE_NOT_ACCEPTABLE', `the client does not accept text/event-stream, it sent "Accept: ${req.headers.accept}"`))
      return false
    }
    if (hasBody(req) && req.readableFlowing === null && req !== source) req.resume()
    return this.#begin()
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

  #begin(): boolean {
    const req = this.#req
    const res = this.#res
    const { status, headers, retryMs, compress } = this.#context
    res.statusCode = status
    for (const name of OTHER_BODY_HEADERS) if (res.hasHeader(name)) res.removeHeader(name)
    for (const [name, value] of headers) res.setHeader(name, value)
    const gzip = compress !== false && this.#takesGzip() ? new GzipBody(compress === 'shared') : null
    if (req.method === 'HEAD') {
      this.#setClosed()
      res.end()
      return false
    }
    if (!isHttp2(res)) {
      // The body ends with the connection, so the same bytes serve every client. Both are needed: without the second
      // Node promises to keep the connection alive.
      res.removeHeader('Transfer-Encoding')
      res.shouldKeepAlive = false
      req.socket.setTimeout(0)
      req.socket.setNoDelay(true)
    }
    this.#connection = new Connection(req, res, this.#context, retryMs === false ? '' : `retry: ${retryMs}\n\n`, gzip)
    const { signal } = this.#controller ?? {}
    if (signal !== undefined) this.#connection.onClosed(() => this.#controller?.abort())
    return true
  }

  /** Whether the client takes gzip; the head says what it is given, and that others may be given something else. */
  #takesGzip(): boolean {
    const res = this.#res
    const vary = [res.getHeader('Vary') ?? []].flat().join(', ')
    if (!/(^|,)\s*(\*|accept-encoding)\s*(,|$)/i.test(vary)) res.setHeader('Vary', vary === '' ? 'Accept-Encoding' : `${vary}, Accept-Encoding`)
    const takesGzip = acceptsGzip(this.#req.headers['accept-encoding'])
    if (takesGzip) res.setHeader('Content-Encoding', 'gzip')
    return takesGzip
  }

  #setClosed(): void {
    this.#isClosed = true
    this.#controller?.abort()
  }
}
