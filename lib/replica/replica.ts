import type { BackplaneEvent, BackplaneLog, ChannelHistory, History, Refused } from '../backplanes/backplane.ts'
import { backoffMs } from '../basics/backoff.ts'
import { type Deferred, deferred } from '../basics/promises.ts'
import type { OnError } from '../basics/on-error.ts'
import type { Channel } from '../delivery/channel.ts'
import type { DeliveryEngine } from '../delivery/delivery-engine.ts'
import type { LogHead } from '../event/timeline.ts'
import { BarrierReader } from './barrier-reader.ts'
import { type ChannelConsumers, ChannelRefusals } from './channel-refusals.ts'
import { type ArrivedEvent, HoldBuffer } from './hold-buffer.ts'
import { ReplicaChannel } from './replica-channel.ts'

/** The most channels in one read. */
const MAX_POSITIONS = 500
/** The bounds of the delay after which the replica reconnects when a read has failed. */
const RETRY_MS = { min: 100, max: 5_000 }
/** The most past epochs that are remembered. The next read recognises a past epoch that was forgotten. */
const MAX_PAST_EPOCHS = 1_000
/** The time for which a copy is kept after its last consumer has left, so that a client that reconnects in time costs no read. */
const LINGER_MS = 10_000
const NONE: Refused = new Map()

/** The history of one channel, read at the position `newest`. */
interface Reading {
  readonly copy: ReplicaChannel
  readonly history: ChannelHistory
  readonly newest: number
}

/**
 * The state of a replica:
 * - `'away'`: the backplane is not connected.
 * - `'reading'`: events arrive and are held, because the log has to be read first. A read may have failed, and is repeated.
 * - `'live'`: events are appended as they arrive.
 * - `'closed'`: the hub is closed.
 */
type ReplicaState = 'away' | 'reading' | 'live' | 'closed'

/**
 * Keeps the logs of the channels that have consumers here as copies of the log of a backplane, complete and in order.
 *
 * An event is appended if the copy of its channel has the channel's previous event. After an interruption or a missing event, all events
 * are held until the log has been read, from the end of each copy on.
 */
export class Replica {
  readonly reader: BarrierReader
  readonly #log: BackplaneLog
  readonly #engine: DeliveryEngine
  readonly #onError: OnError
  readonly #refusals: ChannelRefusals
  readonly #copies = new Map<string, ReplicaChannel>()
  #state: ReplicaState = 'away'
  /** Copies that the next microtask requests from the backplane, all in one call. */
  #fresh: ReplicaChannel[] = []
  readonly #held = new HoldBuffer()
  /** Epochs that are over. Events of them arrive late and are ignored. */
  readonly #pastEpochs = new Set<string>()
  /** The channels that were refused when the connection was last restored. */
  #refused = NONE
  /** Number of the newest attempt to read the log. Older attempts end without an effect. */
  #attempt = 0
  #failures = 0
  /** Whether a probe is in progress, and the index of the copy that the next probe begins with. */
  #isProbing = false
  #probed = 0
  #whenLive: Deferred<void> | null = null
  readonly #timer: NodeJS.Timeout

