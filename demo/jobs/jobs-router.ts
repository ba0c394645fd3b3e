import { setTimeout as delay } from 'node:timers/promises'
import express, { type ErrorRequestHandler, Router } from 'express'
import { sseMiddleware } from 'express-sse-hub'
import { createOpenPages } from '../open-pages.ts'
import { HashOrder, stateOf } from './hash-job.ts'
import { createHashQueue } from './hash-queue.ts'
import { createJobsHub, isUnavailable, type RedisOptions, redisSettings } from './jobs-hub.ts'
import { createStatusFeed } from './status-feed.ts'
import { createUserRouter, userOf } from './user.ts'

export interface JobsOptions extends RedisOptions {
  readonly retryMs?: number
  /** The interval at which the server checks whether Redis and a worker can be reached. */
  readonly checkEveryMs?: number
}

/** A user starts jobs, which a worker in another process does, and sees their progress. No other user sees it. */
export function createJobs({ retryMs = 3_000, checkEveryMs = 1_000, ...options }: JobsOptions = {}) {
  // The page says that Redis is away. A report for every page that reconnects would add nothing.
  const hub = createJobsHub(options, (error) => isUnavailable(error) || process.emitWarning(error as Error))
  const queue = createHashQueue(options)
  const router = Router()
  const pages = createOpenPages()

  const isConnected = (): boolean => hub.health() && queue.isReady()
  const { host } = new URL(redisSettings(options).redisUrl)
  const status = async () => ({ redis: isConnected(), host, workers: await queue.workers() })
  const feed = createStatusFeed(pages, status, checkEveryMs)
  /** One function for all users, so that the hub can share its calls. The channel says whose jobs to return. */
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
    // Without Redis, the hub refuses the page after a timeout. The page receives the reason before that.
    await Promise.race([subscribed, delay(500)])
    await res.sse.send({ user, ...(await status()) }, { event: 'status' })
    await subscribed
  })
  router.post('/', async (req, res) => {
    const user = userOf(req)
    const order = HashOrder.safeParse(req.body)
    if (user === undefined) return res.status(401).json({ error: 'give your name first' })
    if (!order.success) {
      const faults = order.error.issues.map(({ path, message }) => [...path, message].join(': '))
      return res.status(400).json({ error: faults.join('; ') })
    }
    if (!isConnected()) return res.status(503).json({ error: `there is no Redis at ${host}` })
    const job = await queue.add({ ...order.data, user })
    // The worker publishes this event too, with the same key. So it arrives once, and before the first step.
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
    feed.stop()
    await hub.close()
    await queue.close()
  }
  return { router, hub, stop }
}
