import type { IncomingMessage, ServerResponse } from 'node:http'
import { SseError, describeValue } from '../basics/errors.ts'
import { checkBoolean, checkOptions } from '../basics/options.ts'
import { isThenable, ignoreRejection, reported } from '../basics/promises.ts'
import type { SubscribeOptions } from '../delivery/subscribe-options.ts'
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
import type { SharedBytes } from '../gzip/shared-bytes.ts'
import { closedSubscription, join, type PendingSubscription, type Subscribable, type Subscription } from '../hub/subscribable.ts'
import { isDisconnected, isPipelined, onDisconnect, whenTurn } from './client-disconnect.ts'
import { Connection, type ConnectionContext } from './connection.ts'
import { acceptsEventStream, hasBody, lastEventIdOf } from './request.ts'
import { type HeadSettings, setHead } from './response-head.ts'
import { isHttp2 } from './response-socket.ts'
import { isAbortError, readAll, readSource, type Source } from './source.ts'
import type { CloseOptions, SseStream, StreamOptions } from './sse-stream.ts'

/** The settings of a middleware, which its streams share. */
export interface StreamContext extends ConnectionContext, HeadSettings {
  /** The `retry:` line that streams begin with; `null` for none. */
  readonly retryLine: SharedBytes | null
  readonly serialize: Serialize
}

/** The {@link SseStream} of one response. */
export class ResponseStream implements SseStream {
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

