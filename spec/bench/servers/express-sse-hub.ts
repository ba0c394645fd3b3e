import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'
import { type BenchServer, channelsOf, type ServerOptions } from './bench-server.ts'

const NAMES = Array.from({ length: 10_000 }, (_, channel) => `bench-${channel}`)

/**
 * The hub delivers after the publish, in slices. A turn of the bench ends when every event is delivered, or when nothing
 * was delivered for this number of turns of the event loop.
 */
const IDLE_TURNS = 3

/** This package, used as in its README, with the defaults of the hub. */
export function makeServer({ stallTimeoutMs, compress }: ServerOptions): BenchServer {
  const hub = new Hub()
  const app = express().use(sseMiddleware({ stallTimeoutMs, compress }))
  app.get('/events', (req, res) =>
    res.sse.subscribe(
      hub,
      channelsOf(req.url).map((channel) => NAMES[channel] ?? ''),
    ),
  )
  app.get('/ping', (_req, res) => {
    res.send('pong')
  })
  return {
    listener: app,
    publish: async (events) => {
      const { delivered } = hub.stats()
      const due = events.reduce((sum, { channel }) => sum + hub.channel(NAMES[channel] ?? '').subscriberCount, delivered)
      const ids = await Promise.all(events.map(({ channel, data }) => hub.publish(NAMES[channel] ?? '', 'message', data)))
      for (let idle = 0, before = delivered; idle < IDLE_TURNS && before < due; idle++) {
        await new Promise((resolve) => setImmediate(resolve))
        const now = hub.stats().delivered
        if (now > before) idle = 0
        before = now
      }
      return ids.at(-1)
    },
  }
}
