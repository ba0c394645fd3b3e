import { detachString } from '../basics/names.ts'
import { TimeSlice } from '../basics/time-slice.ts'
import { ReplayLog } from '../log/replay-log.ts'
import { type LogTotals, noTotals } from '../log/log-totals.ts'
import type { ReplayBounds } from '../log/replay-options.ts'
import { Channel } from './channel.ts'

const MIN_SWEEP_MS = 100
const MAX_SWEEP_MS = 30_000
/** A copy of a log is kept for so long after the last who followed it: those who come back in time cost nothing. */
const LINGER_MS = 10_000
/** What waits to be offered may go beyond the bound of all logs as each log may go beyond its own. */
const WAITING_FACTOR = 4
const WAITING_SLACK_BYTES = 4_194_304

/**
 * The channels of a hub, and what bounds them together: the bytes that all logs hold, the age of what nobody publishes to any
 * more, and the forgetting of channels that are not used.
 */
export class ChannelRegistry {
  #totals: LogTotals
  readonly #onForgotten: ((channel: Channel) => void) | null
  readonly #boundsOf: (name: string) => ReplayBounds
  readonly #maxTotalBytes: number
  readonly #channels = new Map<string, Channel>()
  /** The channels that keep events which were offered, the one that was not published to for longest first. */
  readonly #byRecency = new Set<Channel>()
  #newest: Channel | null = null
  /** The last position of a forgotten channel: nobody can tell any more what a channel made later had before it. */
  #floor = 0
  #sweepMs = MAX_SWEEP_MS
  #timer: NodeJS.Timeout | undefined
  #sweeping: Iterator<Channel> | null = null
  readonly #slice = new TimeSlice()

  /**
   * @param onForgotten is told of channels that are forgotten, where the logs are copies of what is kept elsewhere. A copy is
   *   kept for as long as somebody follows it, and a little longer, whether it has events or not.
   */
  constructor(boundsOf: (name: string) => ReplayBounds, maxTotalBytes: number, onForgotten: ((channel: Channel) => void) | null = null) {
    this.#boundsOf = boundsOf
    this.#maxTotalBytes = maxTotalBytes
    this.#totals = noTotals(maxTotalBytes)
    this.#onForgotten = onForgotten
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

  /** The bounds of the channel of that name; makes none. Throws what is wrong with them. */
  boundsOf(name: string): ReplayBounds {
    return this.#channels.get(name)?.log.bounds ?? this.#boundsOf(name)
  }

  /** The channel of that name, made when there is none. */
  get(name: string): Channel {
    let channel = this.#channels.get(name)
    if (channel === undefined) {
      const bounds = this.#boundsOf(name)
      channel = new Channel(detachString(name), new ReplayLog(bounds, this.#floor, this.#totals), performance.now())
      this.#channels.set(channel.name, channel)
      if (this.#onForgotten !== null) this.#sweepWithin(LINGER_MS)
    }
    return channel
  }

  /** Appends an encoded event to a channel's log. `age`: how long ago it was published, in ms. */
  append(channel: Channel, block: string, position: number, isString: boolean, key?: string, age = 0): void {
    const now = performance.now()
    channel.log.append(block, position, now - age, isString, key)
    if (this.#onForgotten === null) channel.usedAt = now
    if (channel.size === 0) this.settle(channel, position)
    if (this.#totals.bytes > WAITING_FACTOR * this.#maxTotalBytes + WAITING_SLACK_BYTES) this.#evictWaiting()
    this.#sweepWithin(channel.log.bounds.maxAgeMs)
  }

  /** The events of a channel up to `position` were offered to all who could take them: bounds hold now. */
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

  /** Nothing is known any more of what a channel had up to `position`. */
  lose(channel: Channel, position: number): void {
    channel.log.lose(position)
    channel.gap = channel.log.floor
    if (channel.log.count === 0) this.#forgetRecency(channel)
  }

  /** Another life of the logs begins: all are empty, and whoever follows them is told so. Nothing is known of what it had up to `floor`. */
  restart(floor: number): void {
    this.#floor = floor
    for (const channel of this.#channels.values()) {
      this.#forgetRecency(channel)
      channel.restart()
    }
  }

  /** Applies the bounds of age to what a channel keeps. */
  refresh(channel: Channel): void {
    this.#trim(channel, performance.now())
  }

  /** Somebody stopped following the channel: one that never had an event is forgotten at once. */
  left(channel: Channel): void {
    if (channel.size > 0) return
    channel.usedAt = performance.now()
    if (this.#onForgotten === null && channel.log.lastPosition === 0 && this.#channels.get(channel.name) === channel) {
      this.#channels.delete(channel.name)
    }
  }

  /** Drops everything and stops the timer. */
  clear(): void {
    this.#channels.clear()
    this.#byRecency.clear()
    this.#newest = null
    // Whoever still reads a log goes on with it: it is not counted any more.
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

  /** @param current the channel that is being published to. */
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

  /** Frees what a channel without events holds: its page, and the channel itself where nothing needs it. */
  #emptied(channel: Channel, isNeeded: boolean): void {
    channel.log.release()
    this.#forgetRecency(channel)
    if (isNeeded || channel.size > 0 || channel.pins > 0 || this.#channels.get(channel.name) !== channel) return
    if (this.#onForgotten === null) this.#forget(channel)
    else this.#drop(channel, this.#onForgotten)
  }

  /** The last resort: what waits to be offered is too much as well. */
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
      if (this.#onForgotten === null) this.#keepOrForget(step.value, now)
      else this.#keepOrDrop(step.value, now, this.#onForgotten)
      if (this.#slice.spend()) {
        setImmediate(this.#sweep)
        return
      }
    }
    this.#sweeping = null
    if (this.#channels.size === 0) this.#stop()
  }

  #keepOrForget(channel: Channel, now: number): void {
    const { log } = channel
    this.#trim(channel, now)
    if (log.count > 0) return
    log.release()
    if (channel.size === 0 && now - channel.usedAt >= log.bounds.maxAgeMs) this.#forget(channel)
  }

  /** Forgets a channel: nobody can tell any more what it had. */
  #forget({ name, log }: Channel): void {
    this.#floor = Math.max(this.#floor, log.lastPosition)
    this.#channels.delete(name)
  }

  /** What is kept elsewhere is read again when somebody asks for it. */
  #keepOrDrop(channel: Channel, now: number, onForgotten: (channel: Channel) => void): void {
    this.#trim(channel, now)
    if (channel.log.count === 0) channel.log.release()
    if (channel.size === 0 && channel.pins === 0 && now - channel.usedAt >= LINGER_MS) this.#drop(channel, onForgotten)
  }

  #drop(channel: Channel, onForgotten: (channel: Channel) => void): void {
    this.#channels.delete(channel.name)
    channel.log.clear()
    this.#forgetRecency(channel)
    onForgotten(channel)
  }
}
