import { describeValue } from '../basics/errors.ts'
import { checkOwner } from '../basics/names.ts'
import { checkFunction, checkInteger, checkOptions } from '../basics/options.ts'
import type { AnyChannels, ChannelName, HubEvent } from '../event/channel-types.ts'
import type { EventFilter } from './event-filter.ts'

/** The current state of channels, as one event. */
export interface Snapshot {
  /** The name of the event. Default `'snapshot'`. */
  readonly event?: string | undefined
  /** The state: a string as it is, anything else as JSON (or by the hub's `serialize`). */
  readonly data: unknown
}

/** The client that a snapshot is taken for. */
export interface SnapshotContext {
  /** The `owner` of its subscription. */
  readonly owner: string | undefined
}

/** Gives the current state of channels. */
export type TakeSnapshot<N extends string = string> = (channels: readonly N[], context: SnapshotContext) => Snapshot | PromiseLike<Snapshot>

/** What `res.sse.subscribe` takes beside the channels. */
export interface SubscribeOptions<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>> {
  /**
   * Whether this client is given an event. Called once per event and subscriber, synchronously; one that throws or
   * returns a promise counts as `false` and is reported to the hub's `onError`. The event is shared: do not change it.
   */
  readonly filter?: ((event: HubEvent<C, N>) => boolean) | undefined
  /**
   * On a first connect (no `Last-Event-ID`) each channel starts at its n-th last event kept; fewer are given where
   * fewer are kept. Default 0.
   */
  readonly rewind?: number | undefined
  /** Whose connection this is, for `maxSubscribersPerOwner` and `hub.disconnect`: any string but `''`. Default: nobody's. */
  readonly owner?: string | undefined
  /**
   * When the access of this client ends, as a Date or in milliseconds since 1970 (of a JSON Web Token `exp * 1_000`).
   * Nothing is sent from then on, and the stream is closed within a second, so that the client comes back in 1 to 5 s and
   * is authenticated anew; where it is past already, that is at once. It holds for as long as the subscription does.
   * Default: never.
   */
  readonly expiresAt?: Date | number | undefined
  /**
   * The current state of channels, as `{ event?, data }`: sent on a first connect, and after every `stream-reset` for the
   * channels that lost events. What is published from the moment of the call on follows it, so that state and events join
   * without a hole; until it is there, nothing else is sent. If it fails, the stream is closed, so that the client asks
   * again. The filter is not asked about it.
   *
   * It must read what was changed before it was published: change the state first, then publish, and do not read a copy that
   * lags behind.
   *
   * Clients of the same `owner` who ask for the same channels by the same function while it runs share one call: make the
   * function once, outside of the request handler, and let its answer depend on the channels and the owner alone.
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
      `subscribe: rewind and snapshot exclude each other: the events before a snapshot are in it; got rewind ${describeValue(rewind)}`,
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

/** Before March 1973 in milliseconds, and beyond the year 5000 in seconds: as the `exp` of a JSON Web Token is. */
const SECONDS_UNTIL = 100_000_000_000

function checkTime(name: string, value: Date | number | undefined): number {
  if (value === undefined) return Infinity
  const ms = value instanceof Date ? value.getTime() : value
  if (typeof ms !== 'number') {
    throw new TypeError(`${name} must be a Date or a number of milliseconds since 1970, got ${describeValue(value)}`)
  }
  if (Number.isNaN(ms)) throw new RangeError(`${name} must be a valid time, got ${describeValue(value)}`)
  if (ms > 0 && ms < SECONDS_UNTIL) {
    throw new RangeError(`${name} is in milliseconds since 1970, and looks like seconds: multiply it by 1,000; got ${describeValue(value)}`)
  }
  return ms
}

/** A stream's subscription to the channels of a hub. */
export interface Subscription {
  /** The channels, without doubles, in the order in which they were asked for. */
  readonly channels: readonly string[]
  /** Whether it is over: closed here, the client gone, or never begun. */
  readonly isClosed: boolean
  /** Resolves when it is over, and never rejects. */
  readonly ended: Promise<void>
  /** Ends the subscription. The stream stays open for direct sends. */
  close(): void
}

/** A subscription that never began: the client was gone, refused or only asked for the head. */
export function closedSubscription(channels: readonly string[]): Subscription {
  return { channels, isClosed: true, ended: Promise.resolve(), close() {} }
}
