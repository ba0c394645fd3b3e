import { describeValue } from '../basics/errors.ts'
import { checkOwner } from '../basics/names.ts'
import { checkFunction, checkInteger, checkOptions } from '../basics/options.ts'
import type { AnyChannels, ChannelName, HubEvent } from '../event/channel-types.ts'

/** Returns whether a subscriber wants an event. */
export type EventFilter = (event: HubEvent) => boolean

/** The current state of channels, as one event. */
export interface Snapshot {
  /** The name of the event. Default `'snapshot'`. */
  readonly event?: string | undefined
  /** The state. A string is sent as it is, anything else as JSON (or by the hub's `serialize`). */
  readonly data: unknown
}

/** The client that a snapshot is for. */
export interface SnapshotContext {
  /** The `owner` of its subscription. */
  readonly owner: string | undefined
}

/** Returns the current state of channels. */
export type TakeSnapshot<N extends string = string> = (channels: readonly N[], context: SnapshotContext) => Snapshot | PromiseLike<Snapshot>

/** Options of `res.sse.subscribe`. */
export interface SubscribeOptions<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>> {
  /**
   * Returns whether this client receives an event. It is called once per event and subscriber, and must be synchronous. A filter
   * that throws or returns a promise counts as `false`, and is reported to the hub's `onError`. Subscribers share the event
   * object: do not change it.
   */
  readonly filter?: ((event: HubEvent<C, N>) => boolean) | undefined
  /**
   * The number of newest events of each channel that a client without a `Last-Event-ID` receives first. It receives fewer if fewer are
   * kept. Default 0.
   */
  readonly rewind?: number | undefined
  /** The owner of the connection, for `maxSubscribersPerOwner` and `hub.disconnect`: any string but `''`. Default: none. */
  readonly owner?: string | undefined
  /**
   * The time at which the client's access ends: a Date, or milliseconds since 1970 (for a JSON Web Token, `exp * 1_000`). From then on
   * nothing is sent. The stream is closed within a second, and the client reconnects after 1 to 5 s and authenticates again. A time in the
   * past ends the access at once. Default: never.
   */
  readonly expiresAt?: Date | number | undefined
  /**
   * Returns the current state of channels as `{ event?, data }`. The state is sent to a client without a `Last-Event-ID`, and after
   * every `stream-reset` for the channels that lost events. Events that are published after the call follow it, so state and events
   * join without a gap. Nothing else is sent before it. If the function fails, the stream is closed, so that the client asks again.
   * The filter does not apply to the snapshot.
   *
   * The function must see every change that was published before the call. So change the state first, then publish, and do not read
   * from a replica that lags behind.
   *
   * Clients of the same `owner` that ask for the same channels while the function runs share one call, if the function is the same
   * object. So create it once, outside of the request handler, and let its answer depend on the channels and the owner alone.
   */
  readonly snapshot?: TakeSnapshot<N> | undefined
}

/** {@link SubscribeOptions} that have been checked. */
export interface SubscribeSettings {
  readonly filter: EventFilter | undefined
  readonly rewind: number
  readonly owner: string | undefined
  /** Milliseconds since 1970; `Infinity` for never. */
  readonly expiresAt: number
  readonly snapshot: TakeSnapshot | undefined
}

const DEFAULTS: SubscribeSettings = { filter: undefined, rewind: 0, owner: undefined, expiresAt: Infinity, snapshot: undefined }

/** Checks the options of a subscription and fills in their defaults. */
export function checkSubscribeOptions(options: object | undefined): SubscribeSettings {
  if (options === undefined) return DEFAULTS
  checkOptions('subscribe', options, ['filter', 'rewind', 'owner', 'expiresAt', 'snapshot'])
  const { filter, rewind, owner, expiresAt, snapshot }: SubscribeOptions = options
  if (snapshot !== undefined && rewind !== undefined && rewind > 0) {
    throw new RangeError(
      `subscribe: rewind and snapshot exclude each other, because a snapshot contains the events before it; got rewind ` +
        describeValue(rewind),
    )
  }
  return {
    filter: checkFunction('subscribe: filter', filter, undefined),
    rewind: checkInteger('subscribe: rewind', rewind, 0, { min: 0 }),
    owner: checkOwner('subscribe: owner', owner),
    expiresAt: checkTime('subscribe: expiresAt', expiresAt),
    snapshot: checkFunction('subscribe: snapshot', snapshot, undefined),
  }
}

/**
 * A smaller number is probably in seconds, the unit of a JSON Web Token's `exp`. As milliseconds, it is a time before March 1973; as
 * seconds, it can be any time until the year 5138.
 */
const LEAST_LIKELY_MS = 100_000_000_000

function checkTime(name: string, value: Date | number | undefined): number {
  if (value === undefined) return Infinity
  const ms = value instanceof Date ? value.getTime() : value
  if (typeof ms !== 'number') {
    throw new TypeError(`${name} must be a Date or a number of milliseconds since 1970, got ${describeValue(value)}`)
  }
  if (Number.isNaN(ms)) throw new RangeError(`${name} must be a valid time, got ${describeValue(value)}`)
  if (ms > 0 && ms < LEAST_LIKELY_MS) {
    throw new RangeError(`${name} is in milliseconds since 1970, and looks like seconds: multiply it by 1,000; got ${describeValue(value)}`)
  }
  return ms
}
