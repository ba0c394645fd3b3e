import type {
  BackplaneEvent,
  BackplaneHost,
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
import { randomFrom } from './random.ts'
import { SimulatedBackplane } from './simulated-backplane.ts'
import { LATE_TURNS, SimulatedEngine } from './simulated-engine.ts'

/** A line on which messages arrive in order, some turns of the event loop later. */
class Line {
  readonly #delay: () => number
  #queue: (() => void)[] = []
  #isMoving = false

  /** @param delay the number of turns that the next messages take. */
  constructor(delay: () => number) {
    this.#delay = delay
  }

  send(arrive: () => void): void {
    this.#queue.push(arrive)
    if (!this.#isMoving) void this.#move()
  }

  async #move(): Promise<void> {
    this.#isMoving = true
    while (this.#queue.length > 0) {
      await turns(this.#delay())
      for (const arrive of this.#queue.splice(0)) arrive()
    }
    this.#isMoving = false
  }
}

/** An engine whose backplanes run by themselves, for the contract suite. */
export class AutonomousEngine extends SimulatedEngine {
  /** A faulty engine fails fast. */
  readonly timeoutMs: number
  readonly #random = randomFrom(7)
  #nodeCount = 0

  constructor(faults: readonly Fault[] = [], hasLog = true) {
    super({ faults, hasLog })
    this.timeoutMs = faults.length === 0 ? 5_000 : 500
  }

  /** The number of turns of the event loop that a message takes. */
  readonly delay = (): number => 1 + Math.floor(this.#random() * 3)

  backplane(): AutonomousBackplane {
    return new AutonomousBackplane(this, this.#nodeCount++)
  }

  async refuse(channel: string): Promise<void> {
    this.unwatchable.add(channel)
  }

  async admit(channel: string): Promise<void> {
    if (!this.has('refuses a channel for good')) this.unwatchable.delete(channel)
  }
}

/** A backplane with two connections: one for commands, and one for events, which can break. */
class AutonomousBackplane extends SimulatedBackplane {
  readonly timeoutMs: number
  readonly probeMs = 2_000
  readonly processId = makeEpoch()
  readonly #commands: Line
  readonly #answers: Line
  readonly #subscriptions: Line
  readonly #calls: Line
  #isClosing = false
  #isClosed = false
  /** Counts publishes and events, for faults that affect some of them. */
  #count = 0
  /** Number of the connection for events. Calls that are on their way when it breaks are lost. */
  #connection = 0
  #isInterrupted = false
  /** Rejects the calls of `watch` that are not answered yet. */
  readonly #watching = new Set<(error: SseError) => void>()
  /** An event that is held back until after the next one. */
  #swapped: (() => void) | null = null
  /** By channel, the previous position of the oldest event that was lost. */
  readonly #lost = new Map<string, number>()

  constructor(engine: AutonomousEngine, index: number) {
    super(engine, index)
    this.timeoutMs = engine.timeoutMs
    const isSlow = engine.has('reads before the log head that it returns') || engine.has('reads channels at different log heads')
    this.#commands = new Line(engine.delay)
    this.#answers = new Line(isSlow ? () => LATE_TURNS : engine.delay)
    this.#subscriptions = new Line(engine.delay)
    this.#calls = new Line(engine.has('reports a log head as reached too early') ? () => LATE_TURNS : engine.delay)
  }

  open(host: BackplaneHost): { readonly epoch: string; readonly newest: number } | null {
    const { engine } = this
    this.host = host
    if (!engine.hasLog) {
      this.join()
      return { epoch: engine.epochFor(this), newest: engine.has('forgets its starting position') ? 0 : engine.newest }
    }
    this.#subscriptions.send(() => {
      if (!this.#isClosing) this.join()
      this.notify(() => host.resumed(new Map()))
    })
    return null
  }

  publish(publication: Publication): Published | Promise<Published> {
    const { engine } = this
    if (engine.hasLog) {
      if (this.#isClosed && engine.has('stores after close')) engine.publish(publication, this)
      const isLate = engine.has('publishes out of order') && this.#count++ % 2 === 0
      return this.ask(() => engine.publish(publication, this), isLate ? LATE_TURNS : 0)
    }
    if (this.#isOver) {
      if (engine.has('stores after close')) engine.publish(publication, this)
      throw closed()
    }
    return engine.publish(publication, this)
  }

  watch(channels: readonly string[]): Promise<Refused> {
    const { engine } = this
    if (this.#isOver) return Promise.reject(closed())
    let refused: Refused = new Map()
    const add = (): void => {
      for (const channel of channels) this.watched.add(engine.channelNamed(channel))
      refused = this.subscribe(channels)
    }
    if (this.#isInterrupted) {
      // The next connection delivers them.
      add()
      return Promise.reject(new SseError('SSE_BACKPLANE_UNAVAILABLE', 'the connection is broken'))
    }
    return new Promise((resolve, reject) => {
      this.#watching.add(reject)
      this.#subscriptions.send(() => {
        if (engine.has('watches after it has answered')) void turns(LATE_TURNS).then(add)
        else add()
        this.notify(() => {
          this.#watching.delete(reject)
          this.dropChannels(refused.keys())
          resolve(engine.has('does not report a refusal') ? new Map() : refused)
        })
      })
    })
  }

  unwatch(channels: readonly string[]): void {
    if (this.engine.has('does not unwatch')) return
    this.#subscriptions.send(() => this.dropChannels(channels))
  }

  async read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History> {
    const { engine } = this
    const isTooEarly = engine.has('reports a log head as reached too early')
    const history = await this.ask(() => {
      const answer = engine.read(this, epoch, positions)
      if (!isTooEarly) this.notify((host) => host.reached(token))
      return answer
    })
    if (isTooEarly) this.host?.reached(token)
    if (engine.has('reads before the log head that it returns')) return { ...history, newest: engine.nextPosition() }
    const [first] = positions
    if (first === undefined || !engine.has('reads channels at different log heads')) return history
    const later = engine.readChannel(first.channel, epoch === history.epoch ? first.after : 0)
    return { ...history, channels: [later, ...history.channels.slice(1)] }
  }

  reconnect(): void {
    const { engine } = this
    if (this.#isOver) return
    const isSilent = engine.has('does not report an interruption')
    this.#connection++
    if (!engine.has('delivers during an interruption')) this.#isInterrupted = true
    if (!isSilent) this.host?.interrupted()
    for (const reject of this.#watching) reject(new SseError('SSE_BACKPLANE_UNAVAILABLE', 'the connection broke'))
    this.#watching.clear()
    if (engine.has('forgets the watched channels')) this.dropChannels([...this.watched])
    void turns(5).then(() => {
      this.#isInterrupted = false
      this.subscribed.clear()
      const refused = this.subscribe([...this.watched])
      this.dropChannels(refused.keys())
      if (!isSilent) this.notify((host) => host.resumed(engine.has('does not report a refusal') ? new Map() : refused))
    })
  }

  release(owner: string): void {
    if (!this.#isOver) this.#commands.send(() => this.engine.release(this, owner))
  }

  async broadcast(text: string): Promise<readonly string[]> {
    const { engine } = this
    const carry = (): readonly string[] => {
      const nodes = engine.has('knows no other process') ? [this] : [...engine.processes]
      for (const node of nodes) if (node === this || !engine.has('loses control messages')) node.receive(text)
      return nodes.map(({ processId }) => processId)
    }
    return engine.hasLog ? this.ask(carry) : this.ask(carry, -1)
  }

  send(processId: string, text: string): void {
    if (this.#isOver) return
    this.#commands.send(() => {
      for (const node of this.engine.processes) {
        if (node.processId === processId || this.engine.has('sends a control message for one process to all')) node.receive(text)
      }
    })
  }

  async close(): Promise<void> {
    if (this.#isClosing) return
    this.#isClosing = true
    if (this.engine.has('answers while it closes')) await turns(LATE_TURNS)
    this.#isClosed = true
    this.engine.leave(this)
  }

  override deliver(channel: string, event: BackplaneEvent): void {
    const { engine } = this
    if (engine.hasLog && !this.subscribed.has(channel)) return
    if (engine.has('loses an event') && this.#count++ % 3 === 1) {
      if (!this.#lost.has(channel)) this.#lost.set(channel, event.prev)
      return
    }
    const delivered = { ...event, prev: this.#lost.get(channel) ?? event.prev }
    this.#lost.delete(channel)
    const give = (): void => {
      this.lastDelivered = event.position
      this.host?.event(engine.epochFor(this), channel, delivered)
    }
    if (engine.has('swaps two events') && this.#swapped === null && this.#count++ % 2 === 1) {
      this.#swapped = give
      // If no event follows, this one is only late.
      void turns(LATE_TURNS).then(() => this.#deliverSwapped())
    } else if (engine.hasLog) {
      this.notify(give)
      this.#deliverSwapped()
    } else if (engine.has('delivers after publish returns')) {
      setImmediate(give)
    } else if (!this.#isClosed || engine.has('delivers after close')) {
      give()
      this.#deliverSwapped()
    }
  }

  /** Brings a call to the host, unless the connection breaks or the backplane closes before. */
  protected notify(call: (host: BackplaneHost) => void): void {
    const { engine } = this
    const connection = this.#connection
    if (this.#isInterrupted) return
    this.#calls.send(() => {
      if (connection !== this.#connection && !engine.has('delivers during an interruption')) return
      if (this.host !== null && (!this.#isOver || engine.has('delivers after close'))) call(this.host)
    })
  }

  /** @param delay the number of turns after which the command is sent; -1 to execute it at once. */
  protected async ask<T>(command: () => T, delay = 0): Promise<T> {
    if (this.#isOver && !this.engine.has('answers after close')) throw closed()
    if (delay === -1) return command()
    if (delay > 0) await turns(delay)
    return new Promise((resolve, reject) => {
      this.#commands.send(() => {
        const answer = command()
        this.#answers.send(() => (this.#isOver && !this.engine.has('answers after close') ? reject(closed()) : resolve(answer)))
      })
    })
  }

  #deliverSwapped(): void {
    const give = this.#swapped
    this.#swapped = null
    if (give !== null) this.notify(give)
  }

  get #isOver(): boolean {
    return this.engine.has('answers while it closes') ? this.#isClosed : this.#isClosing
  }
}

function closed(): SseError {
  return new SseError('SSE_BACKPLANE_UNAVAILABLE', 'the simulated backplane is closed')
}
