import type { BackplaneHost } from '../backplanes/backplane.ts'
import { drain } from '../basics/drain.ts'
import { SseError, describeValue } from '../basics/errors.ts'
import { checkChannelName, checkChannels } from '../basics/names.ts'
import { checkBoolean, checkInteger, checkOptions, MAX_DELAY_MS } from '../basics/options.ts'
import { reported } from '../basics/promises.ts'
import { TurnBudget } from '../basics/turn-budget.ts'
import { resumePoint, startPosition } from '../delivery/cursor.ts'
import { DeliveryEngine } from '../delivery/delivery-engine.ts'
import { checkSubscribeOptions, type SubscribeOptions } from '../delivery/subscribe-options.ts'
import type { AnyChannels, ChannelName, EventName, Payload } from '../event/channel-types.ts'
import { formatId } from '../event/event-id.ts'
import type { HubSchemas } from '../event/schemas.ts'
import type { LogHead } from '../event/timeline.ts'
import { LocalLogs } from '../replica/hub-logs.ts'
import { ReplicatedLogs } from '../replica/replicated-logs.ts'
import { ClusterRequests } from './cluster-requests.ts'
import { EventIterator, type HubEvents } from './event-iterator.ts'
import type { HubContext } from './hub-context.ts'
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
import { type HubSettings, hubSettings } from './hub-settings.ts'
import { type AllStats, type HubStats, total } from './hub-stats.ts'
import { PendingHubSubscription } from './pending-subscription.ts'
import { Publisher } from './publisher.ts'
import { type Refusal, refusal } from './refusal.ts'
import { SetupWarnings } from './setup-warnings.ts'
import { closedSubscription, join, type PendingSubscription, type Subscribable } from './subscribable.ts'
import { checkTarget, SubscriptionRegistry } from './subscription-registry.ts'
import { Telemetry } from './telemetry.ts'

/** The key of the method by which a route reports that a callback of the program has failed. */
export const fault: unique symbol = Symbol('fault')

/** The time that clients have to take the end of their stream when the hub closes. */
const CLOSE_TIMEOUT_MS = 5_000

/**
 * The hub without its HTTP route. `Hub` adds `handler()`, and constructor types that infer the channels. `P` maps the channels to the
 * payloads that `publish` takes.
 */
export class HubCore<C extends object = AnyChannels, P extends object = C> implements Subscribable<C> {
  /** Never set. TypeScript infers the hub's channels from it. */
  declare readonly channelTypes?: C
  readonly #settings: HubSettings
  readonly #context: HubContext
  readonly #publisher: Publisher
  readonly #warnings: SetupWarnings
  #closing: Promise<void> | null = null

