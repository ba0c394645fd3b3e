import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// A board whose page needs no code to fetch its state: it comes first on the stream, and again after events were lost.
//   npx tsx demo/examples/snapshot.ts
//   curl -N localhost:3000/events
//   curl -X POST localhost:3000/tasks/milk

const hub = new Hub<{ tasks: { added: string } }>()
const tasks: string[] = ['bread']

/** Made once, so that all who connect together share one call of it. In a real app it asks the database. */
const snapshot = async () => ({ event: 'tasks', data: tasks })

export const app = express()
app.use(sseMiddleware())
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['tasks'], { snapshot }))
app.post('/tasks/:name', async (req, res) => {
  tasks.push(req.params.name)
  res.json({ id: await hub.publish('tasks', 'added', req.params.name) })
})

if (require.main === module) app.listen(3000)
