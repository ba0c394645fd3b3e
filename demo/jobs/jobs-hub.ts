import { Hub, SseError } from 'express-sse-hub'
import { RedisBackplane } from 'express-sse-hub/redis'
import type { HashState } from './hash-job.ts'

/** Each user has a channel, and nobody else is subscribed to it. */
export type JobChannels = { [user: `jobs:${string}`]: { queued: HashState; progress: HashState; failed: HashState } }

export interface RedisOptions {
  readonly redisUrl?: string
  /** Begins every key in Redis. */
  readonly prefix?: string
}

/** Where the web servers and the workers meet. */
export function meetingPlace({ redisUrl = 'redis://127.0.0.1:6379', prefix = 'express-sse-hub-demo' }: RedisOptions) {
  return { redisUrl, prefix, queueName: 'hash', queuePrefix: `{${prefix}}:queue` }
}

/** The options that the environment gives, the same for a server and a worker. */
export function redisOptionsFrom({ REDIS_URL, DEMO_PREFIX }: NodeJS.ProcessEnv): RedisOptions {
  return { ...(REDIS_URL && { redisUrl: REDIS_URL }), ...(DEMO_PREFIX && { prefix: DEMO_PREFIX }) }
}

/** The hub of one process. All of them must give the same `replay`, so it is made here for each. */
export function createJobsHub(options: RedisOptions, onError: (error: unknown) => void) {
  const { redisUrl, prefix } = meetingPlace(options)
  const backplane = new RedisBackplane({ url: redisUrl }, { prefix, timeoutMs: 2_000 })
  return new Hub<JobChannels>({ replay: { maxEvents: 2_000 }, backplane, onError })
}

export function isUnavailable(error: unknown): boolean {
  return error instanceof SseError && error.code === 'SSE_BACKPLANE_UNAVAILABLE'
}
