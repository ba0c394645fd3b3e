import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// Background work that reads events one at a time. If events were lost, it receives a stream-reset.
//   npx tsx demo/examples/count-letters.ts
//   curl -N localhost:3000/events
//   curl -X POST localhost:3000/words/hello

const hub = new Hub<{ words: { said: string }; totals: { count: number } }>()

/** Counts letters. Events that are published while it is busy wait in the log. */
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
