import type { ServerOptions } from '../servers/bench-server.ts'
import type { FloodOrder, PublishOrder, PublishReport, ServerOrders, ServerReport } from '../servers/server-process.ts'
import type { Nginx } from '../../support/nginx.ts'
import { cpuSeconds, withChildren } from './cpu.ts'
import { startNchan } from './nginx.ts'
import { Worker } from './worker.ts'

/** Servers of the benchmark, by their file in `servers/`. `nchan` is nginx with the module of this name. */
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

/** A server in a process of its own, as the main process of the bench sees it. */
export class Server {
  readonly name: ServerName
  readonly port: number
  /** Number of published events of each channel. */
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
    const nginx = name === 'nchan' ? await startNchan() : undefined
    const file = nginx === undefined ? name : 'nchan-publisher'
    const serverOptions: ServerOptions = nginx === undefined ? options : { nchanPort: nginx.port }
    const worker = await Worker.start<ServerOrders>('servers/server-process', [file, JSON.stringify(serverOptions)], ['--expose-gc'])
    const port = await worker.ask('listen', undefined)
    return new Server(name, nginx?.port ?? port, worker, nginx)
  }

  /** CPU seconds of the processes that serve the clients. The publisher to nginx does not count. */
  cpu(): number {
    return cpuSeconds(this.#nginx === undefined ? [this.#worker.pid] : withChildren(this.#nginx.pid))
  }

  async publish(order: PublishOrder): Promise<PublishReport> {
    const report = await this.#worker.ask('publish', order)
    this.published = report.published
    this.lastId = report.lastId
    return report
  }

  /** Returns the time that it took, in milliseconds. */
  async flood(order: FloodOrder): Promise<number> {
    return this.#worker.ask('flood', order)
  }

  /** @param collect if true, garbage is collected first. */
  async report(collect = false): Promise<ServerReport> {
    return this.#worker.ask('report', { collect })
  }

  async stop(): Promise<void> {
    await this.#worker.stop()
    await this.#nginx?.stop()
  }
}
