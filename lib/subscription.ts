import type { HubEvent, AnyChannels, ChannelName } from './channel-types.ts'

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
}

/** A stream's subscription to the channels of a hub. */
export interface Subscription {
  /** The channels, without doubles, in the order in which they were asked for. */
  readonly channels: readonly string[]
  /** Whether it is over: closed here, the client gone, or never begun. */
  readonly closed: boolean
  /** Ends the subscription. The stream stays open for direct sends. */
  close(): void
}

/** A subscription that never began: the client was gone, refused or only asked for the head. */
export function closedSubscription(channels: readonly string[]): Subscription {
  return { channels, closed: true, close() {} }
}