  get state(): 'idle' | 'open' | 'closed' {
    if (this.#connection !== null) return this.#connection.isOpen ? 'open' : 'closed'
    return this.#isClosed || isDisconnected(this.#req, this.#res) ? 'closed' : 'idle'
  }

  get lastEventId(): string {
    return (this.#lastEventId ??= lastEventIdOf(this.#req))
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      const controller = (this.#controller = new AbortController())
      if (this.state === 'closed' || isDisconnected(this.#req, this.#res)) controller.abort()
      else if (this.#connection === null) onDisconnect(this.#req, this.#res, () => controller.abort())
      else this.#connection.onClosed(() => controller.abort())
    }
    return this.#controller.signal
  }

  open(): boolean {
    return this.#openFor(undefined)
  }

  send(data: unknown, fields: EventFields = {}): Promise<boolean> {
    return this.#reported('send', () => {
      if (typeof fields !== 'object' || fields === null) {
        throw new TypeError(`send: the fields must be an object { event?, id?, retry? }, got ${describeValue(fields)}`)
      }
      return this.#write(this.#encode('send', data, checkedFields('send', fields)), undefined)
    })
  }

  comment(text = ''): Promise<boolean> {
    return this.#reported('comment', () => {
      if (typeof text !== 'string') throw new TypeError(`comment: text must be a string, got ${describeValue(text)}`)
      return this.#write(encodeComment(text), undefined)
    })
  }

  stream<T>(source: Source<T>, toEvent?: ((item: T) => EventInput) | StreamOptions): Promise<boolean> {
    return this.#reported('stream', () => this.#stream(source, toEvent))
  }

  subscribe<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>>(
    hub: Subscribable<C>,
    channels: N | readonly N[],
    options?: SubscribeOptions<C, N>,
  ): Promise<Subscription> {
    return this.#reported('subscribe', () => this.#subscribe(hub, channels, options))
  }

  close(options?: CloseOptions): void {
    checkOptions('close', options, ['reconnect'])
    const isFinal = !checkBoolean('close: reconnect', options?.reconnect, true)
    if (this.state === 'closed') return
    if (this.#connection !== null) {
      if (isFinal) this.#connection.endForGood()
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

  /** Runs a call of the program. A rejection that nobody handles is reported. */
  #reported<T>(where: string, call: () => T | Promise<T>): Promise<T> {
    // Only `subscribe` answers the request with its error. If an earlier subscription is in progress, that one will answer the request.
    const mayAnswer = where === 'subscribe' && !this.#isSubscribed
    return reported(call, (error) => {
      this.#context.onError(error, { where })
      // Without this answer, the client would wait for ever.
      if (mayAnswer && this.state === 'idle' && !this.#res.headersSent) this.#next(error)
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
      // A source that uses the stream's signal fails when the client leaves, as it should.
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
    const pending = this.#check(hub, channels, options)
    if (this.#isSubscribed) {
      throw new SseError(
        'SSE_ALREADY_SUBSCRIBED',
        'subscribe: this stream is or was subscribed; a stream has one subscription, so name all channels in it',
      )
    }
    if (pending instanceof SseError) return this.#refuseChannels(pending)
    if (this.#isWithoutBody() || !isPipelined(this.#req, this.#res)) return this.#prepare(pending)
    // The stream is counted when its turn on the connection has come, which may never happen.
    this.#isSubscribed = true
    pending.wait()
    return whenTurn(this.#req, this.#res).then(() => this.#prepare(pending))
  }

  /** Checks a subscription. Returns the error if the name of a channel is invalid. */
  #check<C extends object, N extends ChannelName<C>>(
    hub: Subscribable<C>,
    channels: N | readonly N[],
    options: SubscribeOptions<C, N> | undefined,
  ): PendingSubscription | SseError {
    try {
      return hub[join](channels, options, this.lastEventId)
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

  /** Prepares a subscription, if its client can receive events, and begins it. */
  #prepare(pending: PendingSubscription): Subscription | Promise<Subscription> {
    const ready = this.#isWithoutBody() ? undefined : pending.prepare(this.#canOpen())
    if (ready === undefined) return this.#begin(pending)
    this.#isSubscribed = true
    return ready.then(() => this.#begin(pending))
  }

  /** Begins a subscription or refuses it. Returns a closed one if it does not begin. */
  #begin(pending: PendingSubscription): Subscription {
    try {
      const refusal = this.#isWithoutBody() ? undefined : pending.refusal()
      if (refusal !== undefined && this.#isUnacceptable()) {
        this.#isSubscribed = true
        this.#refuse(refusal.error)
        return closedSubscription(pending.channels)
      }
      // The head must not announce keep-alive, because the connection is closed together with the stream.
      if (refusal?.reason === 'closing' && !isHttp2(this.#res)) this.#res.shouldKeepAlive = false
      // A refusal carries a `retry:` of its own.
      const isOpen = this.#openFor(undefined, refusal === undefined)
      this.#isSubscribed = true
      if (!isOpen || this.#connection === null) return closedSubscription(pending.channels)
      if (refusal === undefined) return pending.begin(this.#connection)
      if (refusal.isFinal) this.close({ reconnect: false })
      else this.#connection.end(refusal.last, refusal.reason === 'closing')
      return closedSubscription(pending.channels)
    } finally {
      pending.cancel()
    }
  }

  /** Whether nothing can be sent after the head: the client is gone, or sent HEAD. */
  #isWithoutBody(): boolean {
    return this.state === 'closed' || this.#req.method === 'HEAD'
  }

  #encode(where: string, data: unknown, fields: CheckedFields): string {
    if (this.#isSubscribed) {
      if (fields.id !== undefined) {
        throw new SseError(
          'SSE_ID_RESERVED',
          `${where}: the ids of a subscribed stream belong to the hub, because the client resumes from them; ` +
            `send without id, got ${describeValue(fields.id)}`,
        )
      }
      if (fields.event?.startsWith('stream-')) {
        throw new SseError(
          'SSE_INVALID_EVENT',
          `${where}: on a subscribed stream, event names must not begin with "stream-", got ${describeValue(fields.event)}`,
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

  /**
   * Opens the stream, and returns whether it is open.
   *
   * @param source the source to be sent. It may be the request itself, whose body must not be discarded then.
   * @param hasRetry whether the middleware's `retry:` is sent.
   */
  #openFor(source: unknown, hasRetry = true): boolean {
    const connection = this.#connection
    if (connection !== null) return connection.isOpen
    if (this.#isClosed) return false
    const req = this.#req
    const res = this.#res
    if (res.headersSent) {
      throw new SseError(
        'SSE_HEAD_SENT',
        'SseStream: the head of this response was sent before the stream was opened ' +
          `(${req.method} ${describeValue(req.url)}, status ${res.statusCode}); use res.sse before or instead of res.send`,
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
    return this.#open(hasRetry)
  }

  /** Whether the stream is open, or can be opened. */
  #canOpen(): boolean {
    return this.#connection !== null || (!this.#res.headersSent && acceptsEventStream(this.#req.headers.accept))
  }

  /** Whether the client does not accept event streams, and can still receive an error. */
  #isUnacceptable(): boolean {
    return this.state === 'idle' && !this.#res.headersSent && !acceptsEventStream(this.#req.headers.accept)
  }

  #refuse(error: SseError): void {
    this.#setClosed()
    for (const [name, value] of Object.entries(error.headers ?? {})) this.#res.setHeader(name, value)
    this.#next(error)
  }

  #open(hasRetry: boolean): boolean {
    const req = this.#req
    const res = this.#res
    const gzip = setHead(req, res, this.#context)
    if (req.method === 'HEAD') {
      this.#setClosed()
      res.end()
      return false
    }
    // No blank line follows the retry: line, so it belongs to the first block with data, whichever that is.
    this.#connection = new Connection(req, res, this.#context, hasRetry ? this.#context.retryLine : null, gzip)
    if (this.#controller !== null) this.#connection.onClosed(() => this.#controller?.abort())
    return true
  }

  #setClosed(): void {
    this.#isClosed = true
    this.#controller?.abort()
  }
}
