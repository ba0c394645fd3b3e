import type { Server } from 'node:http'
import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

// A deploy: clients are disconnected one after the other, reconnect at different times, and resume where they were.
//   npx tsx demo/examples/shutdown.ts
//   curl -N localhost:3000/events         (in some terminals; then press Ctrl+C in this one)

const hub = new Hub<{ clock: { tick: number } }>()

export const app = express()
app.use(sseMiddleware())
app.get('/events', (_req, res) => res.sse.subscribe(hub, ['clock']))

/** Ends every stream within `drainMs`, and resolves when the server is closed. */
export async function shutDown(server: Server, drainMs: number): Promise<void> {
  // The server accepts no new connections. Each client still receives events until its own stream ends.
  const closed = new Promise((resolve) => server.close(resolve))
  await hub.close({ drainMs })
  // This ends unused connections that browsers opened in advance, and streams without a subscription.
  server.closeAllConnections()
  await closed
}

if (require.main === module) {
  const server = app.listen(3000)
  const timer = setInterval(() => void hub.publish('clock', 'tick', Date.now()), 1_000)
  process.once('SIGINT', () => {
    void shutDown(server, 5_000).then(() => clearInterval(timer))
  })
}
