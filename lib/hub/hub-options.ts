import type { Backplane } from '../backplanes/backplane.ts'
import type { OnError } from '../basics/on-error.ts'
import type { AnyChannels, ChannelName, EventName, HubEvent, Payload } from '../event/channel-types.ts'
import type { Deserialize, Serialize } from '../event/event.ts'
import type { HubSchemas } from '../event/schemas.ts'
import type { ReplayOptions } from '../log/replay-options.ts'

/** Options of {@link Hub}. */
export interface HubOptions {
  /** The bounds of every channel's replay log, or a function that returns the bounds of a channel by its name. */
  readonly replay?: ReplayOptions | ((channel: string) => ReplayOptions) | undefined
  /**
   * The most bytes that all logs hold together, including the objects around the events (see `logBytes` of {@link HubStats}): a channel
   * with one small event counts about 2,700. The least recently published log loses events first. Default 268,435,456 (256 MiB).
   */
  readonly maxTotalBytes?: number | undefined
  /**
   * The most streams that may be subscribed. More are refused, and their clients reconnect later. `false` for no limit. Default `false`.
   */
  readonly maxSubscribers?: number | false | undefined
  /**
   * The most streams that may be subscribed with the same `owner`. `false` for no limit. Default `false`.
   *
   * A stream past the limit is refused. With `{ max, whenFull: 'close-oldest' }` it is admitted, and the oldest stream of that owner is
   * ended with a `stream-end` (reason `limit`). This helps behind a proxy that does not pass a client's disconnect on: connections that
   * nobody reads would lock their owner out.
   */
  readonly maxSubscribersPerOwner?: number | false | OwnerLimit | undefined
  /** Turns payloads that are not strings into text. Default `JSON.stringify`. */
  readonly serialize?: Serialize | undefined
  /** The reverse of `serialize`, for the payloads that filters and `events()` see. Default `JSON.parse`. */
  readonly deserialize?: Deserialize | undefined
  /**
   * The backplane that carries events between processes, for instance `new RedisBackplane({ url })` of `express-sse-hub/redis`. All
   * processes that share it must pass the same `replay`. It belongs to this hub, which closes it. Default: one process.
   */
  readonly backplane?: Backplane | undefined
  /** Called with errors that have no caller, such as those of a filter. They never reach a client. Default: `process.emitWarning`. */
  readonly onError?: OnError | undefined
}

/** The limit for one owner's streams. */
export interface OwnerLimit {
  /** The most streams that an owner may have, 1 or more. */
  readonly max: number
  /** `'refuse'` refuses a stream past the limit. `'close-oldest'` lets it replace the owner's oldest stream. Default `'refuse'`. */
  readonly whenFull?: 'refuse' | 'close-oldest' | undefined
}

/** Options of a {@link Hub} with schemas, which validate its payloads and define its channels. */
export interface SchemaHubOptions<S extends HubSchemas> extends HubOptions {
  /**
   * A Standard Schema (zod, valibot, arktype, …) for each event of each channel. `publish` validates payloads and stores the schema's
   * output. A name like `'user:*'` is a family of channels.
   */
  readonly schemas: S
}

/** Options of {@link Hub.publish}. */
export interface PublishOptions {
  /**
   * A name for this publish, 1 to 256 UTF-16 units, for publishers that retry. If the same name was published to the channel within its
   * `maxAgeMs`, nothing is stored, and the id of the first event is returned. A `MemoryBackplane` remembers the last 100,000 names.
   */
  readonly idempotencyKey?: string | undefined
  /**
   * Names the thing whose state the event carries, in 1 to 256 UTF-16 units, on channels with `replay: { latestPerKey: true }`. The event
   * replaces the previous event with this key, even if that has another event name.
   */
  readonly key?: string | undefined
}

/** Options of {@link Hub.events}. */
export interface EventsOptions<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>> {
  /** The id of the last event that was processed. The events after it come first. Default: begin with the next event. */
  readonly lastEventId?: string | undefined
  /** Without `lastEventId`: how many of the newest kept events of each channel come first. Default 0. */
  readonly rewind?: number | undefined
  /** Returns whether an event is wanted, as in `subscribe`. */
  readonly filter?: ((event: HubEvent<C, N>) => boolean) | undefined
  /** Aborting the signal ends the iteration. */
  readonly signal?: AbortSignal | undefined
}

/**
 * The streams that {@link Hub.disconnect} ends: all streams of an owner, all streams whose only channel is `channel`, or all streams for
 * which a predicate returns `true`.
 */
export type DisconnectTarget = string | { readonly channel: string } | ((subscriber: SubscriberInfo) => boolean)

/** Options of {@link Hub.disconnect}. */
export interface DisconnectOptions {
  /** `false`: the clients receive `stream-close` and do not reconnect. Default `true`: they reconnect after 1 to 5 s. */
  readonly reconnect?: boolean | undefined
}

/** A subscribed stream, as a predicate of {@link Hub.disconnect} sees it. */
export interface SubscriberInfo {
  readonly owner: string | undefined
  readonly channels: readonly string[]
}

/** A handle on one channel of a hub. It creates nothing until it publishes. */
export interface ChannelHandle<C extends object, N extends ChannelName<C>> {
  readonly name: N
  /** The number of streams and iterators of `events()` that are subscribed to the channel in this process. */
  readonly subscriberCount: number
  /** The id of the channel's newest event, `''` before the first. */
  readonly lastEventId: string
  /** Publishes to the channel: see {@link Hub.publish}. */
  publish<E extends EventName<C, N>>(event: E, data: Payload<C, N, E>, options?: PublishOptions): Promise<string>
}

/** Options of {@link Hub.stats}. */
export interface StatsOptions {
  /** Whether to add up the figures of all processes that share the hub's backplane. Default `false`. */
  readonly all?: boolean | undefined
}

/** Options of {@link Hub.close}. */
export interface HubCloseOptions {
  /** The time in milliseconds over which the ends of the streams are spread. Default 0. */
  readonly drainMs?: number | undefined
}