  /** @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range. */
  constructor(options: HubOptions | SchemaHubOptions<HubSchemas> = {}) {
    const settings = (this.#settings = hubSettings(options))
    const { backplane, onError } = settings
    const telemetry = new Telemetry(this)
    const engine = new DeliveryEngine(settings, telemetry.counters)
    const registry = new SubscriptionRegistry(settings.limits)
    const { log } = backplane
    const logs = log === null ? new LocalLogs(engine) : new ReplicatedLogs(log, engine, registry, onError)
    const requests = new ClusterRequests(backplane, registry, () => this.#stats(), onError)
    this.#context = { engine, logs, registry, requests, telemetry, budget: new TurnBudget() }
    this.#warnings = new SetupWarnings(onError, !settings.hasBackplane)
    this.#publisher = new Publisher(settings, this.#context, this.#warnings)
    const head = backplane.open(this.#host())
    if (head !== null) engine.restart(head.epoch, head.newest, head.newest)
  }

  /**
   * Publishes an event to every subscriber of the channel, and keeps it for clients that reconnect.
   *
   * The payload is validated if the hub has schemas, and encoded once: a string as it is, anything else as JSON (or by
   * `serialize`). A publisher that awaits the call is slowed down to the pace of the delivery.
   *
   * @returns the event's id.
   * @throws {SseError} as a rejection, before anything is stored:
   *   - `SSE_INVALID_CHANNEL` if the channel name is not a well-formed string of 1 to 256 UTF-16 units, or not in the schemas;
   *   - `SSE_INVALID_EVENT` if the event name is empty, has a line break, begins with `stream-`, or is not in the schemas;
   *   - `SSE_INVALID_DATA` if the payload has no text form, or if its schema refuses it (the `cause` has the issues);
   *   - `SSE_INVALID_KEY` if `key` or `idempotencyKey` is invalid, or if the channel of a `key` does not keep the latest per key;
   *   - `SSE_HUB_CLOSED` after `close()`.
   *
   *   A `TypeError` names an unknown option. `SSE_BACKPLANE_UNAVAILABLE` means that the backplane did not answer. The event may have been
   *   stored: publish it again with the same `idempotencyKey`. A rejection that nobody handles goes to `onError`.
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
   * Returns a handle on one channel. It creates nothing.
   *
   * @throws {SseError} `SSE_INVALID_CHANNEL` for an invalid name.
   */
  channel<N extends ChannelName<P>>(name: N): ChannelHandle<P, N> {
    checkChannelName('channel', name)
    const { channels, timeline } = this.#context.engine
    return {
      name,
      publish: (event, data, options) => this.publish(name, event, data, options),
      get subscriberCount() {
        return channels.find(name)?.consumerCount ?? 0
      },
      get lastEventId() {
        const last = channels.find(name)?.log.lastPosition ?? 0
        return last === 0 ? '' : formatId(timeline.epoch, last, name)
      },
    }
  }

  /**
   * Returns the events of channels as an async iterable, from now on or after `lastEventId`: for workers, bridges, tests, and streams of
   * your own shape. It keeps the promises of a subscribed client: each event once and in order, or a `stream-reset` item (with the channel
   * `''`) that says what was lost. While the program does not ask for the next item, the iterator takes no more events once it holds about
   * 64 KiB. It may hold more only if they come from the turn of the event loop in which the program last waited.
   *
   * The iterable is live when it is returned. Over a backplane it begins with events that are published after the call, and its first
   * `next()` rejects with `SSE_BACKPLANE_UNAVAILABLE` if the backplane does not answer. It ends when `signal` is aborted, when the program
   * leaves it (`break`, `return()`), and when the hub closes, after everything that was published before. An event that `deserialize`
   * cannot decode is reported to `onError` and left out.
   *
   * @throws {SseError} `SSE_INVALID_CHANNEL` for an invalid name. `TypeError` and `RangeError` name an invalid option.
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
    const names = this.#checkedNames('events', channels)
    const { engine, logs } = this.#context
    const iterator = new EventIterator(this.#context, signal, lastEventId)
    if (this.#publisher.isClosed) void iterator.return()
    if (iterator.isOver) return iterator as HubEvents<C, N>
    const from = resumePoint(lastEventId)
    const begin = (now?: LogHead): void => {
      iterator.begin(engine.channelsFor(names), settings, startPosition(from, engine.timeline, now))
    }
    const release = (): void => logs.release(names)
    const ready = logs.prepare(names, from)
    if (ready === undefined) {
      begin()
      release()
    } else {
      void ready.then(begin).catch((error: unknown) => iterator.fail(error))
      void ready.then(release, release)
    }
    return iterator as HubEvents<C, N>
  }

  /**
   * Ends streams. Each client first receives the events that were published before the call. The target is an owner (all streams of that
   * owner), `{ channel }` (all streams that have only that channel, for a finished job or a closed auction), or a predicate. The clients
   * reconnect after 1 to 5 s and authenticate again. With `reconnect: false` they receive `stream-close` and do not reconnect.
   *
   * An owner and a channel apply to all processes, a predicate to the streams of this process.
   *
   * @returns how many streams were ended.
   * @throws {SseError} as a rejection: `SSE_INVALID_OWNER` or `SSE_INVALID_CHANNEL` for an invalid target, and the error of a predicate
   *   that throws. Nothing is ended then. `SSE_BACKPLANE_UNAVAILABLE` if a process did not answer: the streams of the other processes
   *   were ended. A rejection that nobody handles goes to `onError`.
   * @example
   * await hub.disconnect({ channel: `job:${id}` }, { reconnect: false })
   */
  disconnect(which: DisconnectTarget, options?: DisconnectOptions): Promise<number> {
    return this.#reported('disconnect', () => {
      checkOptions('disconnect', options, ['reconnect'])
      return this.#disconnect(which, checkBoolean('disconnect: reconnect', options?.reconnect, true))
    })
  }

  /** Returns the present state of this process, and its counters since the hub was created. */
  stats(): HubStats
  /**
   * With `{ all: true }`, resolves with the sums over all processes. A channel counts once for each process that has it.
   *
   * @throws {SseError} as a rejection: `SSE_BACKPLANE_UNAVAILABLE` while the backplane is unavailable.
   */
  stats(options: StatsOptions): Promise<AllStats>
  stats(options?: StatsOptions): HubStats | Promise<AllStats> {
    checkOptions('stats', options, ['all'])
    return checkBoolean('stats: all', options?.all, false) ? this.#reported('stats', () => this.#allStats()) : this.#stats()
  }

  /**
   * Returns whether the hub can publish and deliver now. It is `false` while the backplane does not answer or does not deliver, and
   * once the hub is closed.
   */
  health(): boolean {
    return !this.#publisher.isClosed && this.#context.logs.isHealthy
  }

  /**
   * Closes the hub. Every client receives what is due and a `retry:` of 1 to 5 s, and its stream is ended. New streams are refused, so that
   * their clients reconnect. The hub destroys a client that has not taken the end of its stream within 5 s of the last stream's end.
   *
   * `drainMs` spreads the ends evenly over that time. Events that are published meanwhile reach the clients that are still connected.
   * Once all streams have been ended, `publish` rejects and `events()` end.
   *
   * @returns a promise that resolves when the responses of all subscribers are over, so that `server.close()` can complete. A second
   *   call returns the same promise.
   * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
   */
  close(options?: HubCloseOptions): Promise<void> {
    if (this.#closing !== null) return this.#closing
    checkOptions('close', options, ['drainMs'])
    const drainMs = checkInteger('close: drainMs', options?.drainMs, 0, { min: 0, max: MAX_DELAY_MS })
    // Set first, because the end of a stream calls back into the program, which may publish, subscribe or close again.
    this.#context.registry.isClosing = true
    this.#publisher.isClosed = drainMs === 0
    this.#closing = Promise.resolve().then(() => this.#close(drainMs))
    return this.#closing
  }

  /** See {@link Subscribable}. */
  [join]<N extends ChannelName<C>>(
    channels: N | readonly N[],
    options: SubscribeOptions<C, N> | undefined,
    lastEventId: string,
  ): PendingSubscription {
    const settings = checkSubscribeOptions(options)
    const names = this.#checkedNames('subscribe', channels)
    if (settings.owner !== undefined) this.#warnings.checkName('owner', settings.owner)
    this.#warnings.checkProcesses()
    return new PendingHubSubscription(names, settings, lastEventId, this.#context)
  }

  /** Reports that a callback of a route has failed. Returns a hub that refuses the client who subscribes to it. */
  [fault](error: unknown, where: string, channels: readonly string[]): Subscribable<Record<'refused', object>> {
    this.#settings.onError(error, { where })
    const refuse = (): Refusal => {
      this.#context.telemetry.refused({ channels, owner: undefined }, 'fault')
      return refusal('fault')
    }
    return {
      [join]: () => ({ channels: [], refusal: refuse, prepare() {}, wait() {}, cancel() {}, begin: () => closedSubscription([]) }),
    }
  }

  /** Passes each call of the backplane to the part of the hub that handles it. */
  #host(): BackplaneHost {
    const { logs, registry, requests } = this.#context
    return {
      event: (epoch, channel, event) => logs.event(epoch, channel, event),
      reached: (token) => logs.reached(token),
      interrupted: () => logs.interrupted(),
      resumed: (refused) => logs.resumed(refused),
      controlMessage: (text) => requests.received(text),
      controlMessagesMissed: () => void registry.disconnectNameable(),
      onError: this.#settings.onError,
    }
  }

  /** Checks the names and the bounds of channels before any channel is created. Returns the names without duplicates. */
  #checkedNames(where: string, channels: unknown): string[] {
    const names = checkChannels(where, channels)
    for (const name of names) {
      this.#context.engine.channels.boundsOf(name)
      this.#warnings.checkName('channel', name)
    }
    return names
  }

  async #disconnect(which: DisconnectTarget, reconnect: boolean): Promise<number> {
    const { registry, requests } = this.#context
    const target = checkTarget(which)
    if (typeof target === 'function' || this.#publisher.isClosed) return registry.disconnect(target, reconnect)
    // Sent before anything is awaited, because the program may close the hub right after this call.
    const asked = requests.disconnect(target, reconnect)
    const [here, { answers, missing }] = await Promise.all([registry.disconnect(target, reconnect), asked])
    if (missing === 0) return answers.reduce((sum, count) => sum + count, here)
    throw new SseError(
      'SSE_BACKPLANE_UNAVAILABLE',
      `disconnect: ${missing} of ${answers.length + missing + 1} processes did not answer; the streams of the others were ended`,
    )
  }

  /** Runs a call of the program. A rejection that the program does not handle is reported. */
  #reported<T>(where: string, call: () => T | Promise<T>): Promise<T> {
    return reported(call, (error) => this.#settings.onError(error, { where }))
  }

  #stats(): HubStats {
    const { engine, registry, telemetry } = this.#context
    return { channels: engine.channels.size, subscribers: registry.size, logBytes: engine.channels.bytes, ...telemetry.counters }
  }

  async #allStats(): Promise<AllStats> {
    const { answers, missing } = await this.#context.requests.stats()
    return total([this.#stats(), ...answers], missing)
  }

  async #close(drainMs: number): Promise<void> {
    const { engine, logs, registry } = this.#context
    await drain(
      registry.present(),
      drainMs,
      (stream) => stream.endForReconnect('closing'),
      ({ isClosed }) => isClosed,
    )
    this.#publisher.isClosed = true
    // Iterators end after everything that was published before the close. If the backplane does not answer, they end after
    // the events that have arrived.
    if (registry.iterators.size > 0) await logs.caughtUp()?.catch(() => {})
    for (const iterator of registry.iterators) iterator.finish()
    const timer = setTimeout(() => {
      for (const stream of registry.present()) stream.destroy()
    }, CLOSE_TIMEOUT_MS)
    await registry.empty()
    clearTimeout(timer)
    logs.close()
    await this.#settings.backplane.close()
    engine.channels.clear()
  }
}
