import { Hub, SseError } from 'express-sse-hub'
import { RedisBackplane } from 'express-sse-hub/redis'
import type { HashState } from './hash-job.ts'

/** Each user has a channel of their own. */
export type JobChannels = { [user: `jobs:${string}`]: { queued: HashState; progress: HashState; failed: HashState } }

export interface RedisOptions {
  readonly redisUrl?: string
  /** Begins every key in Redis. */
  readonly prefix?: string
}

/** The server and the names in it that web servers and workers share. */
export function redisSettings({ redisUrl = 'redis://127.0.0.1:6379', prefix = 'express-sse-hub-demo' }: RedisOptions) {
  return { redisUrl, prefix, queueName: 'hash', queuePrefix: `{${prefix}}:queue` }
}

/** Reads the options from the environment, in the same way for a server and a worker. */
export function redisOptionsFrom({ REDIS_URL, DEMO_PREFIX }: NodeJS.ProcessEnv): RedisOptions {
  return { ...(REDIS_URL && { redisUrl: REDIS_URL }), ...(DEMO_PREFIX && { prefix: DEMO_PREFIX }) }
}

/** Creates the hub of one process. All processes use this function, because they must agree on `replay`. */
export function createJobsHub(options: RedisOptions, onError: (error: unknown) => void) {
  const { redisUrl, prefix } = redisSettings(options)
  const backplane = new RedisBackplane({ url: redisUrl }, { prefix, timeoutMs: 2_000 })
  return new Hub<JobChannels>({ replay: { maxEvents: 2_000 }, backplane, onError })
}

export function isUnavailable(error: unknown): boolean {
  return error instanceof SseError && error.code === 'SSE_BACKPLANE_UNAVAILABLE'
}
