import { Redis, type RedisOptions } from 'ioredis'
import { backoffMs } from '../basics/backoff.ts'
import { describeValue } from '../basics/errors.ts'
import { checkOptions } from '../basics/options.ts'
import type { RedisClient, RedisConnection } from './redis-options.ts'

/** Delays between attempts to connect, in milliseconds. */
export const RECONNECT_MS = { min: 100, max: 2_000 }

/** The name of the connections in `CLIENT LIST`, if the client has none of its own. */
const CONNECTION_NAME = 'express-sse-hub'

/**
 * Makes a client of `ioredis` that is not connected yet, and returns it with the `keyPrefix` of the user's client. The prefix is
 * removed from the options because the backplane itself puts it before every key and pub/sub channel.
 *
 * @throws {TypeError} if `connection` has neither a valid URL nor a client of `ioredis`.
 */
export function makeClient(connection: RedisConnection, timeoutMs: number): { readonly redis: Redis; readonly keyPrefix: string } {
  checkOptions('RedisBackplane', connection, ['url', 'client'])
  const { url, client } = connection
  const original = client === undefined ? fromUrl(url) : fromClient(client)
  const { keyPrefix = '' } = original.options
  return { redis: original.duplicate(linkOptions(timeoutMs, original.options)), keyPrefix }
}

/**
 * The options that replace those of the user's client: no command is sent twice, no wait is unbounded, and replies have the shape
 * that the backplane parses.
 */
function linkOptions(timeoutMs: number, { connectionName }: RedisOptions): RedisOptions {
  return {
    // ioredis treats an empty name as no name.
    connectionName: connectionName || CONNECTION_NAME,
    lazyConnect: true,
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
    // A function that returned 2 would make ioredis send the command again.
    reconnectOnError: null,
    // A command that was sent but not answered rejects when the connection breaks.
    maxRetriesPerRequest: 0,
    commandTimeout: timeoutMs,
    connectTimeout: timeoutMs,
    // A connection without events is silent between two probes.
    socketTimeout: undefined,
    // Short, because no code waits for a connection to close.
    disconnectTimeout: 100,
    // ioredis counts attempts from 1.
    retryStrategy: (attempt) => backoffMs(attempt - 1, RECONNECT_MS),
  }
}

function fromClient(client: RedisClient): Redis {
  // Checks the methods and not the class, because another copy of ioredis has another class.
  if (
    typeof client !== 'object' ||
    client === null ||
    typeof client.duplicate !== 'function' ||
    typeof client.defineCommand !== 'function' ||
    'nodes' in client
  ) {
    throw new TypeError(`RedisBackplane: client must be a Redis client of ioredis, and not a Cluster, got ${describeValue(client)}`)
  }
  return client as Redis
}

function fromUrl(url: string): Redis {
  if (typeof url !== 'string') {
    throw new TypeError(
      `RedisBackplane: url must be a URL such as redis://127.0.0.1:6379, unless you pass a client of ioredis, got ${describeValue(url)}`,
    )
  }
  // The message does not quote the URL, because it may contain a password.
  if (!/^rediss?:\/\/|^\//.test(url)) {
    throw new TypeError(`RedisBackplane: url must be a URL such as redis://127.0.0.1:6379, and begin with redis:, rediss: or /`)
  }
  const redis = new Redis(url, { lazyConnect: true })
  const { db = 0, host, port } = redis.options
  if (!Number.isInteger(db)) {
    throw new TypeError(`RedisBackplane: the path of url, if any, must be the number of a database, such as redis://${host}:${port}/0`)
  }
  return redis
}

/** The `run_id` of the server, which changes when the server restarts. */
export async function readServerRunId(redis: Redis): Promise<string> {
  const info = await redis.info('server').catch((error: Error) => error.message)
  const serverRunId = /^run_id:(\w+)/m.exec(info)?.[1]
  if (serverRunId !== undefined) return serverRunId
  throw new Error(
    `INFO server has no run_id, which reveals a restart of Redis (${info.slice(0, 100)}): allow INFO to this user, or set durable`,
  )
}
