import type { Backplane } from '../backplanes/backplane.ts'
import { MemoryBackplane } from '../backplanes/memory.ts'
import { drain } from '../basics/drain.ts'
import { SseError, describeValue } from '../basics/errors.ts'
import { safeOnError, warn } from '../basics/on-error.ts'
import { checkChannelName, checkChannels } from '../basics/names.ts'
import { checkBoolean, checkFunction, checkInteger, checkOptions, MAX_DELAY_MS } from '../basics/options.ts'
import { reported } from '../basics/promises.ts'
import { TimeSlice } from '../basics/time-slice.ts'
import { TurnBudget } from '../basics/turn-budget.ts'
import type { Channel } from '../delivery/channel.ts'
import { ChannelRegistry } from '../delivery/channel-registry.ts'
import { ControlEvents } from '../delivery/control-events.ts'
import { EventReader } from '../delivery/event-reader.ts'
import { Intake } from '../delivery/intake.ts'
import { Pump } from '../delivery/pump.ts'
import { Snapshots } from '../delivery/snapshots.ts'
import { startFrom } from '../delivery/start.ts'
import type { AnyChannels, ChannelName, EventName, Payload } from '../event/channel-types.ts'
import { formatId } from '../event/event-id.ts'
import { type HubSchemas, Schemas } from '../event/schemas.ts'
import { type LogHead, Timeline } from '../event/timeline.ts'
import { type HandlerOptions, type HandlerRequest, makeHandler, type SseHandler } from '../express/handler.ts'
import { replayBounds, type ReplayOptions } from '../log/replay-options.ts'
import { ChannelWarmup } from '../replica/channel-warmup.ts'
import { Replica } from '../replica/replica.ts'
import type { Connection } from '../stream/connection.ts'
import { limitEnd, type Refusal, type RefusalOptions, type RefusalReason, refusal } from '../stream/refusal.ts'
import { join, type Plan, type Subscribable } from '../stream/subscribable.ts'
import { checkSubscribeOptions, type SubscribeOptions, type Subscription } from '../stream/subscription.ts'
import { PendingSubscription, type AdmissionParts } from './pending-subscription.ts'
import { type AllStats, type Counters, type HubStats, total } from './counters.ts'
import { diagnostics } from './diagnostics.ts'
import { EventIterator, type HubEvents, type IteratorParts } from './event-iterator.ts'
import type {
  ChannelHandle,
  DisconnectOptions,
  DisconnectTarget,
  EventsOptions,
  HubCloseOptions,
  HubOptions,
  PublishOptions,
  SchemaHubOptions,
  StatsOptions,
} from './hub-options.ts'
import { type HubParts, HubSubscription } from './hub-subscription.ts'
import { ClusterRequests } from './cluster-requests.ts'
import { Publisher } from './publisher.ts'
import { checkTarget, SubscriptionRegistry } from './subscription-registry.ts'
import { SetupWarnings } from './setup-warnings.ts'

/** How long clients have to take the end of their stream when the hub closes. */
const CLOSE_TIMEOUT_MS = 5_000

/** The hub, without the inference of its channels: see {@link HubConstructor}. `P` are the payloads that `publish` takes. */
export class Hub<C extends object = AnyChannels, P extends object = C> implements Subscribable<C> {
  /** @internal Never set: by it the type of the channels is inferred. */
  declare readonly channelTypes?: C
  readonly #timeline = new Timeline()
  readonly #backplane: Backplane
  /** Keeps the logs as copies of those of the backplane; `null` where they are all there is. */
  readonly #replica: Replica | null
  readonly #warmup: ChannelWarmup | null
  readonly #channels: ChannelRegistry
  readonly #publisher: Publisher
  readonly #requests: ClusterRequests
  readonly #parts: HubParts
  readonly #iteratorParts: IteratorParts
  readonly #admissionParts: AdmissionParts
  readonly #registry: SubscriptionRegistry
  readonly #iterators = new Set<EventIterator>()
  readonly #counters: Counters = { published: 0, delivered: 0, resets: 0, stalls: 0, refusals: 0 }
  /** Streams are refused from `close()` on; what is published is, once they have been ended. */
  #isClosing = false
  #isClosed = false
  #closing: Promise<void> | null = null
  readonly #warnings: SetupWarnings

