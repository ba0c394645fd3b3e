import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// A page that needs no code to fetch its state: the stream begins with the state, and sends it again after events were lost.
//   npx tsx demo/examples/snapshot.ts
//   curl -N localhost:3000/events
//   curl -X PUT localhost:3000/tasks/1/milk

interface Task {
  readonly id: string
  readonly text: string
}

const hub = new Hub<{ tasks: { saved: Task } }>()
const tasks = new Map<string, Task>([['0', { id: '0', text: 'bread' }]])

/** One function for all requests, so that clients that connect together share a call. A real app queries its database here. */
const snapshot = async () => ({ event: 'tasks', data: [...tasks.values()] })

export const app = express()
app.use(sseMiddleware())
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['tasks'], { snapshot }))
app.put('/tasks/:id/:text', async (req, res) => {
  const { id, text } = req.params
  // The state changes before the event is published. The event carries the whole task, so it does no harm if a page has it already.
  tasks.set(id, { id, text })
  res.json({ id: await hub.publish('tasks', 'saved', { id, text }) })
})

if (require.main === module) app.listen(3000)
