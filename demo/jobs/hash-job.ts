import type { Job } from 'bullmq'
import { z } from 'zod'

export const UserName = z.string('a name is text').regex(/^[\w-]{1,32}$/, 'a name has 1 to 32 letters, digits, _ or -')

/** The order that a user may give. */
export const HashOrder = z.strictObject({
  folder: z.enum(['node_modules', 'lib', 'demo']),
  filesPerStep: z.int().min(1).max(1_000).default(40),
})

/** The data of a job in the queue. */
export const HashJob = HashOrder.extend({ user: UserName })
export type HashJob = z.infer<typeof HashJob>

export interface HashProgress {
  readonly step: number
  readonly steps: number
  readonly files: number
  readonly totalFiles: number
  readonly bytes: number
  /** Hash of the whole folder. Only the last step has it. */
  readonly hash?: string
}

/** The whole state of a job. Events carry it in place of a change, so that it does no harm if a snapshot has it already. */
export interface HashState extends HashProgress {
  readonly id: string
  readonly folder: string
  readonly at: number
  readonly state: 'waiting' | 'active' | 'done' | 'failed'
  readonly reason?: string
}

/** Reads the state from the queue, which keeps the progress of its jobs. There is no other store. */
export function stateOf(job: Job<HashJob>): HashState {
  const progress = { step: 0, steps: 0, files: 0, totalFiles: 0, bytes: 0, ...(job.progress as object) } as HashProgress
  const hasFailed = job.finishedOn !== undefined && Boolean(job.failedReason)
  const state = progress.hash !== undefined ? 'done' : hasFailed ? 'failed' : progress.step > 0 ? 'active' : 'waiting'
  const { id = '', data, timestamp } = job
  return { id, folder: data.folder, at: timestamp, state, ...progress, ...(hasFailed && { reason: job.failedReason }) }
}
