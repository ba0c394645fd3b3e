import express, { type Response } from 'express'
import { type BenchServer, EVENT_STREAM } from './bench-server.ts'

/** Express as in tutorials. It encodes and writes every event for every client. */
export function makeServer(): BenchServer {
  const responses = new Set<Response>()
  let id = 0
  const app = express()
  app.get('/events', (_req, res) => {
    res.set(EVENT_STREAM).flushHeaders()
    responses.add(res)
    res.on('close', () => responses.delete(res))
  })
  return {
    listener: app,
    publish(events) {
      for (const { data } of events) {
        id++
        for (const res of responses) res.write(`id: ${id}\ndata: ${JSON.stringify(data)}\n\n`)
      }
    },
  }
}
