import type { Backplane } from '../backplanes/backplane.ts'
import type { OnError } from '../basics/on-error.ts'
import type { AnyChannels, ChannelName, EventName, HubEvent, Payload } from '../event/channel-types.ts'
import type { Deserialize, Serialize } from '../event/event.ts'
import type { HubSchemas } from '../event/schemas.ts'
import type { ReplayOptions } from '../log/replay-options.ts'

/** Options of {@link Hub}. */
export interface HubOptions {
  /** The bounds of every channel's replay log, or a function that gives those of a channel by its name. */
  readonly replay?: ReplayOptions | ((channel: string) => ReplayOptions) | undefined
  /**
   * The most bytes that all logs hold together, the objects around the events included (see `logBytes` of
   * {@link HubStats}): a channel with one small event counts about 2,700. The log that was not published to for longest loses
   * first. Default 268,435,456 (256 MiB).
   */
  readonly maxTotalBytes?: number | undefined
  /** How many streams may be subscribed; more are refused politely. `false`: as many as come. Default `false`. */
  readonly maxSubscribers?: number | false | undefined
  /**
   * How many streams may be subscribed with the same `owner`. `false`: as many as come. Default `false`.
   *
   * One more is refused politely. With `{ max, whenFull: 'close-oldest' }` it is let in, and the oldest stream of that owner
   * is ended with a `stream-end` (reason `limit`). This helps behind a proxy that never passes a client's disconnect on,
   * where connections that nobody reads would lock their owner out.
   */
  readonly maxSubscribersPerOwner?: number | false | OwnerLimit | undefined
  /** Turns payloads that are not strings into text. Default `JSON.stringify`. */
  readonly serialize?: Serialize | undefined
  /** The reverse of `serialize`, by which filters and `events()` see the payload. Default `JSON.parse`. */
  readonly deserialize?: Deserialize | undefined
  /**
   * What carries the events between processes, for instance `new RedisBackplane({ url })` of `express-sse-hub/redis`. All
   * processes that share one give the same `replay`. It belongs to this hub, which closes it. Default: there is one process.
   */
  readonly backplane?: Backplane | undefined
  /** Is told of faults in callbacks, which never reach a client. Default: `process.emitWarning`. */
  readonly onError?: OnError | undefined
}

/** How many streams an owner may have, and what happens to one more. */
export interface OwnerLimit {
  /** 1 or more. */
  readonly max: number
  /** `'refuse'`: one more stream is refused. `'close-oldest'`: the owner's oldest stream is ended for it. Default `'refuse'`. */
  readonly whenFull?: 'refuse' | 'close-oldest' | undefined
}

/** Options of a {@link Hub} whose payloads are validated, and its channels inferred. */
export interface SchemaHubOptions<S extends HubSchemas> extends HubOptions {
  /**
   * A Standard Schema (zod, valibot, arktype, …) for each event of each channel: `publish` validates by it and stores what
   * it puts out. A name like `'user:*'` is a family of channels.
   */
  readonly schemas: S
}

/** Options of {@link Hub.publish}. */
export interface PublishOptions {
  /**
   * Names this publish, 1 to 256 UTF-16 units. Published to the same channel again, whatever the event, within its
   * `maxAgeMs` (and the last 100,000 such keys of the hub), nothing is stored and the first event's id comes back. For
   * publishers that retry.
   */
  readonly idempotencyKey?: string | undefined
  /**
   * What the event is the newest state of, 1 to 256 UTF-16 units, on channels with `replay: { latestPerKey: true }`: it
   * takes the place of the event before it with this key, whatever its name.
   */
  readonly key?: string | undefined
}

/** Options of {@link Hub.events}. */
export interface EventsOptions<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>> {
  /** The id of the last event that was dealt with: what follows it comes first. Default: what is published from now on. */
  readonly lastEventId?: string | undefined
  /** Without `lastEventId`: each channel starts at its n-th last event kept. Default 0. */
  readonly rewind?: number | undefined
  /** Whether an event is given, as in `subscribe`. */
  readonly filter?: ((event: HubEvent<C, N>) => boolean) | undefined
  /** Ends the iteration when it is aborted. */
  readonly signal?: AbortSignal | undefined
}

/**
 * The streams that {@link Hub.disconnect} ends: those of an owner, those that have no channel but this one, or those for
 * which a predicate returns `true`.
 */
export type DisconnectTarget = string | { readonly channel: string } | ((subscriber: SubscriberInfo) => boolean)

/** Options of {@link Hub.disconnect}. */
export interface DisconnectOptions {
  /** `false`: the clients receive `stream-close` and do not reconnect. Default `true`: they reconnect in 1 to 5 s. */
  readonly reconnect?: boolean | undefined
}

/** One stream, as a predicate of {@link Hub.disconnect} sees it. */
export interface SubscriberInfo {
  readonly owner: string | undefined
  readonly channels: readonly string[]
}

/** A channel of a hub, bound to its name. It creates nothing until it publishes. */
export interface ChannelHandle<C extends object, N extends ChannelName<C>> {
  readonly name: N
  /** How many streams and `events()` follow the channel now. */
  readonly subscriberCount: number
  /** The id of the channel's newest event, `''` before the first. */
  readonly lastEventId: string
  /** The same as {@link Hub.publish} on this channel. */
  publish<E extends EventName<C, N>>(event: E, data: Payload<C, N, E>, options?: PublishOptions): Promise<string>
}

/** Options of {@link Hub.stats}. */
export interface StatsOptions {
  /** Whether the processes that share the hub's backplane are asked too. Default `false`. */
  readonly all?: boolean | undefined
}

/** Options of {@link Hub.close}. */
export interface HubCloseOptions {
  /** Over how many milliseconds the ends of the streams are spread. Default 0. */
  readonly drainMs?: number | undefined
}
