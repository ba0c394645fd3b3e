import type { ChannelName } from '../event/channel-types.ts'
import type { Connection } from './connection.ts'
import type { Refusal } from './refusal.ts'
import type { SubscribeOptions, Subscription } from './subscription.ts'

/** The key of the method by which a stream subscribes to a hub. Two copies of the package understand each other. */
export const join: unique symbol = Symbol.for('express-sse-hub.join')

/** What a stream can subscribe to: a {@link Hub}. */
export interface Subscribable<C extends object> {
  /** @internal Never set: by it the type of the channels is inferred. */
  readonly channelTypes?: C
  /** @internal Checks what is asked for and throws when it is wrong; nothing is stored yet. */
  [join]<N extends ChannelName<C>>(channels: N | readonly N[], options: SubscribeOptions<C, N> | undefined): Plan
}

/** A subscription that was checked, and is not begun yet. */
export interface Plan {
  readonly channels: readonly string[]
  /** Why it is refused, if it is: each answer counts, so ask no more after one. */
  refusal(): Refusal | undefined
  /**
   * Makes ready what the subscription needs; `undefined` where it is. When it takes long it may resolve to a refusal. After it
   * comes {@link start} or {@link cancel}.
   *
   * @param canOpen whether the stream can be opened: no other stream is ended for one that cannot. Default `true`.
   */
  prepare(lastEventId: string, canOpen?: boolean): Promise<Refusal | undefined> | undefined
  /** It waits for its turn on the connection: it may be disconnected meanwhile. */
  wait(): void
  /** It will not begin, unless it has. */
  cancel(): void
  /** Begins it, given the connection and where the client wants to resume from. */
  start(connection: Connection, lastEventId: string): Subscription
}
