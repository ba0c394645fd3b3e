import path from 'node:path'
import express from 'express'
import { type BroadcastOptions, createBroadcast } from './broadcast.ts'
import { redisOptionsFrom } from './jobs/jobs-hub.ts'
import { createJobs, type JobsOptions } from './jobs/jobs-router.ts'
import { createMachine, type MachineOptions } from './machine.ts'
import { createMetrics } from './metrics.ts'

const PAGES = path.join(__dirname, 'pages')

/** The demo: an index, a router for each page, and the metrics of their hubs. `stop` ends all streams and all background work. */
export function createDemo(options: BroadcastOptions & MachineOptions & JobsOptions = {}) {
  const pages = { broadcast: createBroadcast(options), machine: createMachine(options), jobs: createJobs(options) }
  const hubs = { broadcast: pages.broadcast.hub, machine: pages.machine.hub, jobs: pages.jobs.hub }
  const app = express()
  app.use(express.static(PAGES, { extensions: ['html'] }))
  // Browsers ask for it beside answers that are not HTML, such as the metrics.
  app.get('/favicon.ico', (_req, res) => res.sendFile(path.join(PAGES, 'icon.svg')))
  for (const [name, { router }] of Object.entries(pages)) app.use(`/${name}`, router)
  app.use('/metrics', createMetrics(hubs).router)
  return {
    app,
    hubs,
    stop: async () => {
      await Promise.all(Object.values(pages).map((page) => page.stop()))
    },
  }
}

if (require.main === module) {
  const { app, stop } = createDemo(redisOptionsFrom(process.env))
  const server = app.listen(Number(process.env['PORT'] ?? 3000), '127.0.0.1', (error) => {
    if (error) throw error
    const address = server.address()
    console.log(`The demo is at http://localhost:${typeof address === 'object' ? address?.port : address}`)
  })
  const shutDown = async (): Promise<void> => {
    // The hubs close first, because a server does not close while a stream is open.
    await stop()
    server.close()
    // Browsers open connections in advance, and the server would wait for the unused ones.
    setTimeout(() => server.closeAllConnections(), 1_000).unref()
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void shutDown())
}
