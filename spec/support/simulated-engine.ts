import type {
  Acquired,
  Backplane,
  BackplaneEvent,
  BackplaneHost,
  BackplaneLog,
  History,
  ChannelPosition,
  Publication,
  Published,
  Refused,
} from '../../lib/backplanes/backplane.ts'
import { SseError } from '../../lib/basics/errors.ts'

interface Kept {
  readonly events: BackplaneEvent[]
  last: number
}

/** What one process shares with the others: positions, and what is kept of each channel. */
export class SimulatedEngine {
  epoch = 'e000000000'
  /** All events ever, by the channel. */
  readonly published = new Map<string, { readonly epoch: string; readonly position: number }[]>()
  readonly backplanes: SimulatedBackplane[] = []
  /** The channels that nobody may watch, and those that nobody may read. */
  readonly unwatchable = new Set<string>()
  readonly unreadable = new Set<string>()
  #last = 1_000
  #lives = 0
  #kept = new Map<string, Kept>()
  /** The newest position of a channel that was forgotten. */
  #floor = 0

  get last(): number {
    return this.#last
  }

  publish(channel: string, event: string, text: string, maxEvents: number): number {
    const position = ++this.#last
    let kept = this.#kept.get(channel)
    if (kept === undefined) this.#kept.set(channel, (kept = { events: [], last: this.#floor }))
    const stored = { position, prev: kept.last, event, text, isString: true, key: undefined }
    kept.last = position
    kept.events.push(stored)
    kept.events.splice(0, kept.events.length - maxEvents)
    const all = this.published.get(channel) ?? []
    this.published.set(channel, all)
    all.push({ epoch: this.epoch, position })
    for (const backplane of this.backplanes) backplane.tell(channel, this.epoch, stored)
    return position
  }

  read(epoch: string, positions: readonly ChannelPosition[]): History {
    const newest = ++this.#last
    const channels = positions.map(({ channel, after }) => {
      const from = epoch === this.epoch ? after : 0
      const kept = this.#kept.get(channel)
      if (this.unreadable.has(channel)) return { floor: 0, events: [], refusal: new Error(`${channel} must not be read`) }
      if (kept === undefined) return { floor: this.#floor, events: [] }
      const [first] = kept.events.filter(({ position }) => position > from)
      return { floor: first?.prev ?? (kept.last > from ? kept.last : 0), events: kept.events.filter(({ position }) => position > from) }
    })
    return { epoch: this.epoch, newest, channels }
  }

  /** Forgets a channel, as if all that it has were too old. */
  forget(channel: string): void {
    this.#floor = Math.max(this.#floor, this.#kept.get(channel)?.last ?? 0)
    this.#kept.delete(channel)
  }

  /** Loses everything; where its clock stands then, is another matter. */
  flush(last: number): void {
    this.epoch = `e${String(++this.#lives).padStart(9, '0')}`
    this.#kept = new Map()
    this.#floor = 0
    this.#last = last
  }
}

/** A process's way to the engine: what comes over it comes when the test says so. */
export class SimulatedBackplane implements Backplane, BackplaneLog {
  readonly timeoutMs = 1_000
  readonly probeMs = 500
  readonly processId: string
  readonly #engine: SimulatedEngine
  readonly #watched = new Set<string>()
  /** Those that are told of over the connection that there is. */
  readonly #subscribed = new Set<string>()
  /** What was told, and did not arrive yet. */
  #told: (() => void)[] = []
  /** The answers to commands, in their order. */
  #answers: { readonly give: () => void; readonly fail: () => void }[] = []
  #host: BackplaneHost | null = null
  #isConnected = false
  #isDeaf = false

  constructor(engine: SimulatedEngine) {
    this.#engine = engine
    this.processId = String(engine.backplanes.length)
    engine.backplanes.push(this)
  }

  get log(): BackplaneLog {
    return this
  }

  get isConnected(): boolean {
    return this.#isConnected
  }

  get isIdle(): boolean {
    return this.#told.length === 0 && this.#answers.length === 0
  }

  open(host: BackplaneHost): null {
    this.#host = host
    return null
  }

  connect(): void {
    this.#isConnected = true
    this.#isDeaf = false
    const refused = this.#refuse([...this.#watched])
    for (const channel of refused.keys()) this.#watched.delete(channel)
    this.#host?.resumed(refused)
  }

  disconnect(): void {
    this.#isConnected = false
    this.#subscribed.clear()
    this.#told = []
    const answers = this.#answers
    this.#answers = []
    for (const { fail } of answers) fail()
    this.#host?.interrupted()
  }

  tell(channel: string, epoch: string, event: BackplaneEvent): void {
    if (this.#subscribed.has(channel)) this.#tell(() => this.#host?.event(epoch, channel, event))
  }

  #tell(what: () => void): void {
    if (this.#isConnected && !this.#isDeaf) this.#told.push(what)
  }

  /** Nothing comes any more of what is told, until it is connected anew. */
  deafen(): void {
    this.#isDeaf = true
  }

  /** Something arrives: of what was told, or an answer. `false` where nothing is under way. */
  arrive(random: number): boolean {
    const source = this.#answers.length === 0 || (this.#told.length > 0 && random < 0.5) ? this.#told.shift() : this.#answers.shift()?.give
    source?.()
    return source !== undefined
  }

  /** Loses one thing that was told, or has it come twice. */
  disturb(random: number, isDouble: boolean): void {
    const at = Math.floor(random * this.#told.length)
    const told = this.#told[at]
    if (told === undefined) return
    if (isDouble) this.#told.push(told)
    else this.#told.splice(at, 1)
  }

  async publish({ channel, event, text, bounds }: Publication): Promise<Published> {
    return { epoch: this.#engine.epoch, position: this.#engine.publish(channel, event, text, bounds.maxEvents), isNew: true }
  }

  async watch(channels: readonly string[]): Promise<Refused> {
    for (const channel of channels) this.#watched.add(channel)
    const refused = await this.#answer(() => this.#refuse(channels))
    for (const channel of refused.keys()) this.#watched.delete(channel)
    return refused
  }

  unwatch(channels: readonly string[]): void {
    for (const channel of channels) this.#watched.delete(channel)
    for (const channel of channels) this.#subscribed.delete(channel)
  }

  read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History> {
    return this.#answer(() => {
      const history = this.#engine.read(epoch, positions)
      this.#tell(() => this.#host?.reached(token))
      return history
    })
  }

  reconnect(): void {
    if (!this.#isConnected) return
    this.disconnect()
    this.connect()
  }

  async acquire(): Promise<Acquired> {
    return 'counted'
  }

  release(): void {}

  async broadcast(): Promise<readonly string[]> {
    return [this.processId]
  }

  send(): void {}

  async close(): Promise<void> {
    this.#isConnected = false
  }

  /** Subscribes to channels, as far as they are not refused. */
  #refuse(channels: readonly string[]): Refused {
    const refused = channels.filter((channel) => this.#engine.unwatchable.has(channel))
    for (const channel of channels) this.#subscribed.add(channel)
    for (const channel of refused) this.#subscribed.delete(channel)
    return new Map(refused.map((channel) => [channel, new Error(`${channel} must not be watched`)]))
  }

  async #answer<T>(command: () => T): Promise<T> {
    const away = new SseError('SSE_BACKPLANE_UNAVAILABLE', 'away')
    if (!this.#isConnected) throw away
    const answer = command()
    return new Promise((resolve, reject) => this.#answers.push({ give: () => resolve(answer), fail: () => reject(away) }))
  }
}
