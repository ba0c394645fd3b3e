import { Router } from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'
import { createSampler, type Sample } from './sampler.ts'

type Channels = { machine: { sample: Sample } }

export interface MachineOptions {
  readonly sampleEveryMs?: number
}

/** The time for which `POST /block` blocks the event loop, to show the effect on its delay. */
const BLOCK_MS = 300

/** Samples this machine in the background. Every open page draws the samples, and a new page begins with the last minute. */
export function createMachine({ sampleEveryMs = 1_000 }: MachineOptions = {}) {
  const hub = new Hub<Channels>({ replay: { maxEvents: 120 } })
  const sampler = createSampler()
  const timer = setInterval(() => void hub.publish('machine', 'sample', sampler.sample()), sampleEveryMs)
  const router = Router()

  router.use(sseMiddleware())
  router.get('/events', (_req, res) => res.sse.subscribe(hub, ['machine'], { rewind: 60 }))

  router.post('/block', (_req, res) => {
    const end = Date.now() + BLOCK_MS
    while (Date.now() < end);
    res.sendStatus(204)
  })

  const stop = async (): Promise<void> => {
    clearInterval(timer)
    sampler.stop()
    await hub.close()
  }
  return { router, hub, stop }
}
