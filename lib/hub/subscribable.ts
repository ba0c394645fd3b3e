import type { ChannelName } from '../event/channel-types.ts'
import type { SubscribeOptions } from '../delivery/subscribe-options.ts'
import type { ClientConnection } from './client-connection.ts'
import type { Refusal } from './refusal.ts'

/** A stream's subscription to channels of a hub. */
export interface Subscription {
  /** The names of the channels, each once, in the order of the call. */
  readonly channels: readonly string[]
  /** Whether the subscription has ended, or never began. */
  readonly isClosed: boolean
  /** Resolves when the subscription has ended, and never rejects. */
  readonly ended: Promise<void>
  /** Ends the subscription. The stream stays open for direct sends. */
  close(): void
}

/** A subscription that never began, because the client was gone, was refused, or asked for the head alone. */
export function closedSubscription(channels: readonly string[]): Subscription {
  return { channels, isClosed: true, ended: Promise.resolve(), close() {} }
}

/**
 * The key of the method by which a stream subscribes to a hub. The symbol is in the global registry, so that a stream and a hub work
 * together even if they come from different copies of this package.
 */
export const join: unique symbol = Symbol.for('express-sse-hub.join')

/** A hub, as a stream sees it. */
export interface Subscribable<C extends object> {
  /** Never set. TypeScript infers the hub's channels from it. */
  readonly channelTypes?: C
  /**
   * Checks a subscription and throws if it is invalid. Nothing is counted or stored yet.
   *
   * @param lastEventId the client's `Last-Event-ID`; `''` for none.
   */
  [join]<N extends ChannelName<C>>(
    channels: N | readonly N[],
    options: SubscribeOptions<C, N> | undefined,
    lastEventId: string,
  ): PendingSubscription
}

/**
 * A subscription that has been checked and has not begun. The stream calls {@link prepare}, then {@link refusal}. If there is no refusal,
 * it calls {@link begin}. In every case, it calls {@link cancel} last.
 */
export interface PendingSubscription {
  /** The names of the channels, each once. */
  readonly channels: readonly string[]
  /**
   * Registers a subscription that has to wait, so that `hub.disconnect` finds it.
   *
   * @internal
   */
  wait(): void
  /**
   * Prepares the channels and counts the stream. Returns `undefined` if that is done at once. The promise never rejects.
   *
   * @param canOpen whether the stream can be opened. If not, no other stream is closed to make room for it.
   * @internal
   */
  prepare(canOpen: boolean): Promise<void> | undefined
  /**
   * The refusal of the stream; `undefined` if it can begin now. Each call that returns a refusal is counted, so do not call it again after
   * one.
   *
   * @internal
   */
  refusal(): Refusal | undefined
  /** @internal */
  begin(connection: ClientConnection): Subscription
  /**
   * Releases what was prepared, unless the subscription has begun.
   *
   * @internal
   */
  cancel(): void
}
