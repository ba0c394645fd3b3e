import cluster from 'node:cluster'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { Hub, MemoryBackplane, sseMiddleware, SseError } from '../../lib/index.ts'

/**
 * Runs in a process of its own. The first argument is `cluster`, to use a worker of a cluster, or `alone`. For each further
 * argument it makes a hub, subscribes three clients, and prints the reports of the hub as a line of JSON. These arguments
 * list special conditions: `memory` (the hub has a MemoryBackplane) and `pm2` (the process appears to be started by pm2).
 */
const [how = '', ...hubs] = process.argv.slice(2)

async function reports(special: string): Promise<string[]> {
  if (special.includes('pm2')) process.env['pm_id'] = '0'
  else delete process.env['pm_id']
  const reported: string[] = []
  const hub = new Hub({
    ...(special.includes('memory') ? { backplane: new MemoryBackplane() } : {}),
    onError: (error, { where }) => void reported.push(`${where} ${error instanceof SseError ? error.code : String(error)}`),
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
  return reported
}

async function run(): Promise<void> {
  for (const special of hubs) console.log(JSON.stringify(await reports(special)))
  process.exit(0)
}

if (how === 'cluster' && cluster.isPrimary) cluster.fork()
else void run()
