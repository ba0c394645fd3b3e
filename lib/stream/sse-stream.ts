import type { AnyChannels, ChannelName } from '../event/channel-types.ts'
import type { EventFields, EventInput } from '../event/event.ts'
import type { SubscribeOptions } from '../delivery/subscribe-options.ts'
import type { Subscribable, Subscription } from '../hub/subscribable.ts'
import type { Source } from './source.ts'

/** Options of {@link SseStream.stream}, in place of a function. */
export interface StreamOptions {
  /** The name of each event. Default: none, as in `send`. */
  readonly event?: string | null | undefined
  /** Whether the end of the source closes the stream for good, as `close({ reconnect: false })` does. Default `false`. */
  readonly end?: boolean | undefined
}

/** Options of {@link SseStream.close}. */
export interface CloseOptions {
  /** `false`: the client must not reconnect. Default `true`. */
  readonly reconnect?: boolean | undefined
}

/**
 * One response as an event stream: `res.sse`. Nothing is written to the response until the stream is first used.
 *
 * An error that the client causes (it is gone, does not accept event streams, or stopped reading) never throws or rejects. An error that
 * the program causes (an invalid event, a head that was sent before) does.
 */
export interface SseStream {
  /** `'idle'` until first used, `'open'` once the head is sent, `'closed'` when the client is gone or either side has ended the stream. */
  readonly state: 'idle' | 'open' | 'closed'

  /**
   * The id that the client asks to resume from: the `Last-Event-ID` header (as UTF-8), else the query (`lastEventId`,
   * `last_event_id`, `Last-Event-ID` or `evs_last_event_id`; of repeated values the first), else `''`.
   */
  readonly lastEventId: string

  /** A signal that is aborted when the client goes away or the stream is closed. It is created on first access, because it is costly. */
  readonly signal: AbortSignal

  /**
   * Sends the head now. Does nothing on an open stream.
   *
   * @returns `false` if nothing can be sent: the client is gone, was refused, or asked for the head alone (HEAD). A client that does
   *   not accept `text/event-stream` is refused with 406 through `next(error)`.
   * @throws {SseError} `SSE_HEAD_SENT` if the program has already sent the head of this response.
   */
  open(): boolean

  /**
   * Sends one event: a string as it is, anything else as JSON (or by the middleware's `serialize`).
   *
   * Await it for backpressure: it resolves with `true` when there is room for more, and with `false` once the stream is closed. It never
   * rejects because of the client. More than `maxQueuedBytes` of unsent data destroys the stream.
   *
   * @throws {SseError} as a rejection: `SSE_INVALID_DATA`, `SSE_INVALID_EVENT` and `SSE_HEAD_SENT` as in {@link encodeEvent} and
   *   {@link open}; `SSE_ID_RESERVED` for an `id` on a subscribed stream, whose ids belong to the hub. The stream stays open. A
   *   rejection that nobody handles goes to `onError`.
   * @example
   * await res.sse.send({ done: 3, of: 7 }, { event: 'progress' })
   */
  send(data: unknown, fields?: EventFields): Promise<boolean>

  /** Sends a comment, which clients ignore. Every line of the text becomes a comment line. Resolves as {@link send} does. */
  comment(text?: string): Promise<boolean>

  /**
   * Sends each item of an iterable, an async iterable, a Readable or a web `ReadableStream`, at the client's pace.
   *
   * Without `toEvent`, an item is the data of its event. `toEvent` returns `{ data, event?, id?, retry? }`. In place of the function,
   * `{ event: 'token', end: true }` names every event and closes the stream for good at the end of the source.
   *
   * When the client leaves, the source is stopped, even while it waits for an item: a generator is `return()`ed, a Readable destroyed, a
   * web stream cancelled. Bytes have to be decoded first: `readable.setEncoding('utf8')`, or
   * `response.body.pipeThrough(new TextDecoderStream())`.
   *
   * @returns `true` at the end of the source, `false` if the stream was closed before.
   * @throws the error of the source or of `toEvent`, and what {@link send} rejects with. The source is stopped then, and the stream
   *   stays open. A rejection that nobody handles goes to `onError`.
   * @example
   * await res.sse.stream(model.tokens(prompt), { event: 'token', end: true })
   */
  stream<T>(source: Source<T>, toEvent?: ((item: T) => EventInput) | StreamOptions): Promise<boolean>

  /**
   * Subscribes the client to channels of a hub, from its `Last-Event-ID` on. A stream can be subscribed once.
   *
   * At a limit of the hub, and while the hub closes, the client is refused: it receives 200 and a `stream-end` event with a `retry:`, and
   * the response ends. A client that does not accept event streams receives 503 and `Retry-After`. An invalid channel name counts as the
   * client's error, even if the program chose it: the client is refused with 400 through `next(error)`.
   *
   * @returns the subscription once it is live: the client receives everything that is published from then on. The subscription is
   *   closed if the client is gone or was refused, and for HEAD.
   * @throws {SseError} as a rejection: `SSE_ALREADY_SUBSCRIBED` for a second call, `SSE_INVALID_OWNER` for an invalid `owner`,
   *   `SSE_HEAD_SENT` as in {@link open}. `TypeError` and `RangeError` name an invalid argument or option. A rejection that nobody
   *   handles goes to `onError`, and to `next(error)` if the request was not answered.
   * @example
   * app.get('/events', (req, res) => res.sse.subscribe(hub, ['orders', `user:${req.user.id}`]))
   */
  subscribe<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>>(
    hub: Subscribable<C>,
    channels: N | readonly N[],
    options?: SubscribeOptions<C, N>,
  ): Promise<Subscription>

  /**
   * Ends the response. Before that, the client receives the events that are due, until the socket is full. An EventSource reconnects
   * and receives the rest.
   *
   * With `reconnect: false` the client does not reconnect: it receives a `stream-close` event with a `retry:` of 23 days, or status 204 if
   * the head was not sent yet. Everything that was published before the call is sent first, so the stream waits for a slow client. If
   * delivery is blocked for `stallTimeoutMs` by something other than the client, such as a snapshot that never resolves, the stream ends
   * normally and the client reconnects.
   */
  close(options?: CloseOptions): void
}
