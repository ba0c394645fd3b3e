import type { ServerOptions } from '../servers/bench-server.ts'
import type { FloodOrder, PublishOrder, PublishReport, ServerOrders, ServerReport } from '../servers/server-process.ts'
import { cpuSeconds } from './cpu.ts'
import { Nginx } from './nginx.ts'
import { Worker } from './worker.ts'

/** The servers that take part, by the file in `servers/`; `nchan` is nginx with its module. */
export type ServerName =
  | 'express-sse-hub'
  | 'socket-writer'
  | 'node-buffer'
  | 'express-tutorial'
  | 'better-sse'
  | 'express-sse'
  | 'nchan'
  | 'bare-express'
  | 'bare-node'
  | 'compression'
  | 'redis-hub'
  | 'redis-bare'

/** A server in a process of its own, seen from the process that runs the bench. */
export class Server {
  readonly name: ServerName
  readonly port: number
  /** How many events each channel was given. */
  published: readonly number[] = []
  lastId = ''
  readonly #worker: Worker<ServerOrders>
  readonly #nginx: Nginx | undefined

  private constructor(name: ServerName, port: number, worker: Worker<ServerOrders>, nginx?: Nginx) {
    this.name = name
    this.port = port
    this.#worker = worker
    this.#nginx = nginx
  }

  static async start(name: ServerName, options: ServerOptions = {}): Promise<Server> {
    const nginx = name === 'nchan' ? await Nginx.start() : undefined
    const file = nginx === undefined ? name : 'nchan-publisher'
    const given: ServerOptions = nginx === undefined ? options : { nchanPort: nginx.port }
    const worker = await Worker.start<ServerOrders>('servers/server-process', [file, JSON.stringify(given)], ['--expose-gc'])
    const port = await worker.ask('listen', undefined)
    return new Server(name, nginx?.port ?? port, worker, nginx)
  }

  /** The CPU seconds of what serves the clients: of nginx without its publisher. */
  cpu(): number {
    return cpuSeconds(this.#nginx?.pids() ?? [this.#worker.pid])
  }

  async publish(order: PublishOrder): Promise<PublishReport> {
    const report = await this.#worker.ask('publish', order)
    this.published = report.published
    this.lastId = report.lastId
    return report
  }

  /** Gives how many milliseconds it took. */
  async flood(order: FloodOrder): Promise<number> {
    return this.#worker.ask('flood', order)
  }

  /** @param collect whether garbage is collected before. */
  async report(collect = false): Promise<ServerReport> {
    return this.#worker.ask('report', { collect })
  }

  async stop(): Promise<void> {
    await this.#worker.stop()
    await this.#nginx?.stop()
  }
}
