import type {
  Acquired,
  BackplaneEvent,
  ChannelHistory,
  ChannelPosition,
  History,
  Publication,
  Published,
  Refused,
} from '../../lib/backplanes/backplane.ts'
import { SseError } from '../../lib/basics/errors.ts'
import { makeEpoch } from '../../lib/event/timeline.ts'
import type { Fault } from './engine-faults.ts'
import { turns } from './fake-connection.ts'
import type { PublishedEvent, PublishedLog } from './model-client.ts'
import type { SimulatedBackplane } from './simulated-backplane.ts'

/** Turns of the event loop by which a faulty engine is late. */
export const LATE_TURNS = 40

/** The log of one channel. */
interface ChannelLog {
  readonly events: BackplaneEvent[]
  /** Position of the newest event ever. */
  last: number
  /** Position of the newest event that is gone. */
  floor: number
}

export interface EngineOptions {
  readonly faults?: readonly Fault[]
  /** Whether the engine keeps a log that processes share. */
  readonly hasLog?: boolean
  /** The clock in microseconds. Positions are never behind it. */
  readonly clock?: () => number
}

/**
 * An engine in memory. It stores events, gives them positions, counts the streams of owners, and hands events to the backplanes
 * that are connected to it: see {@link SimulatedBackplane}. It can refuse channels, lose its log, and have faults.
 */
export class SimulatedEngine implements PublishedLog {
  readonly hasLog: boolean
  /** The backplanes that receive events, and those that receive control messages. */
  readonly nodes = new Set<SimulatedBackplane>()
  readonly processes = new Set<SimulatedBackplane>()
  /** The channels that the engine refuses to watch, and those that it refuses to read. */
  readonly unwatchable = new Set<string>()
  readonly unreadable = new Set<string>()
  readonly #faults: ReadonlySet<Fault>
  readonly #clock: () => number
  /** Every event ever, by channel. */
  readonly #published = new Map<string, PublishedEvent[]>()
  readonly #idempotencyKeys = new Map<string, Published>()
  readonly #streams = new Map<string, SimulatedBackplane[]>()
  #epoch: string
  #newest = 0
  #logs = new Map<string, ChannelLog>()
  /** The last position of all channels that were forgotten. */
  #floor = 0
  #publishCount = 0

  constructor({ faults = [], hasLog = true, clock = () => Date.now() * 1_000 }: EngineOptions = {}) {
    this.#faults = new Set(faults)
    this.#clock = clock
    this.hasLog = hasLog
    this.#epoch = this.has('uses one epoch for all logs') ? 'simulation' : makeEpoch()
  }

  get epoch(): string {
    return this.#epoch
  }

  get newest(): number {
    return this.#newest
  }

  has(fault: Fault): boolean {
    return this.#faults.has(fault)
  }

  publishedTo(channel: string): readonly PublishedEvent[] {
    return this.#published.get(channel) ?? []
  }

