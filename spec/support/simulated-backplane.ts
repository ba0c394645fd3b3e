import type {
  Acquired,
  Backplane,
  BackplaneEvent,
  BackplaneHost,
  BackplaneLog,
  ChannelHistory,
  History,
  ChannelPosition,
  Publication,
  Published,
  Refused,
} from '../../lib/backplanes/backplane.ts'
import { SseError } from '../../lib/basics/errors.ts'
import { makeEpoch } from '../../lib/event/timeline.ts'
import { turn } from './fake-connection.ts'
import { randomFrom } from './random.ts'

/** What a simulated engine can be made to do wrong. */
export const FAULTS = [
  'stores an event twice',
  'loses an event',
  'swaps two events',
  'answers with the place of another event',
  'counts places from one',
  'publishes in no order',
  'names no event before',
  'watches late',
  'does not unwatch',
  'refuses all that is asked for with a refused channel',
  'is silent about a refusal',
  'never asks again for a refused channel',
  'reads too early',
  'reads channel by channel',
  'reads places of another epoch as its own',
  'says too early that a moment is reached',
  'gives a moment that has passed',
  'gives a moment that is yet to come',
  'claims what was dropped',
  'claims too little',
  'counts what was replaced as dropped',
  'forgets the keys of events',
  'drops more than it must',
  'drops nothing',
  'one epoch for all logs',
  'an epoch for each node',
  'ignores idempotency keys',
  'keeps idempotency keys for each node',
  'keeps idempotency keys for all channels',
  'is late to remember idempotency keys',
  'forgets what is a string',
  'trims texts',
  'cuts long texts',
  'changes names of events',
  'takes names of channels for alike',
  'gives what it tells again another place',
  'loses signals',
  'sends to all',
  'knows no other process',
  'knows processes that are gone',
  'counts streams for each node',
  'counts streams late',
  'never releases streams',
  'takes the streams of others for those of the node',
  'closes all',
  'resolves after close',
  'resolves while it closes',
  'tells after close',
  'stores after close',
  'tells after publish returns',
  'forgets where it began',
  'does not say that it was interrupted',
  'forgets what was watched',
  'tells while it is interrupted',
] as const

export type Fault = (typeof FAULTS)[number]

/** How many turns of the event loop what is late takes. */
const LATE_TURNS = 40

interface Kept {
  readonly events: BackplaneEvent[]
  /** Position of the newest event ever. */
  last: number
  /** Position of the newest event that is gone. */
  floor: number
}

/** A line to or from a node, on which what is sent arrives in order, some turns of the event loop later. */
class Line {
  readonly #turns: () => number
  #queue: (() => void)[] = []
  #isMoving = false

  constructor(howMany: () => number) {
    this.#turns = howMany
  }

  send(arrive: () => void): void {
    this.#queue.push(arrive)
    if (!this.#isMoving) void this.#move()
  }

  async #move(): Promise<void> {
    this.#isMoving = true
    while (this.#queue.length > 0) {
      await turns(this.#turns())
      for (const arrive of this.#queue.splice(0)) arrive()
    }
    this.#isMoving = false
  }
}

async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n++) await turn()
}

/** An engine in memory that keeps a log, or none, and can be broken in many ways. */
export class SimulatedEngine {
  readonly hasLog: boolean
  /** Of one that is broken nothing is waited for. */
  readonly timeoutMs: number
  /** Those who are told of events, and those who hear signals. */
  readonly nodes = new Set<SimulatedBackplane>()
  readonly processes = new Set<SimulatedBackplane>()
  /** The channels that nobody may watch. */
  readonly refused = new Set<string>()
  readonly #faults: ReadonlySet<Fault>
  readonly #epoch: string
  readonly #channels = new Map<string, Kept>()
  readonly #known = new Map<string, Published>()
  readonly #counts = new Map<string, SimulatedBackplane[]>()
  readonly #random = randomFrom(7)
  #newest = 0
  #nodesMade = 0
  #published = 0

  constructor(faults: readonly Fault[] = [], hasLog = true) {
    this.#faults = new Set(faults)
    this.hasLog = hasLog
    this.timeoutMs = faults.length === 0 ? 5_000 : 500
    this.#epoch = this.has('one epoch for all logs') ? 'simulation' : makeEpoch()
  }

