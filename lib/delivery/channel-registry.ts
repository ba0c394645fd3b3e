import { detachString } from '../basics/names.ts'
import { TimeSlice } from '../basics/time-slice.ts'
import { type LogTotals, noTotals } from '../log/log-totals.ts'
import { type ReplayBounds } from '../log/replay-options.ts'
import { ReplayLog } from '../log/replay-log.ts'
import { Channel } from './channel.ts'

const MIN_SWEEP_MS = 100
const MAX_SWEEP_MS = 30_000
/** The factor by which all logs together may exceed their bound while events wait to be offered. */
const WAITING_FACTOR = 4
const WAITING_SLACK_BYTES = 4_194_304

/** The rules for logs that are copies of a backplane's logs. */
export interface CopyRetention {
  /** The time for which a copy is kept after its last consumer has left. */
  readonly lingerMs: number
  /** Called when a copy has been dropped. */
  readonly onDropped: (channel: Channel) => void
}

/**
 * The channels of a hub and the bounds that they share: the bytes of all logs, the age of events in channels that nobody publishes
 * to, and the time after which an unused channel is forgotten.
 */
export class ChannelRegistry {
  readonly #boundsOf: (name: string) => ReplayBounds
  readonly #maxTotalBytes: number
  #totals: LogTotals
  /** The rules for copies; `null` if the logs are originals. */
  #copies: CopyRetention | null = null
  readonly #channels = new Map<string, Channel>()
  /** The channels that keep offered events, least recently published first. */
  readonly #byRecency = new Set<Channel>()
  /** The last of {@link #byRecency}, so that a busy channel is not moved for each event. */
  #newest: Channel | null = null
  /** The newest position in any forgotten channel. It is the floor of each new channel, which may be a forgotten one. */
  #floor = 0
  #sweepMs = MAX_SWEEP_MS
  #timer: NodeJS.Timeout | undefined
  #sweeping: Iterator<Channel> | null = null
  readonly #slice = new TimeSlice()

  constructor(boundsOf: (name: string) => ReplayBounds, maxTotalBytes: number) {
    this.#boundsOf = boundsOf
    this.#maxTotalBytes = maxTotalBytes
    this.#totals = noTotals(maxTotalBytes)
  }

  /**
   * Keeps the logs as copies from now on. A copy, even an empty one, is kept while it has a consumer and for `lingerMs` after that. Then it
   * is dropped, because it can be read again.
   */
  keepCopies(retention: CopyRetention): void {
    this.#copies = retention
  }

  /** Bytes that all logs hold: see {@link LogTotals}. */
  get bytes(): number {
    return this.#totals.bytes
  }

  get size(): number {
    return this.#channels.size
  }

  find(name: string): Channel | undefined {
    return this.#channels.get(name)
  }

  /** The bounds of the channel of that name. Creates no channel. Throws if the bounds are invalid. */
  boundsOf(name: string): ReplayBounds {
    return this.#channels.get(name)?.log.bounds ?? this.#boundsOf(name)
  }

