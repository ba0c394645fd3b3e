import { drain } from '../basics/drain.ts'
import { SseError, show } from '../basics/errors.ts'
import { guarded, isThenable, warn } from '../basics/guard.ts'
import { checkChannelName, checkChannels, checkEventName, checkKey, publishing } from '../basics/names.ts'
import { checkFunction, checkInteger, checkOptions, MAX_DELAY_MS } from '../basics/options.ts'
import { Slice } from '../basics/slice.ts'
import { TurnBudget } from '../basics/turn-budget.ts'
import { ChannelRegistry } from '../delivery/channel-registry.ts'
import { ControlEvents } from '../delivery/control-events.ts'
import { EventReader } from '../delivery/event-reader.ts'
import { Pump } from '../delivery/pump.ts'
import { Snapshots } from '../delivery/snapshots.ts'
import { startFrom } from '../delivery/start.ts'
import type { AnyChannels, ChannelName, EventName, Payload } from '../event/channel-types.ts'
import { formatId } from '../event/event-id.ts'
import { formatBody, type Serialize, toText } from '../event/event.ts'
import { type HubSchemas, Schemas } from '../event/schemas.ts'
import { Timeline } from '../event/timeline.ts'
import { type HandlerOptions, type HandlerRequest, makeHandler, type SseHandler } from '../express/handler.ts'
import { IdempotencyKeys } from '../log/idempotency-keys.ts'
import { replayBounds, type ReplayOptions } from '../log/replay-log.ts'
import type { Connection } from '../stream/connection.ts'
import { type Refusal, type RefusalReason, refusal } from '../stream/refusal.ts'
import { join, type Plan, type Subscribable } from '../stream/subscribable.ts'
import { checkSubscribeOptions, type SubscribeOptions, type SubscribeSettings, type Subscription } from '../stream/subscription.ts'
import type { Counters, HubStats } from './counters.ts'
import { diagnostics } from './diagnostics.ts'
import { EventIterator, type HubEvents, type IteratorParts } from './event-iterator.ts'
import type { ChannelHandle, EventsOptions, HubCloseOptions, HubOptions, PublishOptions, SchemaHubOptions, SubscriberInfo } from './hub-options.ts'
import { type HubParts, HubSubscription } from './hub-subscription.ts'
import { Roster } from './roster.ts'

/** How long clients have to take the end of their stream when the hub closes. */
const CLOSE_TIMEOUT_MS = 5_000

/** The hub, without the inference of its channels: see {@link HubConstructor}. `P` are the payloads that `publish` takes. */
export class Hub<C extends object = AnyChannels, P extends object = C> implements Subscribable<C> {
  /** @internal Never set: by it the type of the channels is inferred. */
  declare readonly channelTypes?: C
  readonly #timeline = new Timeline()
  readonly #channels: ChannelRegistry
  readonly #pump: Pump
  readonly #parts: HubParts
  readonly #iteratorParts: IteratorParts
  readonly #budget = new TurnBudget()
  readonly #serialize: Serialize
  readonly #schemas: Schemas | undefined
  readonly #keys = new IdempotencyKeys()
  readonly #roster: Roster
  readonly #iterators = new Set<EventIterator>()
  readonly #counters: Counters = { published: 0, delivered: 0, resets: 0, stalls: 0, refusals: 0 }
  /** Streams are refused from `close()` on; what is published is, once they have been ended. */
  #isClosing = false
  #isClosed = false
  #closing: Promise<void> | null = null

