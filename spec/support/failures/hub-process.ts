import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Hub, type HubStats, SseError, sseMiddleware } from 'express-sse-hub'
import { RedisBackplane, type RedisBackplaneOptions } from 'express-sse-hub/redis'
import express from 'express'
import { randomFrom } from '../random.ts'
import type { Accepted } from './delivery-check.ts'
import { BULK, channelOf, dataOf } from './load.ts'

/** Events for a process to publish: the numbers from `from` up to, but not including, `to`. */
export interface Share {
  readonly from: number
  readonly to: number
  readonly perSecond: number
  /** Number of large events among these. They are spread evenly, and go to a channel of their own. */
  readonly large: number
  readonly largeBytes: number
}

/** Orders to a process. */
export interface Orders {
  /** Makes a hub, serves it, and answers with the port. */
  begin(order: { readonly url: string; readonly options: RedisBackplaneOptions; readonly maxSubscribersPerOwner?: number }): number
  /** Publishes a share, as far as {@link Orders.go} allows, and answers when all of it was accepted. */
  publish(share: Share): readonly Accepted[]
  /** Sets the part of its share that the process may publish, from 0 to 1. */
  go(part: number): null
  /** Publishes events of these channels, in the order of their numbers. */
  mark(order: { readonly from: number; readonly channels: readonly string[] }): readonly Accepted[]
  /** Publishes an event without a retry. */
  once(order: { readonly channel: string; readonly data: string }): OnceAnswer
  report(order: null): Report
  /** Closes the hub and the server, and answers with the time that it took, in milliseconds. */
  end(order: null): number
}

export type OnceAnswer =
  | { readonly id: string; readonly ms: number }
  | { readonly code: string; readonly message: string; readonly ms: number }

/** State that a process reports every few milliseconds. */
export interface Progress {
  readonly accepted: number
  /** Number of rejected publishes. */
  readonly rejected: number
  readonly isHealthy: boolean
}

export interface Report {
  readonly stats: HubStats
  /** Uncaught errors, warnings, errors with which `publish` must not reject, and ids that went back. */
  readonly faults: readonly string[]
  /** Errors that `onError` received. */
  readonly errors: readonly string[]
  /** Number of rejections of `publish`, by message. */
  readonly rejections: Readonly<Record<string, number>>
  readonly slowestPublishMs: number
  /** CPU time of the process, in milliseconds. */
  readonly cpuMs: number
}

/** Message to a process. */
export type Request = {
  readonly [K in keyof Orders]: { readonly id: number; readonly name: K; readonly order: Parameters<Orders[K]>[0] }
}[keyof Orders]
export type Answer =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly failure: string }
  | { readonly progress: Progress }

const PUBLISHERS = 10
/** Events are due in bursts of this size. */
const BURST = 60
const PROGRESS_MS = 10

let service: Service | null = null
const faults: string[] = []
for (const event of ['unhandledRejection', 'uncaughtException', 'warning'] as const) {
  process.on(event, (error: unknown) => faults.push(`${event}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`))
}

/** A hub and the app that serves it. */
class Service {
  readonly server: Server
  readonly #hub: Hub
  readonly #errors: string[] = []
  readonly #faults: string[] = []
  readonly #rejections: Record<string, number> = {}
  #part = 0
  #wake: (() => void)[] = []
  #accepted = 0
  #rejected = 0
  #slowestPublishMs = 0
  readonly #cpuAt = process.cpuUsage()
  readonly #timer: NodeJS.Timeout

