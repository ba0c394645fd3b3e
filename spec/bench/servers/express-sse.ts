import express from 'express'
import SSE from 'express-sse'
import type { BenchServer } from './bench-server.ts'

/** The package express-sse, used as in its README. */
export function makeServer(): BenchServer {
  const sse = new SSE()
  const app = express()
  app.get('/events', (req, res) => sse.init(req, res))
  return {
    listener: app,
    publish(events) {
      for (const { data } of events) sse.send(data)
    },
  }
}