  /** @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range. */
  constructor(options: HubOptions | SchemaHubOptions<HubSchemas> = {}) {
    checkOptions('Hub', options, [
      'replay',
      'maxTotalBytes',
      'schemas',
      'maxSubscribers',
      'maxSubscribersPerOwner',
      'serialize',
      'deserialize',
      'backplane',
      'onError',
    ])
    const { replay, backplane = new MemoryBackplane() } = options
    const bounds = typeof replay === 'function' ? undefined : replayBounds('Hub: replay', replay)
    const boundsOf = (name: string) =>
      bounds ?? replayBounds(`Hub: replay(${describeValue(name)})`, (replay as (name: string) => ReplayOptions)(name))
    const serialize = checkFunction('Hub: serialize', options.serialize, JSON.stringify)
    const deserialize = checkFunction('Hub: deserialize', options.deserialize, JSON.parse)
    const schemas = 'schemas' in options && options.schemas !== undefined ? new Schemas(options.schemas) : undefined
    const onError = safeOnError(checkFunction('Hub: onError', options.onError, warn))
    const maxTotalBytes = checkInteger('Hub: maxTotalBytes', options.maxTotalBytes, 268_435_456, { min: 0 })
    const registry = (this.#registry = new SubscriptionRegistry(options))
    if (!isBackplane(backplane)) {
      throw new TypeError(`Hub: backplane must be a Backplane, such as new RedisBackplane({ url }), got ${describeValue(backplane)}`)
    }
    this.#backplane = backplane
    this.#warnings = new SetupWarnings(onError, options.backplane === undefined)
    const { log } = backplane
    const timeline = this.#timeline
    const onForgotten = log === null ? null : (channel: Channel) => this.#replica?.forget(channel)
    const channels = (this.#channels = new ChannelRegistry(boundsOf, maxTotalBytes, onForgotten))
    const counters = this.#counters
    const pump = new Pump((channel, position) => channels.settle(channel, position), counters)
    const intake = new Intake(channels, timeline, pump)
    const budget = new TurnBudget()
    const snapshots = new Snapshots(timeline, serialize, onError, (consumer) => pump.ready(consumer))
    this.#publisher = new Publisher({
      hub: this,
      backplane,
      channels,
      pump,
      budget,
      counters,
      serialize,
      schemas,
      onStored: (epoch, position) => this.#warmup?.published(epoch, position),
      onNewName: (name) => this.#warnings.checkName('channel', name),
    })
    this.#parts = {
      hub: this,
      pump,
      delivery: { timeline, reader: new EventReader(deserialize, onError), snapshots, onError, counters },
      control: new ControlEvents(timeline),
      counters,
      firstSlice: new TimeSlice(),
      caughtUp: log === null ? null : () => this.#warmup?.caughtUp() ?? Promise.resolve(),
      onRelease: (subscription) => {
        for (const { channel } of subscription.members) channels.left(channel)
        registry.released(subscription)
      },
      onFinish: (subscription) => registry.finished(subscription),
    }
    this.#iteratorParts = {
      ...this.#parts,
      timeline,
      budget,
      onOver: (iterator) => {
        this.#iterators.delete(iterator)
        for (const channel of iterator.channels) channels.left(channel)
      },
    }
    const replica = (this.#replica =
      log === null
        ? null
        : new Replica(log, {
            channels,
            intake,
            pump,
            timeline,
            snapshots,
            onError,
            onRefused: (channel, error) => this.#refuseChannel(channel, error),
          }))
    this.#warmup = replica === null ? null : new ChannelWarmup(replica, timeline)
    this.#admissionParts = {
      registry,
      log,
      preparation: this.#warmup,
      closed: () => (this.#isClosing ? 'closing' : undefined),
      refuse: (reason, names, owner, refusalOptions) => this.#refuse(reason, names, owner, refusalOptions),
      closeOldestHere: (owner) => this.#closeOldest(owner),
      closeOldest: (owner) => this.#requests.closeOldest(owner),
      begin: (connection, admission, lastEventId, now, onRelease) => this.#begin(connection, admission, lastEventId, now, onRelease),
    }
    this.#requests = new ClusterRequests(backplane, {
      // A target from another process is checked like one of this.
      disconnect: (target, reconnect) => this.#disconnectHere(checkTarget('owner' in target ? target.owner : target), reconnect),
      stats: () => this.#stats(),
      oldest: (owner) => {
        const oldest = registry.oldestOf(owner)
        return oldest === undefined ? null : performance.now() - oldest.openedAt
      },
      closeOldest: (owner) => this.#closeOldest(owner),
      onError,
    })
    const place = backplane.open({
      event: (epoch, name, event) => (replica === null ? intake.take(channels.get(name), event) : replica.event(epoch, name, event)),
      reached: (token) => replica?.reached(token),
      interrupted: () => replica?.interrupted(),
      resumed: (refused) => replica?.resumed(refused),
      controlMessage: (text) => this.#requests.heard(text),
      controlMessagesMissed: () => void this.#endAll(registry.disconnectNameable(), true),
      onError,
    })
    if (place !== null) {
      timeline.restart(place.epoch, place.newest)
      channels.restart(place.newest)
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
   *   or begins with `stream-`; either for one that the hub's schemas do not have; `SSE_INVALID_DATA` for a payload without a
   *   text form, or that its schema refuses (the issues are the error's `cause`); `SSE_INVALID_KEY` for a `key` or
   *   `idempotencyKey` that is not valid, or a `key` where the channel does not keep the latest per key; `SSE_HUB_CLOSED` after
   *   `close()`. `SSE_BACKPLANE_UNAVAILABLE` when the backplane did not answer, which may be after the event was stored: publish
   *   it again with the same `idempotencyKey`. A rejection that nobody looks at goes to `onError`.
   */
  publish<N extends ChannelName<P>, E extends EventName<P, N>>(
    channel: N,
    event: E,
    data: Payload<P, N, E>,
    options?: PublishOptions,
  ): Promise<string> {
    return this.#reported('publish', () => this.#publisher.publish(channel, event, data, options))
  }

  /**
   * A handle on one channel. It creates nothing.
   *
   * @throws {SseError} `SSE_INVALID_CHANNEL` for a name that is not valid.
   */
  channel<N extends ChannelName<P>>(name: N): ChannelHandle<P, N> {
    checkChannelName('channel', name)
    const channels = this.#channels
    const timeline = this.#timeline
    return {
      name,
      publish: (event, data, options) => this.publish(name, event, data, options),
      get subscriberCount() {
        return channels.find(name)?.size ?? 0
      },
      get lastEventId() {
        const last = channels.find(name)?.log.lastPosition ?? 0
        return last === 0 ? '' : formatId(timeline.epoch, last, name)
      },
    }
  }

  /**
   * The events of channels from now on, or from `lastEventId`, as an async iterable: for workers, bridges, tests, and
   * streams of your own shape. The promises are those of a subscribed client: each event once and in order, or a
   * `stream-reset` item that says what was lost (its `channel` is `''`). A consumer that does not pull holds its place in the
   * logs, and what came in the turn in which it last waited, or else about 64 KiB.
   *
   * It is live when it is returned (over a backplane, it begins with what is published after the call, and its first item
   * rejects with `SSE_BACKPLANE_UNAVAILABLE` where that does not answer), and over when `signal` is aborted, when it is left (`break`, `return()`), and when the
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
  events<N extends ChannelName<C>>(channels: N | readonly N[], options?: EventsOptions<C, N>): HubEvents<C, N> {
    checkOptions('events', options, ['lastEventId', 'rewind', 'filter', 'signal'])
    const { lastEventId = '', rewind, filter, signal } = options ?? {}
    if (typeof lastEventId !== 'string') throw new TypeError(`events: lastEventId must be a string, got ${describeValue(lastEventId)}`)
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw new TypeError(`events: signal must be an AbortSignal, got ${describeValue(signal)}`)
    }
    const settings = checkSubscribeOptions({ filter, rewind })
    const names = this.#checked('events', channels)
    const iterator = new EventIterator(this.#iteratorParts, signal, lastEventId)
    if (this.#isClosed) void iterator.return()
    if (!iterator.isOver) {
      this.#iterators.add(iterator)
      const begin = (now?: LogHead): void => iterator.begin(this.#channelsOf(names), startFrom(lastEventId, settings, this.#timeline, now))
      const ready = this.#warmup?.prepare(names, lastEventId)
      if (ready === undefined) begin()
      else void ready.then(begin).catch((error: unknown) => iterator.fail(error))
      const prepared = (): void => this.#warmup?.release(names)
      if (ready === undefined) prepared()
      else void ready.then(prepared, prepared)
    }
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
   * Ends streams, after what was published before: those of an owner, those that have only the channel `{ channel }` (a
   * finished job, a closed auction), or those for which a predicate returns `true`. Their clients reconnect in 1 to 5 s and
   * are authenticated anew; with `reconnect: false` they receive `stream-close` and stay away. An owner and a channel are
   * ended in all processes; a predicate is asked about the streams of this one.
   *
   * @returns how many streams were ended.
   * @throws {SseError} (as a rejection) `SSE_INVALID_OWNER` or `SSE_INVALID_CHANNEL` for one that is not valid, and whatever
   *   the predicate throws; nothing is ended then. `SSE_BACKPLANE_UNAVAILABLE` where some process could not be asked; the
   *   streams of the others are ended. A rejection that nobody looks at goes to `onError`.
   * @example
   * await hub.disconnect({ channel: `job:${id}` }, { reconnect: false })
   */
  disconnect(which: DisconnectTarget, options?: DisconnectOptions): Promise<number> {
    return this.#reported('disconnect', () => {
      checkOptions('disconnect', options, ['reconnect'])
      return this.#disconnect(which, checkBoolean('disconnect: reconnect', options?.reconnect, true))
    })
  }

  /** What there is now in this process, and what was counted since the hub was made. */
  stats(): HubStats
  /**
   * The same, of all processes added up; a channel counts in each that has it.
   *
   * @throws {SseError} (as a rejection) `SSE_BACKPLANE_UNAVAILABLE` while the backplane is away.
   */
  stats(options: StatsOptions): Promise<AllStats>
  stats(options?: StatsOptions): HubStats | Promise<AllStats> {
    checkOptions('stats', options, ['all'])
    return checkBoolean('stats: all', options?.all, false) ? this.#reported('stats', () => this.#allStats()) : this.#stats()
  }

  /**
   * Whether the hub can publish and deliver: `false` while its backplane is away or does not tell of what is published, and
   * once the hub is closed.
   */
  health(): boolean {
    return !this.#isClosed && (this.#replica?.isHealthy ?? true)
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
    const drainMs = checkInteger('close: drainMs', options?.drainMs, 0, { min: 0, max: MAX_DELAY_MS })
    // Before anything else: what is ended calls callbacks, and those may publish, subscribe or close again.
    this.#isClosing = true
    this.#isClosed = this.#publisher.isClosed = drainMs === 0
    this.#closing = Promise.resolve().then(() => this.#close(drainMs))
    return this.#closing
  }

  /** @internal See {@link Subscribable}. */
  [join]<N extends ChannelName<C>>(channels: N | readonly N[], options: SubscribeOptions<C, N> | undefined): Plan {
    const settings = checkSubscribeOptions(options)
    const names = this.#checked('subscribe', channels)
    if (settings.owner !== undefined) this.#warnings.checkName('owner', settings.owner)
    return new PendingSubscription(names, settings, this.#admissionParts)
  }

  #begin(
    connection: Connection,
    { channels, settings }: PendingSubscription,
    lastEventId: string,
    now: LogHead | undefined,
    onRelease: () => void,
  ): Subscription {
    const { owner } = settings
    this.#warnings.checkProcesses()
    const start = startFrom(lastEventId, settings, this.#timeline, now)
    const subscription = new HubSubscription(this.#channelsOf(channels), connection, this.#parts, start, owner, onRelease)
    this.#registry.add(subscription)
    if (diagnostics.subscribe.hasSubscribers) diagnostics.subscribe.publish({ hub: this, channels, owner, lastEventId })
    subscription.begin()
    return subscription
  }

  /** Names without doubles, of channels whose bounds are right. An error about one of them comes before any is made. */
  #checked(where: string, channels: unknown): string[] {
    const names = checkChannels(where, channels)
    for (const name of names) {
      this.#channels.boundsOf(name)
      this.#warnings.checkName('channel', name)
    }
    return names
  }

  /** The channels of these names, without what is too old in their logs. */
  #channelsOf(names: readonly string[]) {
    const channels = names.map((name) => this.#channels.get(name))
    for (const channel of channels) this.#channels.refresh(channel)
    return channels
  }

  /** Ends everything that follows a channel which the backplane refuses, so that nothing is missed silently. */
  async #refuseChannel(channel: Channel, error: Error): Promise<void> {
    for (const iterator of this.#iterators) if (iterator.channels.includes(channel)) iterator.fail(error)
    const streams = this.#registry.disconnect(({ channels }) => channels.includes(channel.name), true)
    await drain(streams, 0, (subscription) => subscription.endForReconnect('unavailable'))
  }

  async #disconnect(which: DisconnectTarget, reconnect: boolean): Promise<number> {
    const target = checkTarget(which)
    if (typeof target === 'function' || this.#isClosed) return this.#disconnectHere(target, reconnect)
    // Asked before anything is waited for: the program may close the hub right after this call.
    const asked = this.#requests.disconnect(target, reconnect)
    const [here, { answers, missing }] = await Promise.all([this.#disconnectHere(target, reconnect), asked])
    if (missing === 0) return answers.reduce((sum, count) => sum + count, here)
    throw new SseError(
      'SSE_BACKPLANE_UNAVAILABLE',
      `disconnect: ${missing} of ${answers.length + missing + 1} processes did not answer; the streams of the others were ended`,
    )
  }

  #disconnectHere(target: ReturnType<typeof checkTarget>, reconnect: boolean): Promise<number> {
    return this.#endAll(this.#registry.disconnect(target, reconnect), reconnect)
  }

  async #endAll(subscriptions: readonly HubSubscription[], reconnect: boolean): Promise<number> {
    await drain(subscriptions, 0, (subscription) => (reconnect ? subscription.endForReconnect('disconnected') : subscription.endForGood()))
    return subscriptions.length
  }

  /** Ends the oldest stream that an owner has here, to make room for another one. */
  #closeOldest(owner: string): boolean {
    const oldest = this.#registry.oldestOf(owner)
    oldest?.endForReconnect('limit', limitEnd())
    return oldest !== undefined
  }

  /** Runs a call of the program. A rejection that nobody looks at is reported. */
  #reported<T>(where: string, run: () => T | Promise<T>): Promise<T> {
    return reported(run, (error) => this.#parts.delivery.onError(error, { where }))
  }

  #stats(): HubStats {
    return {
      channels: this.#channels.size,
      subscribers: this.#registry.size,
      logBytes: this.#channels.bytes,
      ...this.#counters,
    }
  }

  async #allStats(): Promise<AllStats> {
    const { answers, missing } = await this.#requests.stats()
    return total([this.#stats(), ...answers], missing)
  }

  #refuse(reason: RefusalReason, channels: readonly string[], owner: string | undefined, options?: RefusalOptions): Refusal {
    this.#counters.refusals++
    if (diagnostics.refuse.hasSubscribers) diagnostics.refuse.publish({ hub: this, channels, owner, reason })
    return refusal(reason, options)
  }

  async #close(drainMs: number): Promise<void> {
    await drain(
      this.#registry.present(),
      drainMs,
      (subscription) => subscription.endForReconnect('closing'),
      ({ isClosed }) => isClosed,
    )
    this.#isClosed = this.#publisher.isClosed = true
    // An iterator ends after everything that was published before; where the backplane is away, after what is known.
    if (this.#iterators.size > 0) await this.#warmup?.caughtUp().catch(() => {})
    for (const iterator of this.#iterators) iterator.finish()
    const timer = setTimeout(() => {
      for (const subscription of this.#registry.present()) subscription.destroy()
    }, CLOSE_TIMEOUT_MS)
    await this.#registry.empty()
    clearTimeout(timer)
    this.#replica?.close()
    await this.#backplane.close()
    this.#channels.clear()
  }
}

function isBackplane(value: unknown): value is Backplane {
  return typeof value === 'object' && value !== null && 'open' in value && typeof value.open === 'function' && 'log' in value
}
