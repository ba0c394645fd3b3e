import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Job, UnrecoverableError, WaitingError } from 'bullmq'
import { hashFolder } from './hash-folder.ts'
import { HashJob, stateOf } from './hash-job.ts'
import { type createJobsHub, isUnavailable, type JobChannels } from './jobs-hub.ts'

export interface WorkOptions {
  /** The parent of the folders that users may name. Default: the working directory. */
  readonly root?: string
  /** Waits after a step, so that there is time to watch. Default: 25 ms. */
  readonly rest?: (step: number) => Promise<unknown>
}

/** The work of a job: it hashes a folder, and publishes each step to the job's user. */
export function createWork(hub: ReturnType<typeof createJobsHub>, { root = process.cwd(), rest = () => delay(25) }: WorkOptions) {
  // The key names the step. A job is attempted again if a worker was killed or received no answer, and no step may arrive twice.
  const publishState = (event: keyof JobChannels['jobs:'], job: Job<HashJob>, step: number | string): Promise<string> =>
    hub.publish(`jobs:${job.data.user}`, event, stateOf(job), { idempotencyKey: `${job.id}:${step}` })

  const hash = async (job: Job<HashJob>, token?: string, signal?: AbortSignal): Promise<void> => {
    const { folder, filesPerStep } = HashJob.parse(job.data)
    const { step: last } = stateOf(job)
    if (last === 0) await publishState('queued', job, 0)
    for await (const progress of hashFolder(path.join(root, folder), filesPerStep)) {
      if (signal?.aborted) {
        await job.moveToWait(token)
        throw new WaitingError()
      }
      // An earlier attempt has published these steps, except perhaps the last one. They are only hashed again.
      if (progress.step < last) continue
      // The state changes before the event is published, so that a snapshot is never older than the events that precede it.
      if (progress.step > last) await job.updateProgress(progress)
      await publishState('progress', job, progress.step)
      await rest(progress.step)
    }
  }

  const work = async (job: Job<HashJob>, token?: string, signal?: AbortSignal): Promise<void> => {
    try {
      await hash(job, token, signal)
    } catch (error) {
      // If Redis was away, the queue attempts the job again. Another attempt would not help with any other error.
      if (isUnavailable(error) || error instanceof WaitingError) throw error
      console.error(`A job has failed: ${(error as Error).message}`)
      throw new UnrecoverableError(`${job.data.folder} could not be hashed`)
    }
  }
  return { work, publishState }
}
