import type { Redis, RedisOptions } from 'ioredis'
import { backoffMs } from '../basics/backoff.ts'
import { SseError } from '../basics/errors.ts'
import { Fifo } from '../basics/fifo.ts'
import type { Script } from './scripts.ts'

const RETRY_MS = { min: 100, max: 2_000 }
/** How long closing may take. */
const CLOSE_MS = 1_000

/** What a link tells whoever has it. */
export interface LinkEvents {
  /** The connection is there; it is used once the promise resolves. */
  readonly onConnected: (redis: Redis) => Promise<void>
  readonly onReady: () => void
  /** The connection that was ready is gone. */
  readonly onClosed: () => void
  readonly onError: (error: SseError) => void
}

interface Waiting {
  readonly until: number
  readonly resolve: () => void
  readonly reject: (error: SseError) => void
}

/** The name of the connections in `CLIENT LIST`, where the client has none of its own. */
const CONNECTION_NAME = 'express-sse-hub'

/**
 * The options that a link sets, whatever those of the client are: nothing is sent twice, nothing waits without a bound, and
 * replies have the shape that the backplane reads.
 */
export function linkOptions(timeoutMs: number, { connectionName }: Pick<RedisOptions, 'connectionName'>): RedisOptions {
  return {
    // ioredis takes the empty name for none.
    connectionName: connectionName || CONNECTION_NAME,
    lazyConnect: true,
    // The backplane puts it before every key and pub/sub channel itself.
    keyPrefix: '',
    stringNumbers: false,
    replyMapping: 'legacy',
    monitor: false,
    readOnly: false,
    enableAutoPipelining: false,
    enableOfflineQueue: false,
    enableReadyCheck: true,
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    // Returning 2 would send the command again.
    reconnectOnError: null,
    // A command that was sent and not answered is rejected when the connection breaks.
    maxRetriesPerRequest: 0,
    commandTimeout: timeoutMs,
    connectTimeout: timeoutMs,
    // A connection without events is silent between two probes.
    socketTimeout: undefined,
    // Closing waits for nothing.
    disconnectTimeout: 100,
    retryStrategy: (times) => backoffMs(times - 1, RETRY_MS),
  }
}

/** One connection to Redis, which comes back by itself, and says where it was when it could not be used. */
export class RedisLink {
  readonly #redis: Redis
  readonly #timeoutMs: number
  readonly #events: LinkEvents
  readonly #waiting = new Fifo<Waiting>()
  #timer: NodeJS.Timeout | undefined
  /** Counts the connections: what belongs to one that is gone is not gone on with. */
  #connection = 0
  #isReady = false
  #isBreakingOff = false
  /** Whether it was said, or need not be said, why this connection could not be used. */
  #isExplained = false
  #isClosed = false
  #lastError = 'it has not answered yet'

