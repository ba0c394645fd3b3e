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
  /**
   * Bytes that the logs hold which keep an event: the buffers that events are encoded into, filled or not, and an estimate of
   * the objects around them, about 2,200 bytes for a channel and 50 for an event. `maxTotalBytes` bounds it.
   */
  readonly logBytes: number
}

/** What {@link Hub.stats} gives of all processes. */
export interface AllStats extends HubStats {
  /** How many processes answered, this one included. */
  readonly processes: number
  /** How many did not within 2 s: what they have is not in the sums. */
  readonly missing: number
}

/** The sums of what processes have. */
export function total(all: readonly HubStats[], missing: number): AllStats {
  const sum = { channels: 0, subscribers: 0, logBytes: 0, published: 0, delivered: 0, resets: 0, stalls: 0, refusals: 0 }
  for (const stats of all) for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += stats[name]
  return { ...sum, processes: all.length, missing }
}
