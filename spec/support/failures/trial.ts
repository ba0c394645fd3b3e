import type { RedisBackplaneOptions } from '../../../lib/redis.ts'
import { until } from '../client.ts'
import { randomFrom } from '../random.ts'
import { freshPrefix, type RedisServer } from '../redis.ts'
import { CuttingProxy } from './cutting-proxy.ts'
import { type Accepted, DeliveryCheck, type Findings } from './delivery-check.ts'
import type { Report } from './hub-process.ts'
import type { HubProcess, HubProcesses } from './hub-processes.ts'
import { BULK, CHANNELS } from './load.ts'
import { ResumingClient } from './resuming-client.ts'

/** Size of a load. */
export interface Size {
  readonly processes: number
  readonly clients: number
  readonly events: number
  /** Events that each process tries to publish per second. */
  readonly perSecond: number
  /** Average number of bytes after which the connection of a client is cut. */
  readonly meanBytes: number
  /** Time limit for the clients to receive the last events. */
  readonly patienceMs: number
}

export interface TrialOptions {
  readonly size: Size
  readonly seed: number
  readonly redis: RedisServer
  /** URL of a proxy between the hubs and Redis. */
  readonly url?: string
  readonly backplane?: RedisBackplaneOptions
  /** True if Redis is down when the hubs start. The trial then does not wait until the clients are live. */
  readonly isDown?: boolean
  /** Number of large events. They go to a channel of their own, which a few clients follow. */
  readonly large?: number
  readonly largeBytes?: number
}

/** Result of a load. */
export interface Outcome extends Findings {
  /** Other faults, in the processes of the hubs and in the answers to clients. */
  readonly faults: readonly string[]
  readonly examples: readonly string[]
  /** True if every client has received the last events. */
  readonly isComplete: boolean
  readonly seconds: number
  readonly cuts: number
  readonly connects: number
  /** Number of `stream-end` events that clients received. */
  readonly refused: number
  /** Number of rejected publishes, and their count by message. */
  readonly rejected: number
  readonly rejections: Readonly<Record<string, number>>
  /** Number of publishes that the hub recognised by their idempotency key as already stored. */
  readonly recognised: number
  readonly errors: readonly string[]
  /** Number of epochs in which events were accepted. */
  readonly lives: number
  readonly slowestPublishMs: number
}

/** Outcome without a fault. */
export const FLAWLESS = { lost: 0, doubled: 0, swapped: 0, forged: 0, backwards: 0, revived: 0, faults: [], examples: [], isComplete: true }

/** Part of the load that may be published before the failure has ended. */
const BEFORE_THE_REST = 0.8
/** Interval of the last events of each channel. They are repeated because a late reset may cover an earlier one. */
const AGAIN_MS = 4_000
const PATIENCE_MS = 25_000

/**
 * A load with a failure. Processes publish events, and clients that reconnect to any of the processes again and again record
 * what they receive. The test causes the failure. At the end, the trial compares the received with the accepted events.
 */
export class Trial {
  readonly prefix = freshPrefix()
  readonly redis: RedisServer
  readonly clients: ResumingClient[] = []
  processes: readonly HubProcess[] = []
  readonly #options: TrialOptions
  readonly #pool: HubProcesses
  readonly #proxy: CuttingProxy
  readonly #random: () => number
  readonly #ports = new Map<HubProcess, number>()
  readonly #accepted: Accepted[] = []
  readonly #reports: Report[] = []
  readonly #faults: string[] = []
  #acceptedBefore = 0
  #publishing: Promise<unknown> = Promise.resolve()
  #beganAt = 0

  private constructor(options: TrialOptions, pool: HubProcesses) {
    this.#options = options
    this.redis = options.redis
    this.#pool = pool
    this.#random = randomFrom(options.seed)
    this.#proxy = new CuttingProxy(options.size.meanBytes, this.#random)
  }