  constructor(log: BackplaneLog, engine: DeliveryEngine, consumers: ChannelConsumers, onError: OnError) {
    this.#log = log
    this.#engine = engine
    this.#onError = onError
    this.reader = new BarrierReader(log, engine.timeline)
    this.#refusals = new ChannelRefusals(onError, consumers)
    this.#timer = setInterval(() => void this.#probe(), log.probeMs).unref()
    engine.channels.keepCopies({ lingerMs: LINGER_MS, onDropped: (channel) => this.#forget(channel) })
  }

  /** Whether the copies receive what is published. */
  get isLive(): boolean {
    return this.#state === 'live'
  }

  find(name: string): ReplicaChannel | undefined {
    return this.#copies.get(name)
  }

  /** The copy of a channel, requested from the backplane if there is none. */
  copyOf(name: string): ReplicaChannel {
    const known = this.#copies.get(name)
    if (known !== undefined && known.state !== 'refused') return known
    const copy = known ?? new ReplicaChannel(this.#engine.channels.get(name), this.#engine)
    if (known === undefined) this.#copies.set(name, copy)
    else copy.requestAgain()
    if (this.#fresh.length === 0) queueMicrotask(() => void this.#watchFresh())
    this.#fresh.push(copy)
    return copy
  }

  event(epoch: string, name: string, event: BackplaneEvent): void {
    this.#receive({ epoch, name, event }, this.#engine.timeline.newest)
  }

  interrupted(): void {
    if (this.#state !== 'closed') this.#state = 'away'
    this.#attempt++
    this.#takeHeld()
    this.reader.interrupted()
  }

  resumed(refused: Refused): void {
    if (this.#state === 'closed') return
    this.#state = 'reading'
    this.#refused = refused
    for (const copy of this.#copies.values()) if (copy.state === 'unwatched') copy.state = 'watched'
    void this.#resume(refused)
  }

  close(): void {
    this.#state = 'closed'
    clearInterval(this.#timer)
    this.interrupted()
  }

  isPast(epoch: string): boolean {
    return this.#pastEpochs.has(epoch)
  }

  /** Notes that an epoch is over. */
  setPast(epoch: string): void {
    if (this.#pastEpochs.size >= MAX_PAST_EPOCHS) this.#pastEpochs.clear()
    this.#pastEpochs.add(epoch)
  }

  /** Catches up if the log has begun an epoch that the copies do not know. */
  noticeEpoch({ epoch }: LogHead): void {
    if (epoch !== this.#engine.timeline.epoch && this.isLive && !this.isPast(epoch)) void this.#catchUp()
  }

  /** Resolves the next time that the replica becomes live. */
  whenLive(): Promise<void> {
    this.#whenLive ??= deferred()
    return this.#whenLive.promise
  }

  #forget({ name }: Channel): void {
    this.#copies.delete(name)
    this.#log.unwatch([name])
  }

  async #watchFresh(): Promise<void> {
    const copies = this.#fresh
    this.#fresh = []
    let refused = NONE
    let isWatched = true
    try {
      refused = await this.#log.watch(copies.map(({ channel }) => channel.name))
    } catch {
      // The connection broke. If it has been restored meanwhile, the channels are watched, except those that were refused at that time.
      isWatched = this.#isConnected()
      if (isWatched) refused = this.#refused
    }
    for (const copy of copies) copy.state = isWatched ? 'watched' : 'unwatched'
    void this.#refusals.apply(copies, refused)
    if (isWatched) await this.#load(copies.filter((copy) => copy.isWatched))
  }

  #isConnected(): boolean {
    return this.#state === 'reading' || this.#state === 'live'
  }

  /**
   * Catches up without the refused channels. The consumers of those channels end first, because later events of other channels would carry
   * them past the missing events.
   */
  async #resume(refused: Refused): Promise<void> {
    const attempt = this.#attempt
    const watched = [...this.#copies.values()].filter(({ isWatched }) => isWatched)
    const ended = this.#refusals.apply(watched, refused)
    if (ended !== null) await ended
    if (attempt === this.#attempt) void this.#catchUp()
  }

  /** Refuses the channels that may not be read, and returns the other readings. */
  #refuseUnreadable(readings: readonly Reading[]): { readonly rest: readonly Reading[]; readonly ended: Promise<unknown> | null } {
    const refused = new Map<string, Error>()
    for (const { copy, history } of readings) if (history.refusal !== undefined) refused.set(copy.channel.name, history.refusal)
    if (refused.size === 0) return { rest: readings, ended: null }
    const copies = readings.map(({ copy }) => copy)
    const ended = this.#refusals.apply(copies, refused)
    this.#log.unwatch([...refused.keys()])
    return { rest: readings.filter(({ copy }) => copy.state !== 'refused'), ended }
  }

  /** Reads the logs of watched channels for the first time. Does nothing while all logs are being read. It is called again after that. */
  async #load(copies: readonly ReplicaChannel[]): Promise<void> {
    if (!this.isLive) return
    const attempt = this.#attempt
    let rest = copies.filter((copy) => copy.attempt !== attempt)
    for (const copy of rest) copy.attempt = attempt
    try {
      while (rest.length > 0) {
        const { history, readings } = await this.#readSome(rest)
        if (attempt !== this.#attempt || !this.isLive) return
        if (history.epoch !== this.#engine.timeline.epoch) return void this.#catchUp()
        this.#engine.timeline.moveTo(history.newest)
        for (const reading of this.#refuseUnreadable(readings).rest) if (!reading.copy.isLive) this.#fill(reading, 0)
        this.#receiveHeldBy(readings)
        rest = rest.slice(readings.length)
      }
    } catch (error) {
      await this.#failed(attempt, error)
    }
  }

  /** Reads the missing events of every copy, and goes live. */
  async #catchUp(): Promise<void> {
    if (!this.#isConnected()) return
    const attempt = ++this.#attempt
    this.#state = 'reading'
    // The read reports the current epoch. Any other epoch whose events arrived before the read is over.
    const suspects = new Set(this.#held.epochs).add(this.#engine.timeline.epoch)
    try {
      const copies = [...this.#copies.values()].filter(({ isWatched }) => isWatched)
      const readings: Reading[] = []
      const first = await this.#readSome(copies)
      readings.push(...first.readings)
      let { newest } = first.history
      while (readings.length < copies.length && attempt === this.#attempt) {
        const next = await this.#readSome(copies.slice(readings.length))
        // The log has begun another epoch, so the earlier readings are worthless.
        if (next.history.epoch !== first.history.epoch) return void this.#catchUp()
        readings.push(...next.readings)
        newest = next.history.newest
      }
      if (attempt !== this.#attempt) return
      const { rest, ended } = this.#refuseUnreadable(readings)
      // Consumers of a refused channel end first, because later events of other channels would carry them past its events.
      if (ended !== null) await ended
      if (attempt !== this.#attempt) return
      for (const epoch of suspects) if (epoch !== first.history.epoch) this.setPast(epoch)
      this.#goLive(first.history, newest, rest)
    } catch (error) {
      await this.#failed(attempt, error)
    }
  }

  #goLive({ epoch }: History, newest: number, readings: readonly Reading[]): void {
    const { timeline } = this.#engine
    const delivered = timeline.newest
    if (epoch !== timeline.epoch) {
      this.#engine.restart(epoch, newest, 0)
      for (const { copy } of readings) copy.setNotLive()
    }
    for (const reading of readings) this.#fill(reading, delivered)
    timeline.moveTo(newest)
    this.#failures = 0
    this.#pastEpochs.delete(epoch)
    this.#state = 'live'
    const isIncomplete = this.#held.hasOverflowed
    // Receiving a held event may begin another attempt.
    for (const arrived of this.#takeHeld()) this.#receive(arrived, -1)
    if (isIncomplete && this.isLive) void this.#catchUp()
    if (!this.isLive) return
    void this.#load([...this.#copies.values()].filter(({ state }) => state === 'watched'))
    this.#whenLive?.resolve()
    this.#whenLive = null
  }

  /**
   * Appends an event that has arrived, if it follows what is known. Otherwise it is held while the log is read.
   *
   * @param delivered the newest position that any subscriber may have passed.
   */
  #receive(arrived: ArrivedEvent, delivered: number): void {
    const { epoch, name, event } = arrived
    const copy = this.#copies.get(name)
    if (copy === undefined || copy.state === 'refused' || this.isPast(epoch)) return
    if (!this.isLive) {
      this.#held.push(arrived)
      return
    }
    const isCurrent = epoch === this.#engine.timeline.epoch
    if (isCurrent && !copy.isLive) {
      if (this.#held.reserve(event)) copy.held.push(event)
    } else if (isCurrent && copy.follows(event, delivered)) {
      copy.append(event)
    } else {
      this.#held.push(arrived)
      void this.#catchUp()
    }
  }

  #fill({ copy, history, newest }: Reading, delivered: number): void {
    if (this.#copies.get(copy.channel.name) !== copy) return
    copy.fill(history, newest, delivered)
    this.#refusals.admitted(copy.channel)
  }

  /** Receives the events that arrived for copies before their log was read. */
  #receiveHeldBy(readings: readonly Reading[]): void {
    const { epoch } = this.#engine.timeline
    for (const { copy } of readings) {
      const { held } = copy
      copy.held = []
      for (const event of held) this.#receive({ epoch, name: copy.channel.name, event }, -1)
    }
    if (!this.isLive) return
    this.#held.freeReserved()
    if (this.#held.hasOverflowed) void this.#catchUp()
  }

  /** Reads the logs of the first of these copies, as many as one read may contain. */
  async #readSome(copies: readonly ReplicaChannel[]): Promise<{ readonly history: History; readonly readings: readonly Reading[] }> {
    const some = copies.slice(0, MAX_POSITIONS)
    const positions = some.map(({ channel, isLive, seen }) => ({ channel: channel.name, after: isLive ? seen : 0 }))
    const history = await this.reader.read(positions)
    const { newest } = history
    return { history, readings: history.channels.map((channel, i) => ({ copy: some[i] as ReplicaChannel, history: channel, newest })) }
  }

  async #failed(attempt: number, error: unknown): Promise<void> {
    if (attempt !== this.#attempt || !this.#isConnected()) return
    // The copies may be incomplete, so every attempt in progress is abandoned.
    const waiting = ++this.#attempt
    this.#state = 'reading'
    if (this.#failures === 0) this.#onError(error, { where: 'backplane' })
    const delayMs = backoffMs(this.#failures++, RETRY_MS)
    await new Promise((resolve) => setTimeout(resolve, delayMs).unref())
    if (waiting === this.#attempt) this.#log.reconnect()
  }

  /** Checks that events still arrive, and that the copies have the newest events of their channels. */
  async #probe(): Promise<void> {
    if (!this.isLive || this.#isProbing) return
    this.#isProbing = true
    const attempt = this.#attempt
    try {
      const live = [...this.#copies.values()].filter(({ isLive }) => isLive)
      if (this.#probed >= live.length) this.#probed = 0
      const { history, readings } = await this.#readSome(live.slice(this.#probed))
      if (attempt !== this.#attempt || !this.isLive) return
      this.#probed += readings.length
      this.#failures = 0
      if (readings.some(isBehind) || history.epoch !== this.#engine.timeline.epoch) return void this.#catchUp()
      for (const { copy } of readings) copy.seen = Math.max(copy.seen, history.newest)
      this.#engine.timeline.moveTo(history.newest)
    } catch (error) {
      await this.#failed(attempt, error)
    } finally {
      this.#isProbing = false
    }
  }

  /** Removes and returns all held events. */
  #takeHeld(): ArrivedEvent[] {
    for (const copy of this.#copies.values()) copy.held = []
    return this.#held.take()
  }
}

/** Whether the log has events, or has lost events, that the copy does not know. */
function isBehind({ copy, history: { refusal, floor, events } }: Reading): boolean {
  return refusal !== undefined || Math.max(floor, events.at(-1)?.position ?? 0) > copy.seen
}
