import type { AnyChannels, HubEvent } from '../event/channel-types.ts'
import type { HubSchemas, SchemaChannels, SchemaInputs } from '../event/schemas.ts'
import type { join, Plan } from '../stream/subscribable.ts'
import type { ResetEvent } from './event-iterator.ts'
import type { EventsOptions, HubOptions, PublishOptions, SchemaHubOptions } from './hub-options.ts'
import { Hub as UntypedHub } from './hub.ts'

/**
 * A typed publish/subscribe hub with named channels and replay, in one process.
 *
 * `C` maps each channel to its events and their payloads, as subscribers see them; `P` is the same with the payloads that
 * `publish` takes, where schemas change them.
 */
export type Hub<C extends object = AnyChannels, P extends object = C> = UntypedHub<C, P>

/**
 * A hub of whatever channels: what a function takes that works with every typed hub. The compiler does not know its channels, so
 * it checks no payload.
 *
 * @example
 * function count(hub: AnyHub): number {
 *   return hub.stats().subscribers
 * }
 */
export interface AnyHub extends Pick<UntypedHub, 'disconnect' | 'stats' | 'health' | 'close'> {
  /** See {@link Hub.publish}. */
  publish(channel: string, event: string, data: unknown, options?: PublishOptions): Promise<string>
  /** See {@link Hub.events}. A filter says what it takes: `(event: HubEvent) => …`. */
  events(
    channels: string | readonly string[],
    options?: AnyEventsOptions,
  ): AsyncIterableIterator<HubEvent | ResetEvent> & { readonly lastEventId: string }
  /** @internal See {@link Subscribable}. */
  [join](channels: string | readonly string[], options: object | undefined): Plan
}

type AnyEventsOptions = Omit<EventsOptions, 'filter'> & { readonly filter?: ((event: never) => boolean) | undefined }

/** How hubs are made. */
export interface HubConstructor {
  /**
   * A hub whose channels are those of its schemas.
   *
   * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
   */
  // The second parameter is never given: by it `class MyHub extends Hub<Channels>` means the other signature.
  new <S extends HubSchemas, _ = S>(options: SchemaHubOptions<S>): Hub<SchemaChannels<S>, SchemaInputs<S>>
  /**
   * A hub whose channels are those of the type argument.
   *
   * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
   */
  new <C extends object = AnyChannels>(options?: HubOptions & { readonly schemas?: never }): Hub<C>
}

/**
 * A typed publish/subscribe hub with named channels and replay, in one process.
 *
 * Every channel keeps one bounded log of encoded events, and every subscriber is a cursor over the logs of its channels:
 * it is given each event once and in order, after a reconnect too, or is told by a `stream-reset` event what it lost.
 *
 * @example
 * type Channels = { orders: { created: Order; shipped: { id: string } } }
 * const hub = new Hub<Channels>()
 * app.get('/events', (req, res) => res.sse.subscribe(hub, ['orders']))
 * await hub.publish('orders', 'created', order)
 * @example
 * const hub = new Hub({ schemas: { orders: { created: z.object({ id: z.string() }) } } })
 */
export const Hub: HubConstructor = UntypedHub
