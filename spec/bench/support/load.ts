import type { ConnectOrder, LoadOrders, LoadReport } from '../client/load-process.ts'
import type { Server } from './server.ts'
import { Worker } from './worker.ts'

/** Options of {@link Load.connect}. */
export type LoadOptions = Partial<Omit<ConnectOrder, 'port' | 'channels'>> & {
  /** Number of clients, each of channel 0 alone. */
  readonly clients?: number
  /** Channels of each client, instead of `clients`. */
  readonly channels?: readonly (readonly number[])[]
}

/** Clients in processes of their own. */
export class Load {
  readonly #workers: readonly Worker<LoadOrders>[]

  private constructor(workers: readonly Worker<LoadOrders>[]) {
    this.#workers = workers
  }

  static async start(processes = 1): Promise<Load> {
    return new Load(await Promise.all(Array.from({ length: processes }, async () => Worker.start<LoadOrders>('client/load-process'))))
  }

  /** Opens connections, and resolves when every client has the head of its answer. */
  async connect(server: Server, { clients = 0, channels, ...options }: LoadOptions): Promise<void> {
    const all = channels ?? Array.from({ length: clients }, () => [0])
    const share = Math.ceil(all.length / this.#workers.length)
    await Promise.all(
      this.#workers.map(async (worker, index) =>
        worker.ask('connect', {
          path: '/events',
          window: 200,
          ...options,
          port: server.port,
          channels: all.slice(index * share, (index + 1) * share),
        }),
      ),
    )
  }

  /** Resolves when every client has received everything that the server published, and rejects if one has received anything else. */
  async reach(server: Server): Promise<LoadReport> {
    return sum(await Promise.all(this.#workers.map(async (worker) => worker.ask('reach', { published: server.published }))))
  }

  async report(): Promise<LoadReport> {
    return sum(await Promise.all(this.#workers.map(async (worker) => worker.ask('report', undefined))))
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map(async (worker) => worker.ask('close', undefined)))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map(async (worker) => worker.stop()))
  }
}

function sum(reports: readonly LoadReport[]): LoadReport {
  return {
    deliveries: reports.reduce((total, { deliveries }) => total + deliveries, 0),
    bytes: reports.reduce((total, { bytes }) => total + bytes, 0),
    cpu: reports.reduce((total, { cpu }) => total + cpu, 0),
  }
}
