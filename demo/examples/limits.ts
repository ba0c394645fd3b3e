import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// What the streams of this app may cost at most, however many clients come and however slowly they read.
//   npx tsx demo/examples/limits.ts
//   curl -N localhost:3000/events/ann          three of them: the third is told to come back in 10 to 30 s
//   curl -i -H 'accept: text/html' localhost:3000/events/ann          and this gets 503 and Retry-After

const hub = new Hub<{ news: { item: string } }>({
  maxSubscribers: 10_000,
  maxSubscribersPerOwner: 2,
  // Each log by count, age and bytes of encoded events, and all logs together by bytes.
  replay: { maxEvents: 500, maxAgeMs: 60_000, maxBytes: 256 * 1_024 },
  maxTotalBytes: 64 * 1_024 * 1_024,
})

export const app = express()
// A client that takes nothing for so long is destroyed; until then it holds a place in the logs, and no copy of them.
app.use(sseMiddleware({ stallTimeoutMs: 10_000, maxQueuedBytes: 64 * 1_024 }))
app.get('/events/:user', (req, res) => res.sse.subscribe(hub, ['news'], { owner: req.params.user }))

if (require.main === module) app.listen(3000)
