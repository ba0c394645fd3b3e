import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'
import { RedisBackplane } from 'express-sse-hub/redis'
import type { BenchServer, ServerOptions } from './bench-server.ts'

/** This package over Redis, in one of several processes. */
export function makeServer({ redisUrl = '', prefix = '' }: ServerOptions): BenchServer {
  const hub = new Hub({ backplane: new RedisBackplane({ url: redisUrl }, { prefix }) })
  const app = express().use(sseMiddleware())
  app.get('/events', (_req, res) => res.sse.subscribe(hub, ['bench']))
  return {
    listener: app,
    publish: async (events) => {
      const ids = await Promise.all(events.map(({ data }) => hub.publish('bench', 'message', data)))
      return ids.at(-1)
    },
  }
}
