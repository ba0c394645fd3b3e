import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// A board whose page needs no code to fetch its state: it comes first on the stream, and again after events were lost.
//   npx tsx demo/examples/snapshot.ts
//   curl -N localhost:3000/events
//   curl -X PUT localhost:3000/tasks/1/milk

interface Task {
  readonly id: string
  readonly text: string
}

const hub = new Hub<{ tasks: { saved: Task } }>()
const tasks = new Map<string, Task>([['0', { id: '0', text: 'bread' }]])

/** Made once, so that all who connect together share one call of it. In a real app it asks the database. */
const snapshot = async () => ({ event: 'tasks', data: [...tasks.values()] })

export const app = express()
app.use(sseMiddleware())
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['tasks'], { snapshot }))
app.put('/tasks/:id/:text', async (req, res) => {
  const { id, text } = req.params
  // The state first, then the event, which says how the task is now: a page that has it already loses nothing by it.
  tasks.set(id, { id, text })
  res.json({ id: await hub.publish('tasks', 'saved', { id, text }) })
})

if (require.main === module) app.listen(3000)
