import cluster from 'node:cluster'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { Hub, MemoryBackplane, sseMiddleware, SseError } from '../../lib/index.ts'

/**
 * A process of its own that prints the codes of what its hub reports, one a line, then `done`. Its argument says what it is:
 * `cluster` (a worker does it), or `alone`, with `memory` for a hub that has a MemoryBackplane.
 */
const [how = '', backplane = ''] = process.argv.slice(2)

async function run(): Promise<void> {
  const hub = new Hub({
    ...(backplane === 'memory' ? { backplane: new MemoryBackplane() } : {}),
    onError: (error, { where }) => console.log(where, error instanceof SseError ? error.code : String(error)),
  })
  const app = express()
  app.use(sseMiddleware())
  app.get('/', (_req, res) => res.sse.subscribe(hub, 'a'))
  const server = app.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  for (let n = 0; n < 3; n++) {
    const { port } = server.address() as AddressInfo
    const response = await new Promise<http.IncomingMessage>((resolve) => http.get({ port, host: '127.0.0.1', agent: false }, resolve))
    response.destroy()
  }
  console.log('done')
  process.exit(0)
}

if (how === 'cluster' && cluster.isPrimary) cluster.fork()
else void run()
