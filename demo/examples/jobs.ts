import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// Job queues run a job again when they do not know that it ended: its events must not come twice.
//   npx tsx demo/examples/jobs.ts
//   curl -N localhost:3000/events
//   curl -X POST localhost:3000/jobs/7/run        twice: the same id both times, and one event

const hub = new Hub<{ jobs: { done: { job: string } } }>()

/** What the queue calls, perhaps more than once for the same job. */
const runJob = (job: string): Promise<string> => hub.publish('jobs', 'done', { job }, { idempotencyKey: `done:${job}` })

export const app = express()
app.use(sseMiddleware())
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['jobs']))
app.post('/jobs/:job/run', async (req, res) => {
  res.json({ id: await runJob(req.params.job) })
})

if (require.main === module) app.listen(3000)
