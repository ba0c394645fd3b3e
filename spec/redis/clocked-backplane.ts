import { RedisBackplane, type RedisBackplaneOptions } from '../../lib/redis.ts'
import type { RedisSettings } from '../../lib/redis/redis-options.ts'
import { REDIS_URL } from '../support/redis.ts'

/** The Lua expression for a time in microseconds. */
const timeOf = (us: string): string => `(function() local us = tonumber(${us}) return { math.floor(us / 1000000), us % 1000000 } end)()`

/** A clock that stands where the key `{prefix}:now` says, in microseconds. */
export const SET_CLOCK = timeOf("redis.call('GET', base .. ':now')")

/** A clock that each script advances by a number of microseconds, in the same key. */
export const runningClock = (stepUs: number): string => timeOf(`redis.call('INCRBY', base .. ':now', ${stepUs})`)

/** A backplane whose scripts read the time by another Lua expression, and that may sweep channels at a pace of its own. */
export function clockedBackplane(options: RedisBackplaneOptions, clock: Partial<Pick<RedisSettings, 'time' | 'sweepMs'>>): RedisBackplane {
  class ClockedBackplane extends RedisBackplane {
    protected override settings(given: RedisBackplaneOptions): RedisSettings {
      return { ...super.settings(given), ...clock }
    }
  }
  return new ClockedBackplane({ url: REDIS_URL }, options)
}
