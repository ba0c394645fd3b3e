import type { BackplaneHost, ChannelPosition, History, Publication, Published, Refused } from '../../lib/backplanes/backplane.ts'
import { SseError } from '../../lib/basics/errors.ts'
import { SimulatedBackplane } from './simulated-backplane.ts'
import type { SimulatedEngine } from './simulated-engine.ts'

/** A backplane over which calls and answers arrive when the test says so. Its connection breaks as a whole. */
export class SteppedBackplane extends SimulatedBackplane {
  readonly timeoutMs = 1_000
  readonly probeMs = 500
  readonly processId: string
  /** The calls that are on their way to the host. */
  #calls: (() => void)[] = []
  /** The answers that are on their way, in the order of the commands. */
  #answers: { readonly resolve: () => void; readonly reject: () => void }[] = []
  #isConnected = false
  #isDeaf = false

  constructor(engine: SimulatedEngine) {
    super(engine, engine.nodes.size)
    this.processId = String(this.index)
    this.join()
  }

  get isConnected(): boolean {
    return this.#isConnected
  }

  open(host: BackplaneHost): null {
    this.host = host
    return null
  }

  connect(): void {
    this.#isConnected = true
    this.#isDeaf = false
    const refused = this.subscribe([...this.watched])
    this.dropChannels(refused.keys())
    this.host?.resumed(refused)
  }

  /** Breaks the connection: everything that is on its way is lost. */
  disconnect(): void {
    this.#isConnected = false
    this.subscribed.clear()
    this.#calls = []
    for (const { reject } of this.#answers.splice(0)) reject()
    this.host?.interrupted()
  }

  reconnect(): void {
    if (!this.#isConnected) return
    this.disconnect()
    this.connect()
  }

  /** Loses every further call to the host, until the next connection. */
  deafen(): void {
    this.#isDeaf = true
  }

  /** Lets the next call or the next answer arrive. Returns `false` if nothing is on its way. */
  arrive(random: number): boolean {
    const isCall = this.#answers.length === 0 || (this.#calls.length > 0 && random < 0.5)
    const next = isCall ? this.#calls.shift() : this.#answers.shift()?.resolve
    next?.()
    return next !== undefined
  }

  /** Loses one of the calls that are on their way. */
  lose(random: number): void {
    this.#calls.splice(Math.floor(random * this.#calls.length), 1)
  }

  /** Repeats one of the calls that are on their way. */
  repeat(random: number): void {
    const call = this.#calls[Math.floor(random * this.#calls.length)]
    if (call !== undefined) this.#calls.push(call)
  }

  publish(publication: Publication): Published {
    return this.engine.publish(publication, this)
  }

  async watch(channels: readonly string[]): Promise<Refused> {
    for (const channel of channels) this.watched.add(channel)
    const refused = await this.ask(() => this.subscribe(channels))
    this.dropChannels(refused.keys())
    return refused
  }

  unwatch(channels: readonly string[]): void {
    this.dropChannels(channels)
  }

  read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History> {
    return this.ask(() => {
      const history = this.engine.read(this, epoch, positions)
      this.notify((host) => host.reached(token))
      return history
    })
  }

  async broadcast(): Promise<readonly string[]> {
    return [this.processId]
  }

  send(): void {}

  release(owner: string): void {
    this.engine.release(this, owner)
  }

  async close(): Promise<void> {
    this.#isConnected = false
  }

  protected async ask<T>(command: () => T): Promise<T> {
    const unavailable = new SseError('SSE_BACKPLANE_UNAVAILABLE', 'the connection is broken')
    if (!this.#isConnected) throw unavailable
    const answer = command()
    return new Promise((resolve, reject) => this.#answers.push({ resolve: () => resolve(answer), reject: () => reject(unavailable) }))
  }

  protected notify(call: (host: BackplaneHost) => void): void {
    const { host } = this
    if (host !== null && this.#isConnected && !this.#isDeaf) this.#calls.push(() => call(host))
  }
}
