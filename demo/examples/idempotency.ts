import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// A job queue repeats a job if it does not know that the job ended. The job's events must not arrive twice.
//   npx tsx demo/examples/idempotency.ts
//   curl -N localhost:3000/events
//   curl -X POST localhost:3000/jobs/7/run          (twice: the same id both times, and one event)

const hub = new Hub<{ jobs: { done: { job: string } } }>()

/** Called by the queue, perhaps more than once for the same job. */
const runJob = (job: string): Promise<string> => hub.publish('jobs', 'done', { job }, { idempotencyKey: `done:${job}` })

export const app = express()
app.use(sseMiddleware())
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['jobs']))
app.post('/jobs/:job/run', async (req, res) => {
  res.json({ id: await runJob(req.params.job) })
})

if (require.main === module) app.listen(3000)
