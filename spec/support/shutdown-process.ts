import type { AddressInfo } from 'node:net'
import type express from 'express'
import { Hub, SseError, sseMiddleware } from 'express-sse-hub'

/** Publishes whenever a stream closes, and shuts down gracefully on SIGTERM, after which these publishes are too late. */
function main(factory: typeof express): void {
  const onError = (error: unknown, { where }: { readonly where: string }): void =>
    console.log(`${where}: ${error instanceof SseError ? error.code : String(error)}`)
  const hub = new Hub({ onError })
  const app = factory()
  app.use(sseMiddleware({ onError }))
  app.get('/events', (_req, res) => {
    // oxlint-disable-next-line typescript/no-misused-promises -- this is the case under test
    res.on('close', () => hub.publish('presence', 'left', { at: Date.now() }))
    void res.sse.subscribe(hub, 'presence')
  })
  const server = app.listen(0, '127.0.0.1', () => console.log(`listening on ${(server.address() as AddressInfo).port}`))
  process.once('SIGTERM', () => {
    void hub.close().then(() => console.log('the hub is closed'))
    server.close(() => console.log('the server is closed'))
  })
}

main(require(process.argv[2] ?? 'express') as typeof express)
