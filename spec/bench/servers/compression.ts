import compression from 'compression'
import express, { type Response } from 'express'
import type { BenchServer } from './bench-server.ts'

/** Express with the middleware `compression`, flushed after every event. */
export function makeServer(): BenchServer {
  const responses = new Set<Response>()
  let id = 0
  const app = express().use(compression())
  app.get('/events', (_req, res) => {
    // `no-transform` would prevent compression.
    res.set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' }).flushHeaders()
    responses.add(res)
    res.on('close', () => responses.delete(res))
  })
  return {
    listener: app,
    publish(events) {
      for (const { data } of events) {
        const chunk = Buffer.from(`id: ${++id}\ndata: ${JSON.stringify(data)}\n\n`)
        for (const res of responses) {
          res.write(chunk)
          res.flush()
        }
      }
    },
  }
}
