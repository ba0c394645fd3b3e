/**
 * What a hub without a type argument carries: any channel, any event, any payload.
 *
 * A map of channels names each channel, or a family of channels by a template literal, and for each its events with
 * their payloads: `{ orders: { created: Order }; [user: \`user:${string}\`]: { notification: Notice } }`.
 */
export type AnyChannels = Record<string, Record<string, unknown>>

/** The names of the channels of `C`, families included. */
export type ChannelName<C extends object> = keyof C & string

/** The names of the events of the channel `N`; of several channels, those that all of them have. */
export type EventName<C extends object, N extends ChannelName<C>> = keyof C[N] & string

/**
 * The payload of the event `E` of the channel `N`. Of a union of events it is what fits every one of them, so that a
 * payload which suits only one is refused.
 */
export type Payload<C extends object, N extends ChannelName<C>, E extends string> = (
  N extends unknown ? (E extends keyof C[N] ? (data: C[N][E]) => void : never) : never
) extends (data: infer Data) => void
  ? Data
  : never

/** An event of the channels `N` as filters and consumers see it. */
export type HubEvent<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>> = N extends unknown
  ? {
      [E in EventName<C, N>]: {
        /** The event's id: opaque, to be given back as `lastEventId`. */
        readonly id: string
        readonly channel: N
        readonly event: E
        /** The payload as a client reads it, never the publisher's own object. */
        readonly data: C[N][E]
      }
    }[EventName<C, N>]
  : never
