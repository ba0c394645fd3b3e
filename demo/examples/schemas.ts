import express from 'express'
import { Hub, sseMiddleware, SseError } from 'express-sse-hub'
import * as v from 'valibot'
import { z } from 'zod'

// Schemas that are also the types of the channels: payloads are checked by the compiler and again by publish.
//   npx tsx demo/examples/schemas.ts
//   curl -N localhost:3000/events
//   curl -X POST localhost:3000/orders -H 'content-type: application/json' -d '{"id":"7","total":12}'
//   curl -X POST localhost:3000/orders -H 'content-type: application/json' -d '{"id":"7","total":"much"}'

const hub = new Hub({
  schemas: {
    // Clients receive the output of the schema, which adds a currency here.
    orders: { created: z.object({ id: z.string(), total: z.number(), currency: z.string().default('EUR') }) },
    // A family of channels, with a schema of another library.
    'user:*': { notice: v.object({ text: v.string() }) },
  },
})

export const app = express()
app.use(sseMiddleware(), express.json())
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['orders', 'user:1']))
app.post('/orders', async (req, res) => {
  try {
    await hub.publish('orders', 'created', req.body)
    await hub.publish('user:1', 'notice', { text: 'somebody ordered' })
    res.sendStatus(201)
  } catch (error) {
    // Only the error of a schema has an array of issues. Any other error is a fault of this app.
    if (!(error instanceof SseError) || !Array.isArray(error.cause)) throw error
    res.status(422).json({ error: error.message })
  }
})

if (require.main === module) app.listen(3000)
