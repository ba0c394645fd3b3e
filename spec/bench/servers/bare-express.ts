import express from 'express'
import { type BenchServer, EVENT_STREAM } from './bench-server.ts'

/** Express with responses that are held open and never written to. It shows the cost of a bare connection. */
export function makeServer(): BenchServer {
  const app = express()
  app.get('/events', (_req, res) => {
    res.set(EVENT_STREAM).flushHeaders()
  })
  return { listener: app, publish: () => undefined }
}
