import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// A job in the background that reads what is published, one event at a time, and never misses one without being told.
//   npx tsx demo/examples/worker.ts
//   curl -N localhost:3000/events
//   curl -X POST localhost:3000/words/hello

const hub = new Hub<{ words: { said: string }; totals: { count: number } }>()

/** Counts letters. What is published while it is busy waits in the log; `lastEventId` is where it would go on. */
export async function countLetters(signal: AbortSignal): Promise<void> {
  let letters = 0
  for await (const item of hub.events(['words'], { signal })) {
    if (item.event === 'stream-reset') {
      console.warn(`words were lost (${item.data.reason}): count them again from the start`)
    } else {
      letters += item.data.length
      await hub.publish('totals', 'count', letters)
    }
  }
}

export const app = express()
app.use(sseMiddleware())
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['totals'], { rewind: 1 }))
app.post('/words/:word', async (req, res) => {
  res.json({ id: await hub.publish('words', 'said', req.params.word) })
})

if (require.main === module) {
  countLetters(new AbortController().signal).catch((error: unknown) => console.error('the worker stopped:', error))
  app.listen(3000)
}
