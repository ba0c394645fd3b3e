import type {
  Acquired,
  Backplane,
  BackplaneEvent,
  BackplaneHost,
  BackplaneLog,
  ChannelPosition,
  History,
  Publication,
  Published,
  Refused,
} from '../../lib/backplanes/backplane.ts'
import type { SimulatedEngine } from './simulated-engine.ts'

/**
 * The connection of one process to a {@link SimulatedEngine}. The subclasses decide when things arrive: `AutonomousBackplane` some
 * turns of the event loop later, `SteppedBackplane` when the test says so.
 */
export abstract class SimulatedBackplane implements Backplane, BackplaneLog {
  abstract readonly timeoutMs: number
  abstract readonly probeMs: number
  abstract readonly processId: string
  readonly index: number
  /** Position of the newest event that the host has received. */
  lastDelivered = 0
  protected readonly engine: SimulatedEngine
  protected host: BackplaneHost | null = null
  /** The channels that the hub watches, and those that the present connection delivers. */
  protected readonly watched = new Set<string>()
  protected readonly subscribed = new Set<string>()

  constructor(engine: SimulatedEngine, index: number) {
    this.engine = engine
    this.index = index
  }

  abstract open(host: BackplaneHost): { readonly epoch: string; readonly newest: number } | null
  abstract publish(publication: Publication): Published | Promise<Published>
  abstract watch(channels: readonly string[]): Promise<Refused>
  abstract unwatch(channels: readonly string[]): void
  abstract read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History>
  abstract reconnect(): void
  abstract broadcast(text: string): Promise<readonly string[]>
  abstract send(processId: string, text: string): void
  abstract release(owner: string): void
  abstract close(): Promise<void>
  /** Executes a command in the engine, and resolves when its answer arrives. */
  protected abstract ask<T>(command: () => T): Promise<T>
  /** Brings a call to the host, if the connection delivers it. */
  protected abstract notify(call: (host: BackplaneHost) => void): void

  get log(): BackplaneLog | null {
    return this.engine.hasLog ? this : null
  }

  /** Takes an event that the engine has stored. */
  deliver(channel: string, event: BackplaneEvent): void {
    const epoch = this.engine.epochFor(this)
    if (!this.subscribed.has(channel)) return
    this.notify((host) => {
      this.lastDelivered = event.position
      host.event(epoch, channel, event)
    })
  }

  /** Takes a control message. */
  receive(text: string): void {
    this.notify((host) => host.controlMessage(text))
  }

  acquire(owner: string, max: number): Promise<Acquired> {
    return this.ask(() => this.engine.acquire(this, owner, max))
  }

  protected join(): void {
    this.engine.nodes.add(this)
    this.engine.processes.add(this)
  }

  /** Subscribes the connection to watched channels, except for those that the engine refuses. */
  protected subscribe(channels: readonly string[]): Refused {
    const refused = this.engine.refusalsOf(channels)
    for (const channel of channels) if (!refused.has(channel)) this.subscribed.add(this.engine.channelNamed(channel))
    return refused
  }

  protected dropChannels(channels: Iterable<string>): void {
    for (const channel of channels) {
      this.watched.delete(this.engine.channelNamed(channel))
      this.subscribed.delete(this.engine.channelNamed(channel))
    }
  }
}
