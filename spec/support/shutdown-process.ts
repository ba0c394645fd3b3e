import type { AddressInfo } from 'node:net'
import type express from 'express'
import { Hub, SseError, sseMiddleware } from 'express-sse-hub'

/** Says which of its streams have closed, and shuts down when it is told to: what is published then comes too late. */
function main(factory: typeof express): void {
  const onError = (error: unknown, { where }: { readonly where: string }): void =>
    console.log(`${where}: ${error instanceof SseError ? error.code : String(error)}`)
  const hub = new Hub({ onError })
  const app = factory()
  app.use(sseMiddleware({ onError }))
  app.get('/events', (_req, res) => {
    // oxlint-disable-next-line typescript/no-misused-promises -- that is what it is about
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