  constructor({ url, options, maxSubscribersPerOwner }: Parameters<Orders['begin']>[0]) {
    const replay = { maxEvents: 1_000_000, maxBytes: 67_108_864 }
    const onError = (error: unknown, { where }: { where: string }): void =>
      void this.#errors.push(`${where}: ${error instanceof Error ? error.message : String(error)}`)
    this.#hub = new Hub({
      replay,
      maxTotalBytes: 268_435_456,
      maxSubscribersPerOwner,
      backplane: new RedisBackplane({ url }, options),
      onError,
    })
    const app = express()
    app.use(sseMiddleware({ keepAliveMs: 200 }))
    app.get('/events', (req, res) =>
      res.sse.subscribe(this.#hub, [req.query['channel']].flat() as string[], { owner: req.query['owner'] as string | undefined }),
    )
    app.use((error: unknown, _req: express.Request, res: express.Response, _next: express.NextFunction) => {
      if (!(error instanceof SseError)) this.#faults.push(`the request failed: ${String(error)}`)
      res
        .status(error instanceof SseError ? error.status : 500)
        .set((error as SseError).headers ?? {})
        .send(String(error))
    })
    this.server = app.listen(0, '127.0.0.1')
    this.#timer = setInterval(() => {
      reply({ progress: { accepted: this.#accepted, rejected: this.#rejected, isHealthy: this.#hub.health() } })
    }, PROGRESS_MS)
  }

  async publish({ from, to, perSecond, large, largeBytes }: Share): Promise<Accepted[]> {
    const accepted: Accepted[] = []
    const count = to - from
    const begunAt = performance.now()
    let next = 0
    const publisher = async (): Promise<void> => {
      let last = ''
      for (let n = next++; n < count; n = next++) {
        while (n >= this.#part * count) await new Promise<void>((resolve) => this.#wake.push(resolve))
        const due = begunAt + (Math.floor(n / BURST) * BURST * 1_000) / perSecond
        if (due > performance.now()) await new Promise((resolve) => setTimeout(resolve, due - performance.now()))
        const isLarge = large > 0 && Math.floor((n * large) / count) !== Math.floor(((n + 1) * large) / count)
        const seq = from + n
        const id = await this.#insist(isLarge ? BULK : channelOf(seq), seq, dataOf(seq, isLarge ? largeBytes : 0))
        if (id.slice(0, 10) === last.slice(0, 10) && positionOf(id) <= positionOf(last)) {
          this.#faults.push(`published ${last} and, when that was accepted, ${id}`)
        }
        last = id
        accepted.push({ seq, id })
      }
    }
    await Promise.all(Array.from({ length: PUBLISHERS }, publisher))
    return accepted
  }

  go(part: number): void {
    this.#part = part
    for (const wake of this.#wake.splice(0)) wake()
  }

  async mark(from: number, channels: readonly string[]): Promise<Accepted[]> {
    const accepted: Accepted[] = []
    for (const [n, channel] of channels.entries()) {
      const seq = from + n
      accepted.push({ seq, id: await this.#insist(channel, seq, dataOf(seq)) })
    }
    return accepted
  }

  async once(channel: string, data: string): Promise<OnceAnswer> {
    const begunAt = performance.now()
    try {
      const id = await this.#hub.publish(channel, 'once', data)
      return { id, ms: performance.now() - begunAt }
    } catch (error) {
      const { code, message } = error as SseError
      return { code, message, ms: performance.now() - begunAt }
    }
  }

  report(): Report {
    const { user, system } = process.cpuUsage(this.#cpuAt)
    return {
      stats: this.#hub.stats(),
      faults: [...faults.splice(0), ...this.#faults],
      errors: this.#errors,
      rejections: this.#rejections,
      slowestPublishMs: Math.round(this.#slowestPublishMs),
      cpuMs: Math.round((user + system) / 1_000),
    }
  }

  async end(): Promise<number> {
    clearInterval(this.#timer)
    const begunAt = performance.now()
    const closed = new Promise((resolve) => this.server.close(resolve))
    await this.#hub.close()
    this.server.closeAllConnections()
    await closed
    return performance.now() - begunAt
  }

  /** Publishes an event until it is accepted. */
  async #insist(channel: string, seq: number, data: string): Promise<string> {
    for (;;) {
      const begunAt = performance.now()
      try {
        const id = await this.#hub.publish(channel, seq % 3 === 0 ? 'message' : 'item', data, { idempotencyKey: `k${seq}` })
        this.#accepted++
        return id
      } catch (error) {
        this.#rejected++
        const { code, message } = error as SseError
        if (code !== 'SSE_BACKPLANE_UNAVAILABLE') this.#faults.push(`publish rejected with ${String(error)}`)
        this.#rejections[message] = (this.#rejections[message] ?? 0) + 1
      } finally {
        this.#slowestPublishMs = Math.max(this.#slowestPublishMs, performance.now() - begunAt)
      }
      await new Promise((resolve) => setTimeout(resolve, 5 + 15 * random()))
    }
  }
}

const random = randomFrom(process.pid)

function positionOf(id: string): number {
  return Number.parseInt(id.slice(11), 10)
}

function reply(answer: Answer): void {
  process.send?.(answer)
}

async function begin(order: Parameters<Orders['begin']>[0]): Promise<number> {
  service = new Service(order)
  const { server } = service
  if (!server.listening) await new Promise((resolve) => server.once('listening', resolve))
  return (server.address() as AddressInfo).port
}

async function follow(request: Request): Promise<unknown> {
  if (request.name === 'begin') return begin(request.order)
  const current = service
  if (current === null) throw new Error('there is no hub')
  if (request.name === 'publish') return current.publish(request.order)
  if (request.name === 'go') return current.go(request.order)
  if (request.name === 'mark') return current.mark(request.order.from, request.order.channels)
  if (request.name === 'once') return current.once(request.order.channel, request.order.data)
  if (request.name === 'report') return current.report()
  service = null
  return current.end()
}

process.on('message', (request: Request) => {
  void follow(request).then(
    (answer) => reply({ id: request.id, answer: answer ?? null }),
    (error: unknown) => reply({ id: request.id, failure: String(error) }),
  )
})
// The process ends with the test.
process.on('disconnect', () => process.exit())
reply({ id: 0, answer: null })
