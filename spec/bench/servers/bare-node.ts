import { type BenchServer, EVENT_STREAM } from './bench-server.ts'

/** `node:http` with responses that are held open and never written to, as in `bare-express`. */
export function makeServer(): BenchServer {
  return {
    listener(_req, res) {
      res.writeHead(200, EVENT_STREAM).flushHeaders()
    },
    publish: () => undefined,
  }
}