  /** A position after every event before. */
  nextPosition(): number {
    if (this.has('counts positions from one')) return ++this.#newest
    return (this.#newest = Math.max(this.#clock(), this.#newest + 1))
  }

  epochFor(node: SimulatedBackplane | null): string {
    return node !== null && this.has('uses an epoch for each node') ? this.#epoch.slice(0, 9) + String(node.index) : this.#epoch
  }

  /** The channel that the engine takes a name for. */
  channelNamed(name: string): string {
    return this.has('confuses similar channel names') ? name.normalize().trim() : name
  }

  /** @param node the backplane that publishes; `null` for a process outside the test. */
  publish(publication: Publication, node: SimulatedBackplane | null = null): Published {
    const { idempotencyKey } = publication
    const channel = this.channelNamed(publication.channel)
    const epoch = this.epochFor(node)
    const parts = [
      this.has('shares idempotency keys between channels') ? '' : channel,
      idempotencyKey,
      this.has('keeps idempotency keys per node') ? node?.index : '',
    ]
    const name = JSON.stringify(parts)
    const known = idempotencyKey === undefined || this.has('ignores idempotency keys') ? undefined : this.#idempotencyKeys.get(name)
    if (known !== undefined) return { ...known, epoch, isNew: false }
    const before = this.#newest
    const stored = this.#store(channel, publication)
    const isWrong = this.has('answers with the position of another event') && this.#publishCount++ % 2 === 1
    if (this.has('stores an event twice')) this.#store(channel, publication)
    const published = { epoch, position: isWrong ? before : stored, isNew: true }
    if (idempotencyKey !== undefined) {
      const remember = (): unknown => this.#idempotencyKeys.set(name, published)
      if (this.has('remembers idempotency keys too late')) void turns(LATE_TURNS).then(remember)
      else remember()
    }
    return published
  }

  /** Delivers the events that a channel keeps once more. */
  async repeat(name: string): Promise<void> {
    const channel = this.channelNamed(name)
    for (const event of this.#logOf(channel).events) {
      this.#deliver(channel, this.has('repeats an event at a new position') ? { ...event, position: this.nextPosition() } : event)
    }
  }

  read(node: SimulatedBackplane, epoch: string, positions: readonly ChannelPosition[]): History {
    const isSame = epoch === this.epochFor(node) || this.has('reads positions of another epoch as its own')
    const channels = positions.map(({ channel, after }) => this.readChannel(channel, isSame ? after : 0))
    let newest = this.nextPosition()
    if (this.has('returns a log head that is too old')) {
      newest = Math.max(node.lastDelivered, ...channels.map(({ floor, events }) => events.at(-1)?.position ?? floor))
    }
    if (this.has('returns a log head that is in the future')) newest = Number.MAX_SAFE_INTEGER
    return { epoch: this.epochFor(node), newest, channels }
  }

  readChannel(name: string, after: number): ChannelHistory {
    const channel = this.channelNamed(name)
    if (this.unreadable.has(channel)) return { floor: 0, events: [], refusal: refusalOf('read', channel) }
    const { events, floor, last } = this.#logOf(channel)
    if (this.has('returns a floor that is too high')) return { floor: Math.max(last, 1), events: [] }
    return { floor: this.has('returns no floor') ? 0 : floor, events: events.filter(({ position }) => position > after) }
  }

  /** The channels that the engine refuses to watch, of those that a call asks for. */
  refusalsOf(channels: readonly string[]): Refused {
    let refused = channels.filter((channel) => this.unwatchable.has(channel))
    if (refused.length > 0 && this.has('refuses every channel of a call with a refused one')) refused = [...channels]
    return new Map(refused.map((channel) => [channel, refusalOf('watch', channel)]))
  }

  /** Forgets a channel, as if all its events were too old. */
  forget(channel: string): void {
    this.#floor = Math.max(this.#floor, this.#logs.get(channel)?.last ?? 0)
    this.#logs.delete(channel)
  }

  /** Loses everything and begins a new epoch, whose positions follow `newest`. */
  flush(newest: number): void {
    this.#epoch = makeEpoch()
    this.#logs = new Map()
    this.#floor = 0
    this.#newest = newest
  }

  acquire(node: SimulatedBackplane, owner: string, max: number): Acquired {
    const all = this.#streams.get(owner) ?? []
    const own = all.filter((each) => each === node)
    const counted = this.has('counts streams per node') ? own : all
    if (counted.length >= max) {
      return (this.has('counts streams of other nodes as its own') ? counted : own).length >= max ? 'full' : 'maybe-full'
    }
    const count = (): unknown => this.#streams.set(owner, [...(this.#streams.get(owner) ?? []), node])
    if (this.has('counts streams too late')) void turns(LATE_TURNS).then(count)
    else count()
    return 'counted'
  }

  release(node: SimulatedBackplane, owner: string): void {
    if (this.has('never releases streams')) return
    const all = this.#streams.get(owner) ?? []
    const at = all.indexOf(node)
    if (at >= 0) this.#streams.set(owner, all.toSpliced(at, 1))
  }

  /** Disconnects a backplane that closes. */
  leave(node: SimulatedBackplane): void {
    if (!this.has('delivers after close')) this.nodes.delete(node)
    if (!this.has('lists closed processes')) this.processes.delete(node)
    if (!this.has('never releases streams')) {
      const others = [...this.#streams].map(([owner, all]) => [owner, all.filter((each) => each !== node)] as const)
      for (const [owner, all] of others) this.#streams.set(owner, all)
    }
    if (this.has('closes every node')) for (const other of this.processes) void other.close()
  }

  #store(channel: string, { event, text, isString, key, bounds }: Publication): number {
    const log = this.#logOf(channel)
    const position = this.nextPosition()
    const stored: BackplaneEvent = {
      position,
      prev: log.last,
      event: this.has('changes event names') ? event.trim() : event,
      text: this.#textOf(text),
      isString: isString || this.has('treats every payload as a string'),
      key: this.has('forgets event keys') ? undefined : key,
    }
    if (bounds.latestPerKey && stored.key !== undefined) {
      const at = log.events.findIndex((each) => each.key === stored.key)
      if (at >= 0 && this.has('counts replaced events as dropped')) log.floor = Math.max(log.floor, log.events[at]?.position ?? 0)
      if (at >= 0) log.events.splice(at, 1)
    }
    log.last = position
    log.events.push(stored)
    const all = this.#published.get(channel) ?? []
    this.#published.set(channel, all)
    all.push({ epoch: this.#epoch, position })
    const maxEvents = Math.max(0, bounds.maxEvents - (this.has('drops more events than the bounds require') ? 1 : 0))
    const isTooMuch = (): boolean =>
      log.events.length > maxEvents || log.events.reduce((sum, each) => sum + each.text.length, 0) > bounds.maxBytes
    while (log.events.length > 0 && isTooMuch() && !this.has('drops no event')) {
      log.floor = (log.events.shift() as BackplaneEvent).position
    }
    this.#deliver(channel, stored)
    return position
  }

  #deliver(channel: string, event: BackplaneEvent): void {
    const delivered = this.has('omits the previous position') || !this.hasLog ? { ...event, prev: 0 } : event
    for (const node of this.nodes) node.deliver(channel, delivered)
  }

  #logOf(channel: string): ChannelLog {
    let log = this.#logs.get(channel)
    if (log === undefined) this.#logs.set(channel, (log = { events: [], last: this.#floor, floor: this.#floor }))
    return log
  }

  #textOf(text: string): string {
    if (this.has('trims payloads')) return text.trim()
    return this.has('truncates long payloads') ? text.slice(0, 65_536) : text
  }
}

function refusalOf(action: string, channel: string): SseError {
  return new SseError('SSE_BACKPLANE_UNAVAILABLE', `the simulated engine refuses to ${action} '${channel}'`)
}