  backplane(): Backplane {
    return new SimulatedBackplane(this, this.#nodesMade++)
  }

  /** Tells again of what is kept of a channel. */
  async repeat(name: string): Promise<void> {
    const channel = this.#nameOf(name)
    for (const event of this.#kept(channel).events) {
      this.#tell(channel, this.has('gives what it tells again another place') ? { ...event, position: this.moment() } : event)
    }
  }

  async refuse(channel: string): Promise<void> {
    this.refused.add(channel)
  }

  async admit(channel: string): Promise<void> {
    if (!this.has('never asks again for a refused channel')) this.refused.delete(channel)
  }

  has(fault: Fault): boolean {
    return this.#faults.has(fault)
  }

  /** How many turns of the event loop a way takes. */
  readonly turns = (): number => 1 + Math.floor(this.#random() * 3)

  /** A place that is later than every event before. */
  moment(): number {
    if (this.has('counts places from one')) return ++this.#newest
    return (this.#newest = Math.max(Date.now() * 1_000, this.#newest + 1))
  }

  get newest(): number {
    return this.#newest
  }

  epochFor(node: SimulatedBackplane): string {
    return this.has('an epoch for each node') ? this.#epoch.slice(0, 9) + String(node.index) : this.#epoch
  }

  publish(node: SimulatedBackplane, publication: Publication): Published {
    const { idempotencyKey } = publication
    const channel = this.#nameOf(publication.channel)
    const epoch = this.epochFor(node)
    const parts = [
      this.has('keeps idempotency keys for all channels') ? '' : channel,
      idempotencyKey,
      this.has('keeps idempotency keys for each node') ? node.index : '',
    ]
    const name = JSON.stringify(parts)
    const known = idempotencyKey === undefined || this.has('ignores idempotency keys') ? undefined : this.#known.get(name)
    if (known !== undefined) return { ...known, epoch, isNew: false }
    const before = this.#newest
    const stored = this.#store(channel, publication)
    const position = this.has('answers with the place of another event') && this.#published++ % 2 === 1 ? before : stored
    if (this.has('stores an event twice')) this.#store(channel, publication)
    const published = { epoch, position, isNew: true }
    const remember = (): unknown => this.#known.set(name, published)
    if (idempotencyKey === undefined) return published
    if (this.has('is late to remember idempotency keys')) void turns(LATE_TURNS).then(remember)
    else remember()
    return published
  }

  read(node: SimulatedBackplane, epoch: string, positions: readonly ChannelPosition[]): History {
    const isSame = epoch === this.epochFor(node) || this.has('reads places of another epoch as its own')
    const channels = positions.map(({ channel, after }) => this.#historyOf(this.#nameOf(channel), isSame ? after : 0))
    let newest = this.moment()
    if (this.has('gives a moment that has passed')) {
      newest = Math.max(node.lastTold, ...channels.map(({ floor, events }) => events.at(-1)?.position ?? floor))
    }
    if (this.has('gives a moment that is yet to come')) newest = Number.MAX_SAFE_INTEGER
    return { epoch: this.epochFor(node), newest, channels }
  }

  /** Reads one channel at a later moment than the others. */
  reread(channel: string, after: number): ChannelHistory {
    return this.#historyOf(this.#nameOf(channel), after)
  }

  acquire(node: SimulatedBackplane, owner: string, max: number): Acquired {
    const counted = this.#counts.get(owner) ?? []
    const those = this.has('counts streams for each node') ? counted.filter((each) => each === node) : counted
    if (those.length >= max) {
      const own = this.has('takes the streams of others for those of the node') ? those : those.filter((each) => each === node)
      return own.length >= max ? 'full' : 'maybe-full'
    }
    const count = (): unknown => this.#counts.set(owner, [...(this.#counts.get(owner) ?? []), node])
    if (this.has('counts streams late')) void turns(LATE_TURNS).then(count)
    else count()
    return 'counted'
  }

  release(node: SimulatedBackplane, owner: string): void {
    if (this.has('never releases streams')) return
    const counted = this.#counts.get(owner) ?? []
    const at = counted.indexOf(node)
    if (at >= 0) this.#counts.set(owner, counted.toSpliced(at, 1))
  }

  leave(node: SimulatedBackplane): void {
    if (!this.has('tells after close')) this.nodes.delete(node)
    if (!this.has('knows processes that are gone')) this.processes.delete(node)
    if (!this.has('never releases streams')) {
      for (const [owner, counted] of this.#counts) {
        this.#counts.set(
          owner,
          counted.filter((each) => each !== node),
        )
      }
    }
    if (this.has('closes all')) for (const other of this.processes) void other.close()
  }

  #store(channel: string, { event, text, isString, key, bounds }: Publication): number {
    const kept = this.#kept(channel)
    const position = this.moment()
    const stored: BackplaneEvent = {
      position,
      prev: kept.last,
      event: this.has('changes names of events') ? event.trim() : event,
      text: this.#textOf(text),
      isString: isString || this.has('forgets what is a string'),
      key: this.has('forgets the keys of events') ? undefined : key,
    }
    if (bounds.latestPerKey && stored.key !== undefined) {
      const at = kept.events.findIndex((each) => each.key === stored.key)
      if (at >= 0 && this.has('counts what was replaced as dropped')) kept.floor = Math.max(kept.floor, kept.events[at]?.position ?? 0)
      if (at >= 0) kept.events.splice(at, 1)
    }
    kept.last = position
    kept.events.push(stored)
    const { maxBytes } = bounds
    const maxEvents = Math.max(0, bounds.maxEvents - (this.has('drops more than it must') ? 1 : 0))
    const isTooMuch = (): boolean =>
      kept.events.length > maxEvents || kept.events.reduce((sum, each) => sum + each.text.length, 0) > maxBytes
    while (kept.events.length > 0 && isTooMuch() && !this.has('drops nothing')) {
      kept.floor = (kept.events.shift() as BackplaneEvent).position
    }
    this.#tell(channel, stored)
    return position
  }

  #tell(channel: string, event: BackplaneEvent): void {
    for (const node of this.nodes) node.tell(channel, this.has('names no event before') || !this.hasLog ? { ...event, prev: 0 } : event)
  }

  #kept(channel: string): Kept {
    let kept = this.#channels.get(channel)
    if (kept === undefined) this.#channels.set(channel, (kept = { events: [], last: 0, floor: 0 }))
    return kept
  }

