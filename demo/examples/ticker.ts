import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// Prices change faster than some clients read. A client that is behind receives the newest price of each symbol, and skips the others.
//   npx tsx demo/examples/ticker.ts
//   curl -N localhost:3000/events
//   curl -X POST localhost:3000/prices/ACME/12.5

const hub = new Hub<{ prices: { price: { symbol: string; price: number } } }>({ replay: { latestPerKey: true } })

export const app = express()
app.use(sseMiddleware())
// A new page begins with the newest price of each symbol in the log: of those that changed in the last five minutes. If a page
// needs all symbols, use a snapshot.
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['prices'], { rewind: 1_000 }))
app.post('/prices/:symbol/:price', async (req, res) => {
  const { symbol, price } = req.params
  res.json({ id: await hub.publish('prices', 'price', { symbol, price: Number(price) }, { key: symbol }) })
})

if (require.main === module) app.listen(3000)
