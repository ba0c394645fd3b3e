import { Worker } from 'bullmq'
import type { HashJob } from './jobs/hash-job.ts'
import { createJobsHub, meetingPlace, type RedisOptions, redisOptionsFrom } from './jobs/jobs-hub.ts'
import { createWork, type WorkOptions } from './jobs/work.ts'

export interface WorkerOptions extends RedisOptions, WorkOptions {
  /** After so long the job of a worker that was killed is given to another. */
  readonly lockMs?: number
}

/** Does the jobs of the queue. In this process nobody is subscribed: it has a hub to publish by. */
export function createWorker({ lockMs = 5_000, ...options }: WorkerOptions = {}) {
  const { redisUrl, queueName, queuePrefix } = meetingPlace(options)
  const hub = createJobsHub(options, (error) => console.error(`The hub: ${(error as Error).message}`))
  const { work, tell } = createWork(hub, options)
  const worker = new Worker<HashJob, void>(queueName, work, {
    connection: { url: redisUrl, retryStrategy: () => 1_000 },
    prefix: queuePrefix,
    concurrency: 2,
    lockDuration: lockMs,
    stalledInterval: lockMs,
    maxStalledCount: 20,
  })
  worker.on('failed', (job) => {
    if (job?.finishedOn !== undefined) tell('failed', job, 'failed').catch((error: Error) => console.error(error.message))
  })
  // Where there is no connection, the hub says so, and once.
  worker.on('error', (error) => 'code' in error || console.error(`The queue: ${error.message}`))

  const stop = async (): Promise<void> => {
    // A job that is not at its end goes back to the queue, and on with the next worker.
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