  #historyOf(channel: string, after: number): ChannelHistory {
    const { events, floor, last } = this.#kept(channel)
    if (this.has('claims too little')) return { floor: Math.max(last, 1), events: [] }
    return { floor: this.has('claims what was dropped') ? 0 : floor, events: events.filter(({ position }) => position > after) }
  }

  #nameOf(channel: string): string {
    return this.has('takes names of channels for alike') ? channel.normalize().trim() : channel
  }

  #textOf(text: string): string {
    if (this.has('trims texts')) return text.trim()
    return this.has('cuts long texts') ? text.slice(0, 65_536) : text
  }
}

/** One node of a {@link SimulatedEngine}: commands go over one connection, what it is told of comes over another. */
class SimulatedBackplane implements Backplane, BackplaneLog {
  readonly timeoutMs: number
  readonly probeMs = 2_000
  readonly processId = makeEpoch()
  readonly index: number
  readonly log: BackplaneLog | null
  /** The newest event that it was told of. */
  lastTold = 0
  readonly #engine: SimulatedEngine
  readonly #watched = new Set<string>()
  readonly #commands: Line
  readonly #answers: Line
  readonly #subscriptions: Line
  readonly #tellings: Line
  #host: BackplaneHost | null = null
  #isClosing = false
  #isClosed = false
  #told = 0
  /** Counts the connections: what was on its way when one broke is lost. */
  #connection = 0
  #isAway = false
  /** Those who wait until their channels are watched. */
  readonly #watching = new Set<(error: SseError) => void>()
  /** What is told after the next event, where two are swapped. */
  #swapped: (() => void) | null = null
  /** By channel, what was before the events that were lost. */
  readonly #hidden = new Map<string, number>()

  constructor(engine: SimulatedEngine, index: number) {
    this.#engine = engine
    this.index = index
    this.timeoutMs = engine.timeoutMs
    this.log = engine.hasLog ? this : null
    const isSlow = engine.has('reads too early') || engine.has('reads channel by channel')
    this.#commands = new Line(engine.turns)
    this.#answers = new Line(isSlow ? () => LATE_TURNS : engine.turns)
    this.#subscriptions = new Line(engine.turns)
    this.#tellings = new Line(engine.has('says too early that a moment is reached') ? () => LATE_TURNS : engine.turns)
  }

