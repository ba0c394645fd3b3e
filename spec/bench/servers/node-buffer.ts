import type { ServerResponse } from 'node:http'
import { type BenchServer, EVENT_STREAM } from './bench-server.ts'

/** Plain `node:http`. It encodes each event once, and writes it separately to each response. */
export function makeServer(): BenchServer {
  const responses = new Set<ServerResponse>()
  let id = 0
  return {
    listener(_req, res) {
      res.writeHead(200, EVENT_STREAM).flushHeaders()
      responses.add(res)
      res.on('close', () => responses.delete(res))
    },
    publish(events) {
      for (const { data } of events) {
        const chunk = Buffer.from(`id: ${++id}\ndata: ${JSON.stringify(data)}\n\n`)
        for (const res of responses) res.write(chunk)
      }
    },
  }
}
