import { setTimeout as delay } from 'node:timers/promises'
import express, { type ErrorRequestHandler, Router } from 'express'
import { sseMiddleware } from 'express-sse-hub'
import { HashOrder, stateOf } from './jobs/hash-job.ts'
import { createHashQueue } from './jobs/hash-queue.ts'
import { createJobsHub, isUnavailable, meetingPlace, type RedisOptions } from './jobs/jobs-hub.ts'
import { createOpenPages } from './jobs/open-pages.ts'
import { createUserRouter, userOf } from './jobs/user.ts'

export interface JobsOptions extends RedisOptions {
  readonly retryMs?: number
  /** How often it looks whether Redis and a worker are there. */
  readonly lookEveryMs?: number
}

/** A user starts jobs, which a worker in another process does, and sees how far they are. Nobody else does. */
export function createJobs({ retryMs = 3_000, lookEveryMs = 1_000, ...options }: JobsOptions = {}) {
  // While Redis is away, every page that comes back would be reported. The page says it, which is enough.
  const hub = createJobsHub(options, (error) => isUnavailable(error) || process.emitWarning(error as Error))
  const queue = createHashQueue(options)
  const router = Router()

  const isThere = (): boolean => hub.health() && queue.isReady()
  const { host } = new URL(meetingPlace(options).redisUrl)
  const look = async () => ({ redis: isThere(), host, workers: await queue.workers() })
  const pages = createOpenPages(look, lookEveryMs)
  /** Made once, for all users: by the channel it knows whose jobs are asked for. */
  const snapshot = async ([channel = '']: readonly string[]) => ({ event: 'jobs', data: await queue.jobsOf(channel.slice('jobs:'.length)) })

  router.use(sseMiddleware({ retryMs }), express.json())
  router.use(
    '/user',
    createUserRouter((user) => hub.disconnect(user).catch(() => 0)),
  )
  router.get('/events', async (req, res) => {
    const user = userOf(req) ?? null
    pages.add(req, res)
    const subscribed = user === null ? undefined : res.sse.subscribe(hub, [`jobs:${user}`], { owner: user, snapshot })
    // Without Redis the hub sends the page away after a while, to come back. Before that, it is told why.
    await Promise.race([subscribed, delay(500)])
    await res.sse.send({ user, ...(await look()) }, { event: 'status' })
    await subscribed
  })
  router.post('/', async (req, res) => {
    const user = userOf(req)
    const order = HashOrder.safeParse(req.body)
    if (user === undefined) return res.status(401).json({ error: 'say first who you are' })
    if (!order.success) {
      const faults = order.error.issues.map(({ path, message }) => [...path, message].join(': '))
      return res.status(400).json({ error: faults.join('; ') })
    }
    if (!isThere()) return res.status(503).json({ error: `there is no Redis at ${host}` })
    const job = await queue.add({ ...order.data, user })
    // A worker that is faster has published it by the same key: so it comes once, and before the first step.
    await hub.publish(`jobs:${user}`, 'queued', stateOf(job), { idempotencyKey: `${job.id}:0` })
    return res.status(201).json({ id: job.id })
  })
  router.post('/cut', (req, res) => {
    res.sendStatus(pages.cut(req) ? 204 : 404)
  })
  const explain: ErrorRequestHandler = (error: Error & { status?: number }, _req, res, next) => {
    if (error.status === 400) res.status(400).json({ error: error.message })
    else next(error)
  }
  router.use(explain)

  const stop = async (): Promise<void> => {
    pages.stop()
    await hub.close()
    await queue.close()
  }
  return { router, hub, stop }
}
