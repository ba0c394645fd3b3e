/** The part of a `Redis` of `ioredis`, of version 5 or 6, that the backplane uses: it connects with a duplicate. */
export interface RedisClient {
  readonly options: object
  duplicate(override?: object): RedisClient
  defineCommand(name: string, definition: { lua: string }): void
  /** A cluster has them. */
  readonly nodes?: never
}

/**
 * The Redis to connect to: its URL, or a client of `ioredis`. The client's options are taken over, and the client itself is
 * left alone. Its `db` and `keyPrefix` keep hubs apart as they keep keys apart.
 */
export type RedisConnection = { readonly url: string; readonly client?: never } | { readonly client: RedisClient; readonly url?: never }