  /** Runs a load, and a failure during it. */
  static async run(options: TrialOptions, pool: HubProcesses, failure: (trial: Trial) => Promise<void>): Promise<Outcome> {
    const trial = new Trial(options, pool)
    try {
      await trial.#begin()
      await failure(trial)
      return await trial.#end()
    } finally {
      await trial.#stop()
    }
  }

  /** Number of accepted events so far. */
  get accepted(): number {
    return this.processes.reduce((sum, { progress }) => sum + progress.accepted, this.#acceptedBefore)
  }

  /** Number of rejected publishes so far. */
  get rejected(): number {
    return this.processes.reduce((sum, { progress }) => sum + progress.rejected, 0)
  }

  /** Waits until this part of the load was accepted, from 0 to 1. */
  async reached(part: number): Promise<void> {
    const count = part * this.#options.size.events
    await until(() => this.accepted >= count, `${count} events were accepted (${this.accepted} so far)`, PATIENCE_MS)
  }

  /** Waits until every hub reports this health. */
  async allHealthy(isHealthy: boolean): Promise<void> {
    await until(
      () => this.processes.every(({ progress }) => progress.isHealthy === isHealthy),
      `all hubs are ${isHealthy ? 'healthy' : 'unhealthy'}`,
      PATIENCE_MS,
    )
  }

  /** Waits until every client has a first position, from which on it must receive everything. */
  async allBegun(): Promise<void> {
    await until(() => this.clients.every(({ lastEventId }) => lastEventId !== ''), 'all clients were live', PATIENCE_MS)
  }

  /** Waits until every client was reset this many times. */
  async allReset(times: number): Promise<void> {
    await until(() => this.clients.every(({ resets }) => resets >= times), `all clients were reset ${times} times`, PATIENCE_MS)
  }

  /** Deletes the keys that match this pattern after the prefix, and returns their number. */
  async deleteKeys(suffix: string): Promise<number> {
    const keys = (await this.redis.command('KEYS', `{${this.prefix}}${suffix}`)) as string[]
    return keys.length === 0 ? 0 : ((await this.redis.command('DEL', ...keys)) as number)
  }

  /** Adds a process with a new hub, which publishes nothing. */
  async addProcess(): Promise<{ readonly process: HubProcess; readonly port: number }> {
    const process = this.#pool.add()
    const port = await this.#beginHub(process)
    this.processes = [...this.processes, process]
    this.#proxy.ports = [...this.#ports.values()]
    return { process, port }
  }

  /** Port of the proxy that cuts connections and forwards them to random processes. */
  port = 0

  async #begin(): Promise<void> {
    const { size, isDown = false, large = 0, largeBytes = 0 } = this.#options
    this.processes = await this.#pool.take(size.processes)
    this.#beganAt = performance.now()
    await Promise.all(this.processes.map((process) => this.#beginHub(process)))
    this.#proxy.ports = [...this.#ports.values()]
    this.port = await this.#proxy.listen()
    for (let n = 0; n < size.clients; n++) this.clients.push(new ResumingClient(this.#channelsFor(n), this.port, this.#random))
    if (!isDown) await this.allBegun()
    const each = size.events / this.processes.length
    const shares = this.processes.map(async (process, n) => {
      const share = {
        from: Math.floor(n * each),
        to: Math.floor((n + 1) * each),
        perSecond: size.perSecond,
        large: Math.floor(large / this.processes.length),
        largeBytes,
      }
      this.#accepted.push(...(await process.ask('publish', share)))
    })
    this.#publishing = Promise.all(shares)
    // A later await of the promise still rejects.
    this.#publishing.catch(() => {})
    await this.#go(BEFORE_THE_REST)
  }

  async #beginHub(process: HubProcess): Promise<number> {
    const { redis, url = redis.url, backplane } = this.#options
    const port = await process.ask('begin', { url, options: { probeMs: 200, timeoutMs: 1_000, ...backplane, prefix: this.prefix } })
    this.#ports.set(process, port)
    return port
  }

  /** One to four channels for a client, the same for the same seed. */
  #channelsFor(n: number): string[] {
    const channels = new Set<string>()
    const count = 1 + (n % 4)
    // Some clients follow only the quiet channel.
    if (n % 10 === 0) channels.add(CHANNELS.at(-1) ?? '')
    while (channels.size < count) channels.add(CHANNELS[Math.floor(this.#random() * CHANNELS.length)] ?? '')
    if (this.#options.large !== undefined && n % 12 === 1) channels.add(BULK)
    return [...channels]
  }

  async #go(part: number): Promise<void> {
    await Promise.all(this.processes.map((process) => process.ask('go', part)))
  }

  async #end(): Promise<Outcome> {
    const { events } = this.#options.size
    await this.#go(1)
    await this.#publishing
    const isComplete = await this.#mark(events)
    const check = new DeliveryCheck(
      this.#accepted,
      this.clients.map(({ received }) => received),
    )
    for (const [n, client] of this.clients.entries()) {
      check.check(`client ${n}`, client.channels, client.received)
      if (client.wrong.length > 0) this.#faults.push(`client ${n} received ${client.wrong[0]}`)
    }
    await this.#stopClients()
    for (const process of this.processes) {
      const report = await process.ask('report', null)
      this.#reports.push(report)
      this.#faults.push(...report.faults)
      const ms = await process.ask('end', null)
      this.#ports.delete(process)
      if (ms > 3_000) this.#faults.push(`it took ${ms} ms to close a hub`)
    }
    const reports = this.#reports
    const rejections: Record<string, number> = {}
    for (const report of reports) {
      for (const [message, count] of Object.entries(report.rejections)) rejections[message] = (rejections[message] ?? 0) + count
    }
    const published = reports.reduce((sum, { stats }) => sum + stats.published, 0)
    return {
      ...check.findings,
      faults: this.#faults,
      examples: check.examples,
      isComplete,
      seconds: Math.round((performance.now() - this.#beganAt) / 100) / 10,
      cuts: this.#proxy.cuts,
      connects: this.clients.reduce((sum, { connects }) => sum + connects, 0),
      refused: this.clients.reduce((sum, { refusals }) => sum + refusals, 0),
      rejected: Object.values(rejections).reduce((sum, count) => sum + count, 0),
      rejections,
      recognised: this.#accepted.length - published,
      errors: reports.flatMap(({ errors }) => errors),
      lives: check.lives,
      slowestPublishMs: Math.max(...reports.map(({ slowestPublishMs }) => slowestPublishMs)),
    }
  }

  /** Publishes last events until every client has received those of all its channels. */
  async #mark(events: number): Promise<boolean> {
    const { patienceMs } = this.#options.size
    const end = performance.now() + patienceMs
    const channels = [...CHANNELS, BULK]
    for (let from = events; performance.now() < end; from += channels.length) {
      for (const client of this.clients) {
        client.ends = 0
        client.endsAt = from
      }
      const process = this.processes[from % this.processes.length]
      if (process !== undefined) this.#accepted.push(...(await process.ask('mark', { from, channels })))
      const isReset = this.clients.some(({ resets }) => resets > 0)
      try {
        await until(
          () => this.clients.every((client) => client.ends >= client.channels.length),
          'all clients have received the last events',
          isReset ? AGAIN_MS : patienceMs,
        )
        return true
      } catch {
        // A late reset covers these events as well. Publish them again.
      }
    }
    return false
  }

  async #stopClients(): Promise<void> {
    for (const client of this.clients) client.stop()
    await this.#proxy.close()
  }

  async #stop(): Promise<void> {
    if (this.#ports.size === 0) return
    // The test has failed, and the processes may be in any state.
    await this.#stopClients()
    await this.#pool.kill(...this.#ports.keys())
  }
}
