import { Router } from 'express'
import type { Hub } from 'express-sse-hub'
import { Counter, Gauge, Registry } from 'prom-client'

const GAUGES = { channels: 'Channels', subscribers: 'Subscribed streams', logBytes: 'Bytes of events that the logs keep' } as const
const COUNTERS = {
  published: 'Events stored',
  delivered: 'Events delivered to subscribers',
  resets: 'Times that a subscriber received stream-reset',
  stalls: 'Clients disconnected because they stopped reading',
  refusals: 'Streams refused',
} as const

/** Serves the statistics of hubs as Prometheus text. */
export function createMetrics(hubs: Readonly<Record<string, Pick<Hub, 'stats'>>>) {
  const registry = new Registry()
  const router = Router()
  const options = (name: string, help: string) => ({ name, help, labelNames: ['hub'], registers: [registry] })
  const gauges = Object.entries(GAUGES).map(([name, help]) => ({
    name: name as keyof typeof GAUGES,
    metric: new Gauge(options(`sse_hub_${snakeCase(name)}`, help)),
  }))
  const counters = Object.entries(COUNTERS).map(([name, help]) => ({
    name: name as keyof typeof COUNTERS,
    metric: new Counter(options(`sse_hub_${name}_total`, help)),
  }))

  router.get('/', async (_req, res) => {
    for (const { metric } of counters) metric.reset()
    for (const [hub, each] of Object.entries(hubs)) {
      const stats = each.stats()
      for (const { name, metric } of gauges) metric.set({ hub }, stats[name])
      for (const { name, metric } of counters) metric.inc({ hub }, stats[name])
    }
    res.type(registry.contentType).send(await registry.metrics())
  })
  return { router }
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
