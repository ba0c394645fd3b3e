import type { BackplaneEvent, BackplaneLog, ChannelHistory, History, Refused } from '../backplanes/backplane.ts'
import type { OnError } from '../basics/on-error.ts'
import type { Channel } from '../delivery/channel.ts'
import type { ChannelRegistry } from '../delivery/channel-registry.ts'
import type { Intake } from '../delivery/intake.ts'
import type { Pump } from '../delivery/pump.ts'
import type { Snapshots } from '../delivery/snapshots.ts'
import type { LogHead, Timeline } from '../event/timeline.ts'
import { ReplicaChannel } from './replica-channel.ts'
import { HoldBuffer, type Told } from './hold-buffer.ts'
import { BarrierReader } from './barrier-reader.ts'
import { PastEpochs } from './past-epochs.ts'
import { Refusals } from './refusals.ts'

/** So many channels are read at once. */
const MAX_PLACES = 500
/** How long it waits before it asks again what it could not be told. */
const RETRY_MS = { min: 100, max: 5_000 }
const NONE: Refused = new Map()

/** What a hub lends to its replica. */
export interface ReplicaParts {
  readonly channels: ChannelRegistry
  readonly intake: Intake
  readonly pump: Pump
  readonly timeline: Timeline
  readonly snapshots: Snapshots
  readonly onError: OnError
  /** Ends whatever follows a channel, at the place that it has reached: the backplane tells nothing more of it. */
  readonly onRefused: (channel: Channel, error: Error) => Promise<void>
}

interface Reading {
  readonly copy: ReplicaChannel
  readonly history: ChannelHistory
  readonly newest: number
}

/**
 * Keeps the logs of a hub as copies of those that a backplane has: of the channels that somebody follows here, complete
 * and in order, so that those who come back are served from them.
 *
 * What is told is trusted as long as each event names the one before it. After an interruption, and where one is missing,
 * everything that is told is held back until the log was read from where each copy ends.
 */
export class Replica {
  readonly #log: BackplaneLog
  readonly #parts: ReplicaParts
  readonly reader: BarrierReader
  readonly #copies = new Map<string, ReplicaChannel>()
  /** Those that the backplane was not asked for yet. */
  #fresh: ReplicaChannel[] = []
  #isAway = true
  /** Whether what is told is held back, until the log was read. */
  #isHolding = true
  readonly #held = new HoldBuffer()
  readonly pastEpochs = new PastEpochs()
  /** The channels that were refused when the backplane was there again. */
  #refused = NONE
  readonly #refusals: Refusals
  /** The newest catch-up: an older one gives up. */
  #run = 0
  #failures = 0
  #isProbeHeard = true
  #isProbing = false
  /** Where the next probe goes on among the copies. */
  #probed = 0
  #whenGoingOn: Promise<void> | null = null
  #resolve: (() => void) | null = null
  #isClosed = false
  readonly #timer: NodeJS.Timeout

  constructor(log: BackplaneLog, parts: ReplicaParts) {
    this.#log = log
    this.#parts = parts
    this.reader = new BarrierReader(log, parts.timeline)
    this.#refusals = new Refusals(parts.onError, parts.onRefused)
    this.#timer = setInterval(() => void this.#probe(), log.probeMs).unref()
  }

  /** Whether the backplane answers, and tells of what is published. */
  get isHealthy(): boolean {
    return !this.#isAway && !this.#isHolding && this.#isProbeHeard && !this.#isClosed
  }

  /** Whether what is told is held back, until the log was read. */
  get isHolding(): boolean {
    return this.#isHolding
  }

  find(name: string): ReplicaChannel | undefined {
    return this.#copies.get(name)
  }

  /** Nobody has asked for the channel for a while. */
  forget({ name }: Channel): void {
    this.#copies.delete(name)
    this.#log.unwatch([name])
  }

  event(epoch: string, name: string, event: BackplaneEvent): void {
    this.#tell({ epoch, name, event }, this.#parts.timeline.newest)
  }

  reached(token: string): void {
    this.reader.reached(token)
  }

  interrupted(): void {
    this.#isAway = true
    this.#isHolding = true
    this.#run++
    this.#forgetHeld()
    this.reader.interrupted()
  }

