import type { Redis } from 'ioredis'
import { type Deferred, deferred } from '../basics/promises.ts'
import { describeValue, SseError } from '../basics/errors.ts'
import { Fifo } from '../basics/fifo.ts'
import { RECONNECT_MS } from './redis-connection.ts'
import type { Script } from './scripts.ts'

/** The time within which the link must close. */
const CLOSE_MS = 1_000

/** The calls by which a link informs its owner. */
export interface LinkEvents {
  /** Prepares a connection that was just made. The link uses it once the promise resolves. */
  readonly prepare: (redis: Redis) => Promise<void>
  readonly onReady: () => void
  /** A connection that was ready broke. */
  readonly onLost: () => void
  readonly onError: (error: SseError) => void
  /** A text that another connection published to a pub/sub channel. */
  readonly onMessage?: (channel: string, text: string) => void
}

/** A use of the connection that waits for it to be ready. */
interface PendingUse {
  readonly deadline: number
  readonly ready: Deferred<void>
}

/** One connection to Redis. It reconnects by itself. While it cannot be used, it knows the reason. */
export class RedisLink {
  readonly #redis: Redis
  readonly #timeoutMs: number
  readonly #pending = new Fifo<PendingUse>()
  #events: LinkEvents | undefined
  #timer: NodeJS.Timeout | undefined
  /** Counts connections, so that work for one that broke is abandoned. */
  #connection = 0
  #isReady = false
  #isBreakingOff = false
  /** Whether an error was reported for the current connection, or none is needed because the link broke it off itself. */
  #isExplained = false
  #isClosed = false
  #lastError = 'it has not answered yet'

  constructor(redis: Redis, timeoutMs: number) {
    this.#redis = redis
    this.#timeoutMs = timeoutMs
  }

  get isReady(): boolean {
    return this.#isReady
  }

  /** Address of the server, without a password. */
  get address(): string {
    const { path, host, port, sentinels, name } = this.#redis.options
    if (sentinels) return `the master ${name} of ${sentinels.map((sentinel) => `${sentinel.host}:${sentinel.port}`).join(', ')}`
    return path ?? `${host}:${port}`
  }

  /** Connects. Called once. */
  connect(events: LinkEvents): void {
    this.#events = events
    const { onMessage } = events
    this.#redis.on('connect', () => (this.#isBreakingOff = this.#isExplained = false))
    this.#redis.on('ready', () => void this.#connected())
    this.#redis.on('close', () => this.#disconnected())
    this.#redis.on('error', (error: Error) => this.#failed(error))
    if (onMessage !== undefined) this.#redis.on('message', onMessage)
    this.#redis.connect().catch(() => {})
  }

