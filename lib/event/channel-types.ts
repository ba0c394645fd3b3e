/**
 * The channels of a hub without a type argument: any channel, any event, any payload.
 *
 * A map of channels lists the events of each channel with their payloads. A template literal type as the name describes a
 * family of channels: `{ orders: { created: Order }; [user: \`user:${string}\`]: { notification: Notice } }`.
 */
export type AnyChannels = Record<string, Record<string, unknown>>

/** The channel names of `C`, including those of families. */
export type ChannelName<C extends object> = keyof C & string

/** The event names of the channel `N`. For a union of channels, only the names that all of them have. */
export type EventName<C extends object, N extends ChannelName<C>> = keyof C[N] & string

/**
 * The payload of the event `E` of the channel `N`. For a union of events it is the intersection of their payloads, so that
 * the compiler refuses a payload that fits only one of them.
 */
export type Payload<C extends object, N extends ChannelName<C>, E extends string> = (
  N extends unknown ? (E extends keyof C[N] ? (data: C[N][E]) => void : never) : never
) extends (data: infer Data) => void
  ? Data
  : never

/** An event of the channels `N`, as filters and iterators receive it. */
export type HubEvent<C extends object = AnyChannels, N extends ChannelName<C> = ChannelName<C>> = N extends unknown
  ? {
      [E in EventName<C, N>]: {
        /** The event's id. It is opaque; pass it back as `lastEventId` to resume after this event. */
        readonly id: string
        readonly channel: N
        readonly event: E
        /** The payload as a client parses it. It is never the publisher's own object. */
        readonly data: C[N][E]
      }
    }[EventName<C, N>]
  : never
