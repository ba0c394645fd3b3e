import type { AnyChannels, HubEvent } from '../event/channel-types.ts'
import type { HubSchemas, SchemaChannels, SchemaInputs } from '../event/schemas.ts'
import type { ResetEvent } from '../hub/event-iterator.ts'
import type { EventsOptions, HubOptions, PublishOptions, SchemaHubOptions } from '../hub/hub-options.ts'
import type { join, PendingSubscription } from '../hub/subscribable.ts'
import { Hub as RoutedHub } from './routed-hub.ts'

/**
 * A typed publish/subscribe hub with named channels and replay.
 *
 * `C` maps each channel to its events and their payloads, as subscribers see them. `P` maps them to the payloads that `publish`
 * takes, which differ if the schemas transform payloads.
 */
export type Hub<C extends object = AnyChannels, P extends object = C> = RoutedHub<C, P>

/**
 * A hub with any channels, as the parameter of a function that works with every typed hub. The compiler does not know the channels, so
 * it checks no payload.
 *
 * @example
 * function count(hub: AnyHub): number {
 *   return hub.stats().subscribers
 * }
 */
export interface AnyHub extends Pick<RoutedHub, 'disconnect' | 'stats' | 'health' | 'close'> {
  /** See {@link Hub.publish}. */
  publish(channel: string, event: string, data: unknown, options?: PublishOptions): Promise<string>
  /** See {@link Hub.events}. A filter declares the events that it takes: `(event: HubEvent) => …`. */
  events(
    channels: string | readonly string[],
    options?: AnyEventsOptions,
  ): AsyncIterableIterator<HubEvent | ResetEvent> & { readonly lastEventId: string }
  /** See {@link Subscribable}. */
  [join](channels: string | readonly string[], options: object | undefined, lastEventId: string): PendingSubscription
}

type AnyEventsOptions = Omit<EventsOptions, 'filter'> & { readonly filter?: ((event: never) => boolean) | undefined }

/** The constructor of {@link Hub}. */
export interface HubConstructor {
  /**
   * Creates a hub whose channels are those of its schemas.
   *
   * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
   */
  // The second type parameter is never passed. It makes `class MyHub extends Hub<Channels>` choose the other signature, which has a single
  // type parameter.
  new <S extends HubSchemas, _ = S>(options: SchemaHubOptions<S>): Hub<SchemaChannels<S>, SchemaInputs<S>>
  /**
   * Creates a hub whose channels are those of the type argument.
   *
   * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
   */
  new <C extends object = AnyChannels>(options?: HubOptions & { readonly schemas?: never }): Hub<C>
}

/**
 * A typed publish/subscribe hub with named channels and replay.
 *
 * Every channel keeps one bounded log of encoded events, and every subscriber is a cursor over the logs of its channels. It receives
 * each event once and in order, after a reconnect too, or a `stream-reset` event that says what was lost.
 *
 * @example
 * type Channels = { orders: { created: Order; shipped: { id: string } } }
 * const hub = new Hub<Channels>()
 * app.get('/events', (req, res) => res.sse.subscribe(hub, ['orders']))
 * await hub.publish('orders', 'created', order)
 * @example
 * const hub = new Hub({ schemas: { orders: { created: z.object({ id: z.string() }) } } })
 */
export const Hub: HubConstructor = RoutedHub
