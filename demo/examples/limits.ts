import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// An upper limit for what streams cost, however many clients connect and however slowly they read.
//   npx tsx demo/examples/limits.ts
//   curl -N localhost:3000/events/ann          (three of them: the third receives a retry of 10 to 30 s)
//   curl -i -H 'accept: text/html' localhost:3000/events/ann          (503 and Retry-After)

const hub = new Hub<{ news: { item: string } }>({
  maxSubscribers: 10_000,
  maxSubscribersPerOwner: 2,
  // Each log is bounded by count, age and bytes of encoded events. All logs together are bounded by bytes.
  replay: { maxEvents: 500, maxAgeMs: 60_000, maxBytes: 256 * 1_024 },
  maxTotalBytes: 64 * 1_024 * 1_024,
})

export const app = express()
// A client that takes no byte for stallTimeoutMs is disconnected. Until then it costs a position in the log, not a copy of the events.
app.use(sseMiddleware({ stallTimeoutMs: 10_000, maxQueuedBytes: 64 * 1_024 }))
app.get('/events/:user', (req, res) => res.sse.subscribe(hub, ['news'], { owner: req.params.user }))

if (require.main === module) app.listen(3000)
