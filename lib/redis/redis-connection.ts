import { Redis } from 'ioredis'
import { describeValue } from '../basics/errors.ts'
import type { RedisClient, RedisConnection } from './redis-client.ts'
import { linkOptions } from './redis-link.ts'

/** The connection for commands, and the prefix that the client would put before keys. */
export function connect({ url, client }: RedisConnection, timeoutMs: number): { readonly link: Redis; readonly keyPrefix: string } {
  const redis = client === undefined ? fromUrl(url) : fromClient(client)
  const { keyPrefix = '' } = redis.options
  return { link: redis.duplicate(linkOptions(timeoutMs, redis.options)), keyPrefix }
}

function fromClient(client: RedisClient): Redis {
  // By its methods: another copy of ioredis has another class.
  if (
    typeof client !== 'object' ||
    client === null ||
    typeof client.duplicate !== 'function' ||
    typeof client.defineCommand !== 'function' ||
    'nodes' in client
  ) {
    throw new TypeError(`RedisBackplane: client must be a Redis of ioredis, and not a cluster, got ${describeValue(client)}`)
  }
  return client as Redis
}

function fromUrl(url: string): Redis {
  if (typeof url !== 'string') {
    throw new TypeError(
      `RedisBackplane: url must be a URL like redis://127.0.0.1:6379, or a client must be given, got ${describeValue(url)}`,
    )
  }
  // There may be a password in it.
  if (!/^rediss?:\/\/|^\//.test(url)) {
    throw new TypeError(`RedisBackplane: url must be a URL like redis://127.0.0.1:6379, and begin with redis:, rediss: or /`)
  }
  const redis = new Redis(url, { lazyConnect: true })
  const { db = 0, host, port } = redis.options
  if (!Number.isInteger(db)) {
    throw new TypeError(`RedisBackplane: url must have the number of a database as its path, if any: redis://${host}:${port}/0`)
  }
  return redis
}