  open(host: BackplaneHost): { readonly epoch: string; readonly newest: number } | null {
    const engine = this.#engine
    this.#host = host
    if (!engine.hasLog) {
      this.#join()
      return { epoch: engine.epochFor(this), newest: engine.has('forgets where it began') ? 0 : engine.newest }
    }
    this.#subscriptions.send(() => {
      this.#join()
      this.#carry(() => host.resumed(new Map()))
    })
    return null
  }

  publish(publication: Publication): Published | Promise<Published> {
    const engine = this.#engine
    if (engine.hasLog) {
      if (this.#isClosed && engine.has('stores after close')) engine.publish(this, publication)
      const isLate = engine.has('publishes in no order') && this.#told++ % 2 === 0
      return this.#ask(() => engine.publish(this, publication), isLate ? LATE_TURNS : 0)
    }
    if (this.#isOver) {
      if (engine.has('stores after close')) engine.publish(this, publication)
      throw closed()
    }
    return engine.publish(this, publication)
  }

  watch(channels: readonly string[]): Promise<Refused> {
    if (this.#isOver) return Promise.reject(closed())
    let refused: Refused = new Map()
    const add = (): void => {
      for (const channel of channels) this.#watched.add(this.#nameOf(channel))
      refused = this.#refusedOf(channels)
    }
    if (this.#isAway) {
      // It is watched when the connection is back.
      add()
      return Promise.reject(new SseError('SSE_BACKPLANE_UNAVAILABLE', 'the connection is broken'))
    }
    return new Promise((resolve, reject) => {
      this.#watching.add(reject)
      this.#subscriptions.send(() => {
        if (this.#engine.has('watches late')) void turns(LATE_TURNS).then(add)
        else add()
        this.#carry(() => {
          this.#watching.delete(reject)
          this.#forget(refused)
          resolve(this.#engine.has('is silent about a refusal') ? new Map() : refused)
        })
      })
    })
  }

  unwatch(channels: readonly string[]): void {
    if (this.#engine.has('does not unwatch')) return
    this.#subscriptions.send(() => {
      for (const channel of channels) this.#watched.delete(this.#nameOf(channel))
    })
  }

  async read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History> {
    const engine = this.#engine
    const isTooEarly = engine.has('says too early that a moment is reached')
    const history = await this.#ask(() => {
      const answer = engine.read(this, epoch, positions)
      if (!isTooEarly) this.#carry(() => this.#host?.reached(token))
      return answer
    })
    if (isTooEarly) this.#host?.reached(token)
    if (engine.has('reads too early')) return { ...history, newest: engine.moment() }
    const [first] = positions
    if (first === undefined || !engine.has('reads channel by channel')) return history
    return { ...history, channels: [engine.reread(first.channel, epoch === history.epoch ? first.after : 0), ...history.channels.slice(1)] }
  }

  reconnect(): void {
    const engine = this.#engine
    if (this.#isOver) return
    const isSilent = engine.has('does not say that it was interrupted')
    this.#connection++
    if (!engine.has('tells while it is interrupted')) this.#isAway = true
    if (!isSilent) this.#host?.interrupted()
    for (const reject of this.#watching) reject(new SseError('SSE_BACKPLANE_UNAVAILABLE', 'the connection broke'))
    this.#watching.clear()
    if (engine.has('forgets what was watched')) this.#watched.clear()
    void turns(5).then(() => {
      this.#isAway = false
      const refused = this.#refusedOf([...this.#watched])
      this.#forget(refused)
      if (!isSilent) this.#carry(() => this.#host?.resumed(engine.has('is silent about a refusal') ? new Map() : refused))
    })
  }

  acquire(owner: string, max: number): Promise<Acquired> {
    return this.#ask(() => this.#engine.acquire(this, owner, max))
  }

  release(owner: string): void {
    if (!this.#isOver) this.#commands.send(() => this.#engine.release(this, owner))
  }

  async broadcast(text: string): Promise<readonly string[]> {
    const engine = this.#engine
    const carry = (): readonly string[] => {
      const nodes = engine.has('knows no other process') ? [this] : [...engine.processes]
      for (const node of nodes) if (node === this || !engine.has('loses signals')) node.#carry(() => node.#host?.controlMessage(text))
      return nodes.map(({ processId }) => processId)
    }
    return engine.hasLog ? this.#ask(carry) : this.#ask(carry, -1)
  }

  send(processId: string, text: string): void {
    if (this.#isOver) return
    this.#commands.send(() => {
      for (const node of this.#engine.processes) {
        if (node.processId === processId || this.#engine.has('sends to all')) node.#carry(() => node.#host?.controlMessage(text))
      }
    })
  }

  async close(): Promise<void> {
    if (this.#isClosing) return
    this.#isClosing = true
    if (this.#engine.has('resolves while it closes')) await turns(LATE_TURNS)
    this.#isClosed = true
    this.#engine.leave(this)
  }

  /** An event is told, where its channel is watched. */
  tell(channel: string, event: BackplaneEvent): void {
    const engine = this.#engine
    if (engine.hasLog && (!this.#watched.has(channel) || engine.refused.has(channel))) return
    let told = event
    if (engine.has('loses an event') && this.#told++ % 3 === 1) {
      if (!this.#hidden.has(channel)) this.#hidden.set(channel, event.prev)
      return
    }
    told = { ...event, prev: this.#hidden.get(channel) ?? event.prev }
    this.#hidden.delete(channel)
    const give = (): void => {
      this.lastTold = event.position
      this.#host?.event(engine.epochFor(this), channel, told)
    }
    if (engine.has('swaps two events') && this.#swapped === null && this.#told++ % 2 === 1) {
      this.#swapped = give
      // Where none follows, it is only late.
      void turns(LATE_TURNS).then(() => this.#giveSwapped())
    } else if (engine.hasLog) {
      this.#carry(give)
      this.#giveSwapped()
    } else if (engine.has('tells after publish returns')) {
      setImmediate(give)
    } else if (!this.#isClosed || engine.has('tells after close')) {
      give()
      this.#giveSwapped()
    }
  }

  /** Those of the channels that may not be watched. */
  #refusedOf(channels: readonly string[]): Refused {
    const engine = this.#engine
    let refused = channels.filter((channel) => engine.refused.has(channel))
    if (refused.length > 0 && engine.has('refuses all that is asked for with a refused channel')) refused = [...channels]
    return new Map(
      refused.map((channel) => [
        channel,
        new SseError('SSE_BACKPLANE_UNAVAILABLE', `the simulated engine refuses the channel '${channel}'`),
      ]),
    )
  }

  #forget(refused: Refused): void {
    for (const channel of refused.keys()) this.#watched.delete(this.#nameOf(channel))
  }

  #giveSwapped(): void {
    const give = this.#swapped
    this.#swapped = null
    if (give !== null) this.#carry(give)
  }

  #join(): void {
    if (this.#isClosing) return
    this.#engine.nodes.add(this)
    this.#engine.processes.add(this)
  }

  get #isOver(): boolean {
    return this.#engine.has('resolves while it closes') ? this.#isClosed : this.#isClosing
  }

  /** Brings something to the host, unless the node is closed by then. */
  #carry(arrive: () => void): void {
    const engine = this.#engine
    const connection = this.#connection
    if (this.#isAway) return
    this.#tellings.send(() => {
      if (connection !== this.#connection && !engine.has('tells while it is interrupted')) return
      if (!this.#isOver || engine.has('tells after close')) arrive()
    })
  }

  /** Has something done by the engine. `delay`: how many turns later; -1: at once. */
  async #ask<T>(execute: () => T, delay = 0): Promise<T> {
    if (this.#isOver && !this.#engine.has('resolves after close')) throw closed()
    if (delay === -1) return execute()
    if (delay > 0) await turns(delay)
    return new Promise((resolve, reject) => {
      this.#commands.send(() => {
        const answer = execute()
        this.#answers.send(() => (this.#isOver && !this.#engine.has('resolves after close') ? reject(closed()) : resolve(answer)))
      })
    })
  }

  #nameOf(channel: string): string {
    return this.#engine.has('takes names of channels for alike') ? channel.normalize().trim() : channel
  }
}

function closed(): SseError {
  return new SseError('SSE_BACKPLANE_UNAVAILABLE', 'the simulated backplane is closed')
}
