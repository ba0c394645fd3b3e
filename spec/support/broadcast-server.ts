import type { AddressInfo } from 'node:net'
import { Hub, sseMiddleware } from 'express-sse-hub'
import express from 'express'

/** A message from the parent process. */
export type Order = { publish: { from: number; to: number; bytes: number } } | { report: true }

/** An answer to the parent process. */
export type Report = { port: number } | { published: number } | { peakBytes: number; subscribers: number; sends: boolean[] }

// The server runs in a process of its own, so that the parent can measure its memory.
const hub = new Hub()
const app = express()
const sends: boolean[] = []
app.use(sseMiddleware({ stallTimeoutMs: 1_000 }))
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['a']))
app.get('/direct', async (_req, res) => {
  // Every send is awaited, and the client does not read.
  while (await res.sse.send('x'.repeat(100_000)));
  sends.push(false)
})

function report(message: Report): void {
  process.send?.(message)
}

const server = app.listen(0, '127.0.0.1', () => report({ port: (server.address() as AddressInfo).port }))

process.on('message', (order: Order) => {
  if ('publish' in order) {
    const { from, to, bytes } = order.publish
    const filler = 'x'.repeat(bytes)
    for (let n = from; n <= to; n++) void hub.publish('a', 'item', `${String(n).padStart(8, '0')} ${filler}`)
    report({ published: to })
  } else {
    report({ peakBytes: process.resourceUsage().maxRSS * 1_024, subscribers: hub.channel('a').subscriberCount, sends })
  }
})
process.on('disconnect', () => process.exit())