  /** @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range. */
  constructor(options: HubOptions | SchemaHubOptions<HubSchemas> = {}) {
    checkOptions('Hub', options, [
      'replay',
      'maxTotalBytes',
      'schemas',
      'maxSubscribers',
      'maxSubscribersPerKey',
      'serialize',
      'deserialize',
      'onError',
    ])
    const { replay } = options
    const bounds = typeof replay === 'function' ? undefined : replayBounds('replay', replay)
    const boundsOf = (name: string) => bounds ?? replayBounds(`replay(${show(name)})`, (replay as (name: string) => ReplayOptions)(name))
    const serialize = (this.#serialize = checkFunction('serialize', options.serialize, JSON.stringify))
    const deserialize = checkFunction('deserialize', options.deserialize, JSON.parse)
    this.#schemas = 'schemas' in options && options.schemas !== undefined ? new Schemas(options.schemas) : undefined
    const { epoch } = this.#timeline
    const timeline = this.#timeline
    const onError = guarded(checkFunction('onError', options.onError, warn))
    this.#channels = new ChannelRegistry(boundsOf, checkInteger('maxTotalBytes', options.maxTotalBytes, 268_435_456, { min: 0 }))
    const roster = (this.#roster = new Roster(options))
    const pump = (this.#pump = new Pump((channel, position) => this.#channels.settle(channel, position)))
    this.#parts = {
      hub: this,
      pump,
      delivery: {
        timeline,
        reader: new EventReader(epoch, deserialize, onError),
        snapshots: new Snapshots(timeline, serialize, onError, (follower) => pump.ready(follower)),
        onError,
        counters: this.#counters,
      },
      control: new ControlEvents(epoch),
      counters: this.#counters,
      firstSlice: new Slice(),
      onRelease: (subscription) => {
        for (const { channel } of subscription.members) this.#channels.left(channel)
        roster.released(subscription)
      },
      onFinish: (subscription) => roster.finished(subscription),
    }
    this.#iteratorParts = {
      ...this.#parts,
      epoch,
      budget: this.#budget,
      onOver: (iterator) => {
        this.#iterators.delete(iterator)
        for (const channel of iterator.channels) this.#channels.left(channel)
      },
    }
  }

  /**
   * Publishes an event to everybody who is subscribed to the channel, and keeps it for those who reconnect.
   *
   * The payload is validated where the hub has schemas, and encoded once: a string as it is, anything else as JSON (or by
   * `serialize`). An awaiting publisher that is faster than the delivery is slowed down to it.
   *
   * @returns the event's id.
   * @throws {SseError} (as a rejection, before anything is stored) `SSE_INVALID_CHANNEL` for a channel name that is not a
   *   well-formed string of 1 to 256 UTF-16 units; `SSE_INVALID_EVENT` for an event name that is empty, has a line break
   *   or begins with `stream-`; either for one that the hub's schemas do not have; `SSE_INVALID_DATA` for a payload without a text form, or that its schema refuses (the
   *   issues are the error's `cause`); `SSE_INVALID_KEY` for a `key` or `idempotencyKey` that is not valid, or a `key` where
   *   the channel does not keep the latest per key; `SSE_HUB_CLOSED` after `close()`.
   */
  async publish<N extends ChannelName<P>, E extends EventName<P, N>>(
    channel: N,
    event: E,
    data: Payload<P, N, E>,
    options?: PublishOptions,
  ): Promise<string> {
    checkChannelName(channel)
    checkEventName(event)
    const { key, idempotencyKey } = options === undefined ? NO_OPTIONS : this.#checkPublishOptions(channel, options)
    let payload: unknown = data
    if (this.#schemas !== undefined) {
      payload = this.#schemas.validate(channel, event, data)
      if (isThenable(payload)) payload = await payload
    }
    const text = toText(payload, this.#serialize, () => publishing(channel, event))
    if (this.#isClosed) throw new SseError('SSE_HUB_CLOSED', `the hub is closed: nothing can be published to ${show(channel)} any more`)
    const { epoch } = this.#timeline
    const known = idempotencyKey === undefined ? undefined : this.#keys.find(channel, idempotencyKey)
    if (known !== undefined) return formatId(epoch, known, channel)
    const target = this.#channels.get(channel)
    const position = this.#timeline.next()
    const idLine = `id: ${epoch}-${position}${target.idSuffix}`
    this.#channels.append(target, idLine + formatBody(text, event), position, typeof payload === 'string', key)
    if (idempotencyKey !== undefined) this.#keys.remember(channel, idempotencyKey, position, target.log.bounds.maxAgeMs)
    const id = idLine.slice('id: '.length, -1)
    this.#counters.published++
    const isFollowed = target.members.size > 0
    if (isFollowed) this.#pump.published(target)
    if (diagnostics.publish.hasSubscribers) diagnostics.publish.publish({ hub: this, channel, event, id })
    if (isFollowed) {
      if (this.#budget.isSpent()) await this.#budget.nextTurn()
      const { log } = target
      while (log.waitingBytes > log.waitingCeiling / 2 && !this.#isClosed) await this.#pump.nextRound()
    }
    return id
  }

  /**
   * A handle on one channel. It creates nothing.
   *
   * @throws {SseError} `SSE_INVALID_CHANNEL` for a name that is not valid.
   */
  channel<N extends ChannelName<P>>(name: N): ChannelHandle<P, N> {
    checkChannelName(name)
    const channels = this.#channels
    const { epoch } = this.#timeline
    return {
      name,
      publish: (event, data, options) => this.publish(name, event, data, options),
      get subscriberCount() {
        return channels.find(name)?.members.size ?? 0
      },
      get lastEventId() {
        const last = channels.find(name)?.log.last ?? 0
        return last === 0 ? '' : formatId(epoch, last, name)
      },
    }
  }

  /**
   * The events of channels from now on, or from `lastEventId`, as an async iterable: for workers, bridges, tests, and
   * streams of your own shape. The promises are those of a subscribed client: each event once and in order, or a
   * `stream-reset` item that says what was lost (its `channel` is `''`). A consumer that does not pull holds its place in the
   * logs, and what came in the turn in which it last waited, or else about 64 KiB.
   *
   * It is live when it is returned, and over when `signal` is aborted, when it is left (`break`, `return()`), and when the
   * hub closes, after everything published before; of a hub that is closed it is over at once. An event that `deserialize`
   * cannot read is reported to `onError` and left out.
   *
   * @throws {SseError} `SSE_INVALID_CHANNEL` for a name that is not valid. `TypeError` and `RangeError` name a wrong option.
   * @example
   * for await (const item of hub.events(['orders'], { signal })) {
   *   if (item.event === 'stream-reset') await reload()
   *   else await index(item.data)
   * }
   */
  events<N extends ChannelName<C>>(channels: readonly N[], options?: EventsOptions<C, N>): HubEvents<C, N> {
    checkOptions('events', options, ['lastEventId', 'rewind', 'filter', 'signal'])
    const { lastEventId = '', rewind, filter, signal } = options ?? {}
    if (typeof lastEventId !== 'string') throw new TypeError(`lastEventId must be a string, got ${show(lastEventId)}`)
    if (signal !== undefined && !(signal instanceof AbortSignal)) throw new TypeError(`signal must be an AbortSignal, got ${show(signal)}`)
    const settings = checkSubscribeOptions({ filter, rewind })
    const names = this.#checked(channels)
    const iterator = new EventIterator(this.#channelsOf(names), this.#iteratorParts, startFrom(lastEventId, settings, this.#timeline), signal)
    if (!iterator.isOver) this.#iterators.add(iterator)
    if (this.#isClosed) void iterator.return()
    return iterator as HubEvents<C, N>
  }

  /**
   * A ready route: it subscribes each request to the channels given, or to those that the client names in the query, as far
   * as `authorize` lets it. It uses `res.sse` where `sseMiddleware()` is mounted, and defaults elsewhere.
   *
   * A request for no channel, for more than `maxChannels` or for an impossible name is answered with 400, one for a channel
   * that it may not see with 403. If a callback fails, `onError` is told, and the client is refused politely, to come back.
   *
   * @throws {TypeError} when the client is to name the channels, and there is no `authorize`.
   * @example
   * app.get('/events', hub.handler({ authorize: (req, channel) => channel === `user:${req.user.id}` }))
   */
  handler<N extends ChannelName<C>, R = HandlerRequest>(options: HandlerOptions<C, N, R>): SseHandler {
    const { onError } = this.#parts.delivery
    return makeHandler(this, options, { onError, refuse: (channels) => this.#refuse('fault', channels, undefined) })
  }

  /**
   * Ends the streams of a `key`, or those for which the predicate is true, after what was published before: their clients
   * come back in 1 to 5 s, and are authenticated anew.
   *
   * @returns how many streams were ended.
   * @throws {SseError} (as a rejection) `SSE_INVALID_KEY` for a key that is not valid, and whatever the predicate throws;
   *   nothing is ended then.
   */
  async disconnect(which: string | ((subscriber: SubscriberInfo) => boolean)): Promise<number> {
    const chosen = this.#roster.matching(which)
    await drain(chosen, 0, (subscription) => subscription.turnedAway())
    return chosen.length
  }

  /** What there is now, and what was counted since the hub was made. */
  stats(): HubStats {
    return {
      channels: this.#channels.size,
      subscribers: this.#roster.size,
      logBytes: this.#channels.bytes,
      ...this.#counters,
    }
  }

  /**
   * Closes the hub: every client is given what is due and a `retry:` of 1 to 5 s, and its stream is ended. Whoever
   * subscribes from now on is told to come back. A client that has not taken the end of its stream 5 s after the last was
   * ended is destroyed.
   *
   * `drainMs` spreads the ends evenly over so long; what is published meanwhile reaches those who are still there. Once all
   * have been ended, `publish` rejects and `events()` end.
   *
   * @returns when all streams of subscribers are gone, so that `server.close()` can complete. Called again, the same promise.
   * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
   */
  close(options?: HubCloseOptions): Promise<void> {
    if (this.#closing !== null) return this.#closing
    checkOptions('close', options, ['drainMs'])
    const drainMs = checkInteger('drainMs', options?.drainMs, 0, { min: 0, max: MAX_DELAY_MS })
    // Before anything else: what is ended calls callbacks, and those may publish, subscribe or close again.
    this.#isClosing = true
    this.#isClosed = drainMs === 0
    this.#closing = Promise.resolve().then(() => this.#close(drainMs))
    return this.#closing
  }

  /** @internal See {@link Subscribable}. */
  [join]<N extends ChannelName<C>>(channels: readonly N[], options: SubscribeOptions<C, N> | undefined): Plan {
    const settings = checkSubscribeOptions(options)
    const names = this.#checked(channels)
    return {
      channels: names,
      refusal: () => {
        const reason = this.#isClosing ? 'closing' : this.#roster.limitFor(settings.key)
        return reason && this.#refuse(reason, names, settings.key)
      },
      start: (connection, lastEventId) => this.#subscribe(connection, names, lastEventId, settings),
    }
  }

  #subscribe(connection: Connection, names: readonly string[], lastEventId: string, settings: SubscribeSettings): Subscription {
    const start = startFrom(lastEventId, settings, this.#timeline)
    const subscription = new HubSubscription(this.#channelsOf(names), connection, this.#parts, start, settings.key)
    this.#roster.add(subscription)
    if (diagnostics.subscribe.hasSubscribers) {
      diagnostics.subscribe.publish({ hub: this, channels: names, key: settings.key, lastEventId })
    }
    subscription.begin()
    return subscription
  }

  /** Names without doubles, of channels whose bounds are right: whatever is wrong with one is said before any is made. */
  #checked(channels: readonly string[]): string[] {
    const names = checkChannels(channels)
    for (const name of names) this.#channels.boundsOf(name)
    return names
  }

  /** The channels of these names, without what is too old in their logs. */
  #channelsOf(names: readonly string[]) {
    const channels = names.map((name) => this.#channels.get(name))
    for (const channel of channels) this.#channels.refresh(channel)
    return channels
  }

  #checkPublishOptions(channel: string, options: PublishOptions): PublishOptions {
    checkOptions('publish', options, ['key', 'idempotencyKey'])
    const checked = { key: checkKey('key', options.key), idempotencyKey: checkKey('idempotencyKey', options.idempotencyKey) }
    if (checked.key === undefined || this.#channels.boundsOf(channel).latestPerKey) return checked
    throw new SseError('SSE_INVALID_KEY', `publish to ${show(channel)}: a key needs a channel with replay: { latestPerKey: true }, got ${show(options.key)}`)
  }

  #refuse(reason: RefusalReason, channels: readonly string[], key: string | undefined): Refusal {
    this.#counters.refusals++
    if (diagnostics.refuse.hasSubscribers) diagnostics.refuse.publish({ hub: this, channels, key, reason })
    return refusal(reason)
  }

  async #close(drainMs: number): Promise<void> {
    await drain(
      this.#roster.present(),
      drainMs,
      (subscription) => subscription.turnedAway(),
      ({ closed }) => closed,
    )
    this.#isClosed = true
    for (const iterator of this.#iterators) iterator.finish()
    const timer = setTimeout(() => {
      for (const subscription of this.#roster.present()) subscription.destroy()
    }, CLOSE_TIMEOUT_MS)
    await this.#roster.empty()
    clearTimeout(timer)
    this.#channels.clear()
    this.#keys.clear()
  }
}

const NO_OPTIONS: PublishOptions = {}
