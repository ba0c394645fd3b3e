import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Job, UnrecoverableError, WaitingError } from 'bullmq'
import { hashFolder } from './hash-folder.ts'
import { HashJob, stateOf } from './hash-job.ts'
import { type createJobsHub, isUnavailable, type JobChannels } from './jobs-hub.ts'

export interface WorkOptions {
  /** Where the folders are that users may name. */
  readonly root?: string
  /** Waits after a step, so that there is something to watch. */
  readonly rest?: (step: number) => Promise<unknown>
}

/** What a worker does with a job: it hashes, and publishes each step to the user who asked for it. */
export function createWork(hub: ReturnType<typeof createJobsHub>, { root = process.cwd(), rest = () => delay(25) }: WorkOptions) {
  // The key names the step: run again, because a worker was killed or had no answer, it does not come twice.
  const tell = (event: keyof JobChannels['jobs:'], job: Job<HashJob>, step: number | string): Promise<string> =>
    hub.publish(`jobs:${job.data.user}`, event, stateOf(job), { idempotencyKey: `${job.id}:${step}` })

  const hash = async (job: Job<HashJob>, token?: string, signal?: AbortSignal): Promise<void> => {
    const { folder, filesPerStep } = HashJob.parse(job.data)
    const { step: last } = stateOf(job)
    if (last === 0) await tell('queued', job, 0)
    for await (const progress of hashFolder(path.join(root, folder), filesPerStep)) {
      if (signal?.aborted) {
        await job.moveToWait(token)
        throw new WaitingError()
      }
      // What was told before is only hashed again. The last step of it may not have been told.
      if (progress.step < last) continue
      // The state first, then the event: a snapshot taken in between must not be older than what follows it.
      if (progress.step > last) await job.updateProgress(progress)
      await tell('progress', job, progress.step)
      await rest(progress.step)
    }
  }

  const work = async (job: Job<HashJob>, token?: string, signal?: AbortSignal): Promise<void> => {
    try {
      await hash(job, token, signal)
    } catch (error) {
      // Redis was away: the queue runs the job again. Nothing else gets better by that.
      if (isUnavailable(error) || error instanceof WaitingError) throw error
      console.error(`A job has failed: ${(error as Error).message}`)
      throw new UnrecoverableError(`${job.data.folder} could not be hashed`)
    }
  }
  return { work, tell }
}