  constructor(redis: Redis, timeoutMs: number, events: LinkEvents) {
    this.#redis = redis
    this.#timeoutMs = timeoutMs
    this.#events = events
    redis.on('connect', () => (this.#isBreakingOff = this.#isExplained = false))
    redis.on('ready', () => void this.#connected())
    redis.on('close', () => this.#gone())
    redis.on('error', (error: Error) => this.#failed(error))
  }

  get isReady(): boolean {
    return this.#isReady
  }

  /** Where the server is, without a password. */
  get address(): string {
    const { path, host, port, sentinels, name } = this.#redis.options
    if (sentinels) return `the master ${name} of ${sentinels.map((sentinel) => `${sentinel.host}:${sentinel.port}`).join(', ')}`
    return path ?? `${host}:${port}`
  }

  connect(): void {
    this.#redis.connect().catch(() => {})
  }

  /** Breaks the connection off; it comes back. */
  reconnect(): void {
    if (this.#isClosed || this.#isBreakingOff) return
    this.#isBreakingOff = this.#isExplained = true
    this.#redis.disconnect(true)
  }

  /** Takes nothing more, and closes once what was sent last is answered, or soon after. */
  async close(sendLast?: (redis: Redis) => Promise<unknown>): Promise<void> {
    const wasReady = this.#isReady
    this.#isClosed = true
    this.#closed()
    this.#rejectAll()
    if (wasReady && sendLast !== undefined) {
      let timer: NodeJS.Timeout | undefined
      await Promise.race([sendLast(this.#redis).catch(() => {}), new Promise((resolve) => (timer = setTimeout(resolve, CLOSE_MS)))])
      clearTimeout(timer)
    }
    this.#redis.disconnect()
  }

  /** The connection, when it is ready. Rejects with `SSE_BACKPLANE_UNAVAILABLE` after `timeoutMs`. */
  async use(): Promise<Redis> {
    if (!this.#isReady) await this.#whenReady()
    return this.#redis
  }

  /** Runs a script, once. `args` is asked when it is sent. */
  async run(script: Script, base: string, args: () => readonly (string | number)[]): Promise<unknown> {
    if (!this.#isReady) await this.#whenReady()
    try {
      return await this.#redis.evalsha(script.sha, 1, base, ...args())
    } catch (error) {
      if (isUnsent(error)) {
        // The connection is breaking, and did not say so yet.
        this.#closed()
        return this.run(script, base, args)
      }
      if (!isNoScript(error)) throw this.#unanswered(error)
    }
    try {
      // Not known to the server any more: it was not run.
      return await this.#redis.eval(script.source, 1, base, ...args())
    } catch (error) {
      throw this.#unanswered(error)
    }
  }

  unavailable(what: string, cause?: unknown): SseError {
    return new SseError(
      'SSE_BACKPLANE_UNAVAILABLE',
      `RedisBackplane: Redis at ${this.address}: ${what}`,
      cause === undefined ? {} : { cause },
    )
  }

  async #connected(): Promise<void> {
    const connection = ++this.#connection
    try {
      await this.#events.onConnected(this.#redis)
    } catch (error) {
      if (connection !== this.#connection) return
      this.#failed(error as Error)
      // Not at once: it may be refused again and again.
      setTimeout(() => connection === this.#connection && this.reconnect(), RETRY_MS.max).unref()
      return
    }
    if (connection !== this.#connection || this.#isClosed) return
    this.#isReady = this.#isExplained = true
    this.#events.onReady()
    for (let waiting = this.#waiting.shift(); waiting !== undefined; waiting = this.#waiting.shift()) waiting.resolve()
  }

  #gone(): void {
    this.#isBreakingOff = false
    if (!this.#isExplained) this.#failed(new Error('it ended the connection'))
    this.#closed()
  }

  #closed(): void {
    this.#connection++
    if (!this.#isReady) return
    this.#isReady = false
    this.#lastError = 'the connection broke'
    this.#events.onClosed()
  }

  #failed(error: Error): void {
    this.#isExplained = true
    this.#lastError = error.message
    this.#events.onError(this.unavailable(error.message, error))
  }

  #whenReady(): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.unavailable('the backplane is closed'))
    return new Promise((resolve, reject) => {
      this.#waiting.push({ until: performance.now() + this.#timeoutMs, resolve, reject })
      this.#timer ??= setTimeout(this.#expire, this.#timeoutMs)
    })
  }

  readonly #expire = (): void => {
    this.#timer = undefined
    const now = performance.now()
    for (let first = this.#waiting.first; first !== undefined; first = this.#waiting.first) {
      if (first.until > now + 1) {
        this.#timer = setTimeout(this.#expire, first.until - now)
        return
      }
      this.#waiting.shift()
      first.reject(this.unavailable(`cannot be reached: ${this.#lastError}; nothing was sent`))
    }
  }

  #rejectAll(): void {
    clearTimeout(this.#timer)
    for (let waiting = this.#waiting.shift(); waiting !== undefined; waiting = this.#waiting.shift()) {
      waiting.reject(this.unavailable('the backplane was closed'))
    }
  }

  #unanswered(error: unknown): SseError {
    const { message } = error as Error
    if (isReply(error)) {
      // A script that was begun has done what came before the line that failed.
      const isPart = message.includes('@user_script') && !message.startsWith('OOM')
      return this.unavailable(`it refused: ${message}${isPart ? '; a part of it may have been done' : ''}`, error)
    }
    if (message === 'Command timed out') this.reconnect()
    return this.unavailable(`there was no answer (${message}); it may have been done`, error)
  }
}

/** Whether Redis has answered with an error: the connection is sound. */
export function isReply(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError'
}

function isUnsent(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("Stream isn't writeable")
}

function isNoScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}
