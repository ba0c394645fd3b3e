import type { AddressInfo } from 'node:net'
import { Hub, sseMiddleware } from 'express-sse-hub'
import express from 'express'

/** What the parent may ask for. */
export type Order = { publish: { from: number; to: number; bytes: number } } | { report: true }

/** What it is told. */
export type Report = { port: number } | { published: number } | { peakBytes: number; subscribers: number; sends: boolean[] }

// A server in a process of its own, so that its memory can be measured.
const hub = new Hub()
const app = express()
const sends: boolean[] = []
app.use(sseMiddleware({ stallTimeoutMs: 1_000 }))
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['a']))
app.get('/direct', async (_req, res) => {
  // A writer that awaits a client which does not read.
  while (await res.sse.send('x'.repeat(100_000)));
  sends.push(false)
})

function tell(report: Report): void {
  process.send?.(report)
}

const server = app.listen(0, '127.0.0.1', () => tell({ port: (server.address() as AddressInfo).port }))

process.on('message', (order: Order) => {
  if ('publish' in order) {
    const { from, to, bytes } = order.publish
    const filler = 'x'.repeat(bytes)
    for (let n = from; n <= to; n++) void hub.publish('a', 'item', `${String(n).padStart(8, '0')} ${filler}`)
    tell({ published: to })
  } else {
    tell({ peakBytes: process.resourceUsage().maxRSS * 1_024, subscribers: hub.channel('a').subscriberCount, sends })
  }
})
process.on('disconnect', () => process.exit())
