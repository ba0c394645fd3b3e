import { type BenchServer, EVENT_STREAM } from './bench-server.ts'

/** The same as `bare-express`, with `node:http` alone. */
export function makeServer(): BenchServer {
  return {
    listener(_req, res) {
      res.writeHead(200, EVENT_STREAM).flushHeaders()
    },
    publish: () => undefined,
  }
}
