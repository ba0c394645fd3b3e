export { publishScript } from './redis/scripts.ts'
export { RedisBackplane } from './redis/redis-backplane.ts'
export type { RedisBackplaneOptions, RedisClient, RedisConnection } from './redis/redis-options.ts'
