import { Worker } from 'bullmq'
import type { HashJob } from './jobs/hash-job.ts'
import { createJobsHub, type RedisOptions, redisOptionsFrom, redisSettings } from './jobs/jobs-hub.ts'
import { createWork, type WorkOptions } from './jobs/work.ts'

export interface WorkerOptions extends RedisOptions, WorkOptions {
  /** Time after which the job of a killed worker goes to another worker. */
  readonly lockMs?: number
}

/** Does the jobs of the queue. This process has no subscribers. It uses its hub only to publish. */
export function createWorker({ lockMs = 5_000, ...options }: WorkerOptions = {}) {
  const { redisUrl, queueName, queuePrefix } = redisSettings(options)
  const hub = createJobsHub(options, (error) => console.error(`The hub: ${(error as Error).message}`))
  const { work, publishState } = createWork(hub, options)
  const worker = new Worker<HashJob, void>(queueName, work, {
    connection: { url: redisUrl, retryStrategy: () => 1_000 },
    prefix: queuePrefix,
    concurrency: 2,
    lockDuration: lockMs,
    stalledInterval: lockMs,
    maxStalledCount: 20,
  })
  worker.on('failed', (job) => {
    if (job?.finishedOn !== undefined) publishState('failed', job, 'failed').catch((error: Error) => console.error(error.message))
  })
  // The hub reports a lost connection already, and once. Such errors have a code.
  worker.on('error', (error) => 'code' in error || console.error(`The queue: ${error.message}`))

  const stop = async (): Promise<void> => {
    // An unfinished job goes back to the queue, and the next worker continues it.
    worker.cancelAllJobs()
    await worker.close(!hub.health())
    await hub.close()
  }
  return { worker, hub, stop }
}

if (require.main === module) {
  const { stop } = createWorker(redisOptionsFrom(process.env))
  console.log('The worker waits for jobs of the page /jobs.')
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => void stop())
}
