import { describeValue } from '../basics/errors.ts'
import { checkBoolean, checkInteger, checkOptions } from '../basics/options.ts'
import { SERVER_TIME } from './scripts/prelude.ts'

/**
 * The part of a `Redis` client of `ioredis`, version 5 or 6, that the backplane uses. It is declared here so that the types of
 * this package need no `ioredis`.
 */
export interface RedisClient {
  readonly options: object
  duplicate(override?: object): RedisClient
  defineCommand(name: string, definition: { lua: string }): void
  /** Only a `Cluster` has nodes, and the backplane does not accept one. */
  readonly nodes?: never
}

/**
 * The Redis to connect to: its URL, or a client of `ioredis`. The backplane copies the client's options and does not use the
 * client itself. Hubs with another `db` or `keyPrefix` share no events, as clients with another one share no keys.
 */
export type RedisConnection = { readonly url: string; readonly client?: never } | { readonly client: RedisClient; readonly url?: never }

/** Options of {@link RedisBackplane}. */
export interface RedisBackplaneOptions {
  /**
   * Beginning of every key and pub/sub channel, in braces and after the client's `keyPrefix`. Hubs with the same prefix share
   * their channels. Default `'sse'`.
   */
  readonly prefix?: string | undefined
  /** The time in milliseconds within which Redis must answer. After that, `publish` rejects and `subscribe` refuses. Default 5,000. */
  readonly timeoutMs?: number | undefined
  /**
   * The interval in milliseconds, at most 5,000, at which the hub checks that it still receives events. The streams of a process that died
   * count for three times as long. Default 2,000.
   */
  readonly probeMs?: number | undefined
  /**
   * Whether Redis keeps every acknowledged write through a restart (`appendfsync always`) and a failover (no replica). Without
   * this promise, every client receives `stream-reset` after a restart of Redis. Default `false`.
   */
  readonly durable?: boolean | undefined
}

/** A process counts as alive for this many probes after the last one, so that a late probe does not make it count as dead. */
const PROBES_ALIVE = 3

/**
 * The options after the checks, with every default filled in.
 *
 * @internal
 */
export interface RedisSettings {
  readonly prefix: string
  readonly timeoutMs: number
  readonly probeMs: number
  /** The time for which this process counts as alive after it was last heard from, in milliseconds. */
  readonly aliveMs: number
  /** The interval in milliseconds at which channels are swept. */
  readonly sweepMs: number
  readonly isDurable: boolean
  /** The Lua expression by which the scripts read the time. */
  readonly time: string
}

/**
 * Checks the options.
 *
 * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
 * @internal
 */
export function redisSettings(options: RedisBackplaneOptions): RedisSettings {
  checkOptions('RedisBackplane', options, ['prefix', 'timeoutMs', 'probeMs', 'durable'])
  const { prefix = 'sse' } = options
  if (typeof prefix !== 'string' || !/^[^{}]+$/.test(prefix)) {
    throw new TypeError(`RedisBackplane: prefix must be a non-empty string without braces, got ${describeValue(prefix)}`)
  }
  const probeMs = checkInteger('RedisBackplane: probeMs', options.probeMs, 2_000, { min: 50, max: 5_000 })
  return {
    prefix,
    timeoutMs: checkInteger('RedisBackplane: timeoutMs', options.timeoutMs, 5_000, { min: 100, max: 60_000 }),
    probeMs,
    aliveMs: PROBES_ALIVE * probeMs,
    sweepMs: probeMs,
    isDurable: checkBoolean('RedisBackplane: durable', options.durable, false),
    time: SERVER_TIME,
  }
}