  /** The channel of that name, created if it does not exist. */
  get(name: string): Channel {
    let channel = this.#channels.get(name)
    if (channel === undefined) {
      const bounds = this.#boundsOf(name)
      channel = new Channel(detachString(name), new ReplayLog(bounds, this.#floor, this.#totals), performance.now())
      this.#channels.set(channel.name, channel)
      if (this.#copies !== null) this.#sweepWithin(this.#copies.lingerMs)
    }
    return channel
  }

  /** Appends an encoded event to a channel's log. `age` is the time since it was published, in ms. */
  append(channel: Channel, block: string, position: number, isString: boolean, key?: string, age = 0): void {
    const now = performance.now()
    channel.log.append(block, position, now - age, isString, key)
    if (this.#copies === null) channel.usedAt = now
    if (channel.consumerCount === 0) this.settle(channel, position)
    if (this.#totals.bytes > WAITING_FACTOR * this.#maxTotalBytes + WAITING_SLACK_BYTES) this.#evictWaiting()
    this.#sweepWithin(channel.log.bounds.maxAgeMs)
  }

  /** Applies the bounds to a channel's events up to `position`, which have been offered to every consumer that could take them. */
  settle(channel: Channel, position: number): void {
    channel.log.offer(position)
    if (channel !== this.#newest) {
      this.#byRecency.delete(channel)
      this.#byRecency.add(channel)
      this.#newest = channel
    }
    this.#trim(channel, performance.now())
    this.#evict(channel)
  }

  /** Gives up a channel's events up to `position`, because some of them are missing. */
  lose(channel: Channel, position: number): void {
    channel.log.lose(position)
    channel.gap = channel.log.floor
    if (channel.log.count === 0) this.#forgetRecency(channel)
  }

  /** Begins a new epoch with empty logs. Their events up to `floor` may be missing. Restarts all consumers. */
  restart(floor: number): void {
    this.#floor = floor
    for (const channel of this.#channels.values()) {
      this.#forgetRecency(channel)
      channel.restart()
    }
  }

  /** Drops the events of a channel that are too old. */
  refresh(channel: Channel): void {
    this.#trim(channel, performance.now())
  }

  /** Must be called when a consumer has left the channel. A channel that never had an event is forgotten at once. */
  consumerLeft(channel: Channel): void {
    if (channel.consumerCount > 0) return
    channel.usedAt = performance.now()
    const isNew = channel.log.lastPosition === 0 && this.#channels.get(channel.name) === channel
    if (this.#copies === null && isNew) this.#channels.delete(channel.name)
  }

  /** Drops everything and stops the timer. */
  clear(): void {
    this.#channels.clear()
    this.#byRecency.clear()
    this.#newest = null
    // An iterator may still read a log, whose bytes no longer count.
    this.#totals = noTotals(this.#maxTotalBytes)
    this.#sweeping = null
    this.#stop()
  }

  #trim(channel: Channel, now: number): void {
    const { log } = channel
    log.trim(now)
    if (log.count === 0) this.#forgetRecency(channel)
  }

  #forgetRecency(channel: Channel): void {
    this.#byRecency.delete(channel)
    if (this.#newest === channel) this.#newest = null
  }

  /** Drops offered events of the least recently published channels until all logs are within their common bound. */
  #evict(current: Channel): void {
    const totals = this.#totals
    if (totals.bytes <= this.#maxTotalBytes) return
    for (const channel of this.#byRecency) {
      while (totals.bytes > this.#maxTotalBytes && channel.log.dropOldest(false));
      if (channel.log.count === 0) this.#emptied(channel, channel === current)
      if (totals.bytes <= this.#maxTotalBytes) return
      this.#forgetRecency(channel)
    }
  }

  /** Frees what a channel without events holds: its page and, if it is unused, the channel itself. */
  #emptied(channel: Channel, isCurrent: boolean): void {
    channel.log.release()
    this.#forgetRecency(channel)
    if (isCurrent || channel.consumerCount > 0 || channel.pins > 0 || this.#channels.get(channel.name) !== channel) return
    if (this.#copies === null) this.#forget(channel)
    else this.#drop(channel, this.#copies)
  }

  /** The last resort: drops events that have not been offered, too. */
  #evictWaiting(): void {
    const most = WAITING_FACTOR * this.#maxTotalBytes + WAITING_SLACK_BYTES
    for (const { log } of this.#channels.values()) {
      while (this.#totals.bytes > most && log.dropOldest(true));
      if (this.#totals.bytes <= most) return
    }
  }

  #sweepWithin(maxAgeMs: number): void {
    const ms = Math.min(this.#sweepMs, Math.max(MIN_SWEEP_MS, Math.ceil(maxAgeMs / 4)))
    if (this.#timer !== undefined && ms === this.#sweepMs) return
    this.#sweepMs = ms
    clearInterval(this.#timer)
    this.#timer = setInterval(this.#startSweep, ms).unref()
  }

  #stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#sweepMs = MAX_SWEEP_MS
  }

  readonly #startSweep = (): void => {
    if (this.#sweeping !== null) return
    this.#sweeping = this.#channels.values()
    this.#sweep()
  }

  readonly #sweep = (): void => {
    const channels = this.#sweeping
    if (channels === null) return
    this.#slice.begin()
    const now = performance.now()
    for (let step = channels.next(); !step.done; step = channels.next()) {
      this.#tidy(step.value, now)
      if (this.#slice.spend()) {
        setImmediate(this.#sweep)
        return
      }
    }
    this.#sweeping = null
    if (this.#channels.size === 0) this.#stop()
  }

  /** Drops the events of a channel that are too old, and the channel if it has been unused for long enough. */
  #tidy(channel: Channel, now: number): void {
    const { log } = channel
    this.#trim(channel, now)
    if (log.count === 0) log.release()
    if (channel.consumerCount > 0) return
    const unusedMs = now - channel.usedAt
    if (this.#copies !== null) {
      if (channel.pins === 0 && unusedMs >= this.#copies.lingerMs) this.#drop(channel, this.#copies)
    } else if (log.count === 0 && unusedMs >= log.bounds.maxAgeMs) {
      this.#forget(channel)
    }
  }

  /** Forgets a channel whose log is an original. Its last position becomes the floor of every channel created later. */
  #forget({ name, log }: Channel): void {
    this.#floor = Math.max(this.#floor, log.lastPosition)
    this.#channels.delete(name)
  }

  /** Drops a channel whose log is a copy. */
  #drop(channel: Channel, { onDropped }: CopyRetention): void {
    this.#channels.delete(channel.name)
    channel.log.clear()
    this.#forgetRecency(channel)
    onDropped(channel)
  }
}
