export { publishScript } from './redis/scripts.ts'
export { RedisBackplane } from './redis/redis-backplane.ts'
export type { RedisBackplaneOptions } from './redis/redis-backplane.ts'
export type { RedisClient, RedisConnection } from './redis/redis-client.ts'