  resumed(refused: Refused): void {
    this.#isAway = false
    this.#refused = refused
    for (const copy of this.#copies.values()) copy.isWatched ||= !copy.isAsking && !copy.isRefused
    void this.#resume(refused)
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#timer)
    this.interrupted()
  }

  /** The copy of a channel, made when there is none. */
  copyOf(name: string): ReplicaChannel {
    const known = this.#copies.get(name)
    if (known !== undefined && !known.isRefused) return known
    const copy = known ?? new ReplicaChannel(this.#parts.channels.get(name))
    if (known === undefined) this.#copies.set(name, copy)
    else copy.askAgain()
    if (this.#fresh.length === 0) queueMicrotask(() => void this.#watchFresh())
    this.#fresh.push(copy)
    return copy
  }

  /** Catches up where the log was found to be in another life than the copies are. */
  noticeLife({ epoch }: LogHead): void {
    if (epoch !== this.#parts.timeline.epoch && !this.#isHolding && !this.pastEpochs.has(epoch)) void this.#catchUp()
  }

  /** Settles when nothing is held back any more. */
  goingOn(): Promise<void> {
    this.#whenGoingOn ??= new Promise((resolve) => (this.#resolve = resolve))
    return this.#whenGoingOn
  }

  async #watchFresh(): Promise<void> {
    const copies = this.#fresh
    this.#fresh = []
    let refused = NONE
    let isWatched = true
    try {
      refused = await this.#log.watch(copies.map(({ channel }) => channel.name))
    } catch {
      // There was an interruption: they are watched when that is over, but for those refused then, and read with all others.
      isWatched = !this.#isAway
      if (isWatched) refused = this.#refused
    }
    for (const copy of copies) {
      copy.isAsking = false
      copy.isWatched ||= isWatched
    }
    void this.#refusals.apply(copies, refused)
    if (isWatched) await this.#load(copies.filter((copy) => copy.isWatched))
  }

  /** Goes on without the channels that are refused now. Their consumers end before they are given more of other channels. */
  async #resume(refused: Refused): Promise<void> {
    const run = this.#run
    const ended = this.#refusals.apply(
      [...this.#copies.values()].filter(({ isWatched }) => isWatched),
      refused,
    )
    if (ended !== null) await ended
    if (run === this.#run) void this.#catchUp()
  }

  /** Takes out the readings of channels that must not be read, and refuses those. */
  #refuseRead(readings: readonly Reading[]): { readonly rest: readonly Reading[]; readonly ended: Promise<unknown> | null } {
    const refused = new Map<string, Error>()
    for (const { copy, history } of readings) if (history.refusal !== undefined) refused.set(copy.channel.name, history.refusal)
    if (refused.size === 0) return { rest: readings, ended: null }
    const ended = this.#refusals.apply(
      readings.map(({ copy }) => copy),
      refused,
    )
    this.#log.unwatch([...refused.keys()])
    return { rest: readings.filter(({ copy }) => !copy.isRefused), ended }
  }

  /** Reads what is kept of channels that are watched and not live yet. While all are read anyway, that is done afterwards. */
  async #load(copies: readonly ReplicaChannel[]): Promise<void> {
    if (this.#isHolding) return
    const run = this.#run
    let rest = copies.filter(({ loadedIn }) => loadedIn !== run)
    for (const copy of rest) copy.loadedIn = run
    try {
      while (rest.length > 0) {
        const { history, readings } = await this.#readSome(rest)
        if (run !== this.#run || this.#isHolding) return
        if (history.epoch !== this.#parts.timeline.epoch) return void this.#catchUp()
        this.#parts.timeline.moveTo(history.newest)
        for (const reading of this.#refuseRead(readings).rest) if (!reading.copy.isLive) this.#fill(reading)
        this.#takeHeld(readings)
        rest = rest.slice(readings.length)
      }
    } catch (error) {
      await this.#failed(run, error)
    }
  }

  /** Reads of every copy what it has not, and goes on from there with what is told. */
  async #catchUp(): Promise<void> {
    const run = ++this.#run
    this.#isHolding = true
    // Read after what is held was told: of these epochs, only the one that is read is not over.
    const suspects = new Set(this.#held.epochs).add(this.#parts.timeline.epoch)
    try {
      const copies = [...this.#copies.values()].filter(({ isWatched }) => isWatched)
      const readings: Reading[] = []
      const first = await this.#readSome(copies)
      readings.push(...first.readings)
      let { newest } = first.history
      while (readings.length < copies.length && run === this.#run) {
        const next = await this.#readSome(copies.slice(readings.length))
        // Another life began in between: what was read of the one before is worth nothing.
        if (next.history.epoch !== first.history.epoch) return void this.#catchUp()
        readings.push(...next.readings)
        newest = next.history.newest
      }
      if (run !== this.#run) return
      const { rest, ended } = this.#refuseRead(readings)
      // Followers of a refused channel end first: the events of other channels would carry them past those that they miss.
      if (ended !== null) await ended
      if (run !== this.#run) return
      for (const epoch of suspects) if (epoch !== first.history.epoch) this.pastEpochs.add(epoch)
      this.#goOn(first.history, newest, rest)
    } catch (error) {
      await this.#failed(run, error)
    }
  }

  #goOn({ epoch }: History, newest: number, readings: readonly Reading[]): void {
    const { timeline, channels, snapshots } = this.#parts
    const before = timeline.newest
    if (epoch !== timeline.epoch) {
      const isFirst = timeline.epoch === ''
      timeline.restart(epoch, newest)
      snapshots.restart()
      if (!isFirst) channels.restart(0)
      for (const { copy } of readings) copy.setNotLive()
    }
    for (const reading of readings) this.#fill(reading, before)
    timeline.moveTo(newest)
    this.#inContact()
    this.pastEpochs.delete(epoch)
    this.#isHolding = false
    const isIncomplete = this.#held.hasOverflown
    const held = this.#forgetHeld()
    for (const told of held) this.#tell(told, -1)
    if (isIncomplete && !this.#isHolding) void this.#catchUp()
    const missing = [...this.#copies.values()].filter(({ isWatched, isLive }) => isWatched && !isLive)
    if (this.#isHolding) return
    void this.#load(missing)
    this.#resolve?.()
    this.#resolve = this.#whenGoingOn = null
  }

  /** Takes what was told, if it follows: in its channel, and `before`, the newest position that anybody was given. */
  #tell(told: Told, before: number): void {
    const { epoch, name, event } = told
    const copy = this.#copies.get(name)
    if (copy === undefined || copy.isRefused || this.pastEpochs.has(epoch)) return
    const isOfNow = epoch === this.#parts.timeline.epoch
    if (this.#isHolding) {
      this.#held.push(told)
    } else if (isOfNow && !copy.isLive) {
      if (this.#held.takes(event)) copy.held.push(event)
    } else if (!isOfNow || (event.position > copy.seen && (event.prev > copy.seen || event.position <= before))) {
      this.#held.push(told)
      void this.#catchUp()
    } else if (event.position > copy.seen) {
      copy.seen = event.position
      this.#parts.intake.take(copy.channel, event)
    }
  }

  /** Adds what was read to a copy. `before`: the newest position that anybody was given or told of. */
  #fill({ copy, history, newest }: Reading, before = 0): void {
    const { channels, intake, pump } = this.#parts
    const { channel, seen } = copy
    if (this.#copies.get(channel.name) !== copy) return
    const { floor, events } = history
    const isLost = !copy.isLive || floor > seen
    const earliest = isLost ? floor : (events[0]?.position ?? Infinity)
    copy.seen = newest
    if (copy.isLive && earliest <= before) {
      // Those who follow other channels too may be past what is missing, and can only be told.
      channels.lose(channel, newest)
    } else {
      if (isLost) channels.lose(channel, floor)
      for (const event of events) {
        // The log has it already where the channel was refused for a while.
        if (event.position > channel.log.lastPosition) intake.take(channel, event, Math.max(0, (newest - event.position) / 1_000))
      }
    }
    if (channel.size > 0) pump.published(channel)
    copy.setLive()
    this.#refusals.admitted(channel)
  }

  /** Goes on with what was told of copies before they were read. */
  #takeHeld(readings: readonly Reading[]): void {
    const { epoch } = this.#parts.timeline
    for (const { copy } of readings) {
      const { held } = copy
      copy.held = []
      for (const event of held) this.#tell({ epoch, name: copy.channel.name, event }, -1)
    }
    if (this.#isHolding) return
    this.#held.emptied()
    if (this.#held.hasOverflown) void this.#catchUp()
  }

  /** Reads what is kept of the first of these copies. */
  async #readSome(copies: readonly ReplicaChannel[]): Promise<{ readonly history: History; readonly readings: readonly Reading[] }> {
    const some = copies.slice(0, MAX_PLACES)
    const positions = some.map(({ channel, isLive, seen }) => ({ channel: channel.name, after: isLive ? seen : 0 }))
    const history = await this.reader.read(positions)
    const { newest } = history
    return { history, readings: history.channels.map((channel, i) => ({ copy: some[i] as ReplicaChannel, history: channel, newest })) }
  }

  async #failed(run: number, error: unknown): Promise<void> {
    if (run !== this.#run || this.#isAway) return
    // What else is under way is given up, as nothing is known to be complete any more.
    const waiting = ++this.#run
    this.#isHolding = true
    if (this.#failures === 0) this.#parts.onError(error, { where: 'backplane' })
    const ms = Math.min(RETRY_MS.max, RETRY_MS.min * 2 ** this.#failures++)
    await new Promise((resolve) => setTimeout(resolve, ms * (0.5 + Math.random() / 2)).unref())
    if (waiting === this.#run) this.#log.reconnect()
  }

  /** Asks whether events still come, and whether the copies have the newest of their channels. */
  async #probe(): Promise<void> {
    if (this.#isAway || this.#isHolding || this.#isProbing) return
    this.#isProbing = true
    const run = this.#run
    try {
      const live = [...this.#copies.values()].filter(({ isLive }) => isLive)
      if (this.#probed >= live.length) this.#probed = 0
      const { history, readings } = await this.#readSome(live.slice(this.#probed))
      if (run !== this.#run || this.#isHolding) return
      this.#probed += readings.length
      this.#inContact()
      const isBehind = readings.some(
        ({ copy, history: { refusal, floor, events } }) =>
          refusal !== undefined || Math.max(floor, events.at(-1)?.position ?? 0) > copy.seen,
      )
      if (isBehind || history.epoch !== this.#parts.timeline.epoch) return void this.#catchUp()
      for (const { copy } of readings) copy.seen = Math.max(copy.seen, history.newest)
      this.#parts.timeline.moveTo(history.newest)
    } catch (error) {
      this.#isProbeHeard = run !== this.#run
      await this.#failed(run, error)
    } finally {
      this.#isProbing = false
    }
  }

  #inContact(): void {
    this.#isProbeHeard = true
    this.#failures = 0
  }

  #forgetHeld(): Told[] {
    for (const copy of this.#copies.values()) copy.held = []
    return this.#held.take()
  }
}
