export { publishScript } from './redis/scripts.ts'
export { RedisBackplane } from './redis/redis-backplane.ts'
export type { RedisBackplaneOptions, RedisConnection } from './redis/redis-backplane.ts'