  /** Breaks the connection off, so that another one is made. */
  reconnect(): void {
    if (this.#isClosed || this.#isBreakingOff) return
    this.#isBreakingOff = this.#isExplained = true
    this.#redis.disconnect(true)
  }

  /** Accepts no more commands, and closes when Redis has answered a last command, or after a second without an answer. */
  async close(sendLast?: (redis: Redis) => Promise<unknown>): Promise<void> {
    const wasReady = this.#isReady
    this.#isClosed = true
    this.#lost()
    this.#rejectPending()
    if (wasReady && sendLast !== undefined) {
      const timeout = deferred<void>()
      const timer = setTimeout(timeout.resolve, CLOSE_MS)
      await Promise.race([sendLast(this.#redis).catch(() => {}), timeout.promise])
      clearTimeout(timer)
    }
    this.#redis.disconnect()
  }

  /** The connection once it is ready. Rejects with `SSE_BACKPLANE_UNAVAILABLE` after `timeoutMs`. */
  async use(): Promise<Redis> {
    if (!this.#isReady) await this.#whenReady()
    return this.#redis
  }

  /**
   * Runs a script at most once.
   *
   * @param args makes the arguments when the command is sent, which may be after a wait for the connection.
   */
  async evaluate(script: Script, base: string, args: () => readonly (string | number)[]): Promise<unknown> {
    if (!this.#isReady) await this.#whenReady()
    try {
      return await this.#redis.evalsha(script.sha, 1, base, ...args())
    } catch (error) {
      if (isUnsent(error)) {
        // The connection is breaking, but has not emitted 'close' yet.
        this.#lost()
        return this.evaluate(script, base, args)
      }
      if (!isNoScript(error)) throw this.#unanswered(error)
    }
    try {
      // The server no longer has the script, and so has not run it.
      return await this.#redis.eval(script.source, 1, base, ...args())
    } catch (error) {
      throw this.#unanswered(error)
    }
  }

  /** The error for a call that could not be answered. */
  unavailable(reason: string, cause?: unknown): SseError {
    return new SseError(
      'SSE_BACKPLANE_UNAVAILABLE',
      `RedisBackplane: Redis at ${this.address}: ${reason}`,
      cause === undefined ? {} : { cause },
    )
  }

  /** The error for a channel that the ACL of Redis denies to the user. */
  refusal(channel: string, reason: string): SseError {
    return this.unavailable(`it refuses the channel ${describeValue(channel)}: ${reason}`)
  }

  async #connected(): Promise<void> {
    const connection = ++this.#connection
    try {
      await this.#events?.prepare(this.#redis)
    } catch (error) {
      if (connection !== this.#connection) return
      this.#failed(error as Error)
      // The longest delay, because Redis may refuse the same preparation again and again.
      setTimeout(() => connection === this.#connection && this.reconnect(), RECONNECT_MS.max).unref()
      return
    }
    if (connection !== this.#connection || this.#isClosed) return
    this.#isReady = this.#isExplained = true
    this.#events?.onReady()
    for (let use = this.#pending.shift(); use !== undefined; use = this.#pending.shift()) use.ready.resolve()
  }

  #disconnected(): void {
    this.#isBreakingOff = false
    if (!this.#isExplained) this.#failed(new Error('it ended the connection'))
    this.#lost()
  }

  #lost(): void {
    this.#connection++
    if (!this.#isReady) return
    this.#isReady = false
    this.#lastError = 'the connection broke'
    this.#events?.onLost()
  }

  #failed(error: Error): void {
    this.#isExplained = true
    this.#lastError = error.message
    this.#events?.onError(this.unavailable(error.message, error))
  }

  #whenReady(): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.unavailable('the backplane is closed'))
    const ready = deferred<void>()
    this.#pending.push({ deadline: performance.now() + this.#timeoutMs, ready })
    this.#timer ??= setTimeout(this.#expirePending, this.#timeoutMs)
    return ready.promise
  }

  readonly #expirePending = (): void => {
    this.#timer = undefined
    const now = performance.now()
    for (let first = this.#pending.first; first !== undefined; first = this.#pending.first) {
      // A timer may fire up to a millisecond early.
      if (first.deadline > now + 1) {
        this.#timer = setTimeout(this.#expirePending, first.deadline - now)
        return
      }
      this.#pending.shift()
      first.ready.reject(this.unavailable(`no connection within ${this.#timeoutMs} ms: ${this.#lastError}; the command was not sent`))
    }
  }

  #rejectPending(): void {
    clearTimeout(this.#timer)
    for (let use = this.#pending.shift(); use !== undefined; use = this.#pending.shift()) {
      use.ready.reject(this.unavailable('the backplane was closed; the command was not sent'))
    }
  }

  #unanswered(error: unknown): SseError {
    const { message } = error as Error
    if (isReply(error)) {
      // Redis does not undo what a script did before the line that failed. If memory is full, it does not begin the script.
      const isPartial = message.includes('@user_script') && !message.startsWith('OOM')
      return this.unavailable(`it refused: ${message}${isPartial ? '; a part of the script may have taken effect' : ''}`, error)
    }
    if (message === 'Command timed out') this.reconnect()
    return this.unavailable(`no answer (${message}); the command may have taken effect`, error)
  }
}

/** Whether Redis has answered with an error, which means that the connection is sound. */
export function isReply(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError'
}

function isUnsent(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("Stream isn't writeable")
}

function isNoScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}
