/** The counters of a hub. */
export interface Counters {
  /** Events that were stored. */
  published: number
  /** Events delivered to subscribers: one for each event and subscriber, replayed events included. */
  delivered: number
  /** `stream-reset`s that subscribers received. */
  resets: number
  /** Clients that were destroyed because their full socket took no byte for `stallTimeoutMs`. */
  stalls: number
  /** Streams that were refused, for any {@link RefusalReason}. */
  refusals: number
}

/** The result of {@link Hub.stats}: the present state of this process, and its counters since the hub was created. */
export interface HubStats extends Readonly<Counters> {
  /** Channels that have events or subscribers, or had some recently. */
  readonly channels: number
  /** Streams that are subscribed. */
  readonly subscribers: number
  /**
   * Bytes that logs with at least one event hold: the buffers of encoded events, filled or not, and an estimate of the objects around
   * them, about 2,200 bytes for a channel and 50 for an event. `maxTotalBytes` bounds it.
   */
  readonly logBytes: number
}

/** The result of {@link Hub.stats} for all processes. */
export interface AllStats extends HubStats {
  /** The number of processes that answered, this one included. */
  readonly processes: number
  /** The number of processes that did not answer within 2 s. The sums do not contain their figures. */
  readonly missing: number
}

/** Adds up the figures of several processes. */
export function total(all: readonly HubStats[], missing: number): AllStats {
  const sum = { channels: 0, subscribers: 0, logBytes: 0, published: 0, delivered: 0, resets: 0, stalls: 0, refusals: 0 }
  for (const stats of all) for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += stats[name]
  return { ...sum, processes: all.length, missing }
}
