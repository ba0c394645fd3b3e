import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type Job, Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { type HashJob, type HashState, stateOf } from './hash-job.ts'
import { type RedisOptions, redisSettings } from './jobs-hub.ts'

const STATES = ['active', 'waiting', 'delayed', 'completed', 'failed'] as const
/** A job is attempted again if Redis was away when it published. Some finished jobs are kept, so that pages can show them. */
const JOB_OPTIONS = { attempts: 5, backoff: 1_000, removeOnComplete: { count: 50 }, removeOnFail: { count: 50 } }

/** The queue for a web server. While Redis is away it fails at once, so that no request waits for it. */
export function createHashQueue(options: RedisOptions) {
  const { redisUrl, queueName, queuePrefix } = redisSettings(options)
  const failFast = { enableOfflineQueue: false, maxRetriesPerRequest: null, commandTimeout: 2_000, disconnectTimeout: 100 }
  const redis = new Redis(redisUrl, { ...failFast, retryStrategy: () => 500 })
  const skip = { skipVersionCheck: true, skipWaitingForReady: true, skipMetasUpdate: true }
  const queue = new Queue<HashJob>(queueName, { connection: redis, prefix: queuePrefix, ...skip })
  // The status feed tells the page that there is no connection.
  queue.on('error', () => {})

  return {
    isReady: (): boolean => redis.status === 'ready',
    add: (data: HashJob): Promise<Job<HashJob>> => queue.add(data.folder, data, { ...JOB_OPTIONS, jobId: randomUUID() }),
    /** The jobs of a user, oldest first. */
    async jobsOf(user: string): Promise<HashState[]> {
      // After an outage, the hub may reconnect shortly before the queue does.
      if (redis.status !== 'ready') await once(redis, 'ready', { signal: AbortSignal.timeout(2_000) })
      const jobs = await queue.getJobs([...STATES], 0, 99)
      const own = jobs.filter(({ data }) => data.user === user)
      return own.toSorted((a, b) => a.timestamp - b.timestamp).map(stateOf)
    },
    /** The number of workers; `undefined` while Redis is away. */
    workers: (): Promise<number | undefined> => queue.getWorkersCount().catch(() => undefined),
    async close(): Promise<void> {
      await queue.close()
      redis.disconnect()
    },
  }
}
