/** What a hub has counted since it was made. */
export interface Counters {
  /** Events that were stored. */
  published: number
  /** Events given to subscribers: one for each event and subscriber, replayed ones included. */
  delivered: number
  /** `stream-reset`s that subscribers were given. */
  resets: number
  /** Clients destroyed because nothing left their full socket for `stallTimeoutMs`. */
  stalls: number
  /** Streams refused: at a limit, because the hub closes, or because a callback of a route failed. */
  refusals: number
}

/** What {@link Hub.stats} gives: what there is now, and what was counted since the hub was made. */
export interface HubStats extends Readonly<Counters> {
  /** Channels that have events or subscribers, or had some lately. */
  readonly channels: number
  /** Streams that are subscribed. */
  readonly subscribers: number
  /** Bytes of encoded events that all logs keep. */
  readonly logBytes: number
}
