import { createChannel, createSession } from 'better-sse'
import express from 'express'
import type { BenchServer } from './bench-server.ts'

/** The package better-sse, used as in its README. */
export function makeServer(): BenchServer {
  const channel = createChannel()
  const app = express()
  app.get('/events', async (req, res) => {
    const session = await createSession(req, res)
    channel.register(session)
  })
  app.get('/ping', (_req, res) => {
    res.send('pong')
  })
  return {
    listener: app,
    publish(events) {
      for (const { data } of events) channel.broadcast(data, 'message')
    },
  }
}
