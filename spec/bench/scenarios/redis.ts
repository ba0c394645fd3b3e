import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { LatencyOrders } from '../client/latency-process.ts'
import { type ScenarioResult, shown } from '../report/result.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import { Server } from '../support/server.ts'
import { figure, percentile, ratio } from '../support/statistics.ts'
import { Worker } from '../support/worker.ts'

const URL = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const SERVERS = ['redis-hub', 'redis-bare'] as const
const IN_FLIGHT = 100

// This scenario cannot wait for a quiet machine, because Redis is not a process of the bench.

/** Measures the latency and rate of a publish in one process and a delivery from another, compared with hand-written Redis. */
export async function redis(context: BenchContext): Promise<ScenarioResult> {
  const { quick, log } = context
  const samples = new Samples()
  const prefix = `bench-${randomUUID()}`
  const title = 'Redis: published in one process, delivered by another'
  if (!(await isThere())) return { title, method: [`There is no Redis at ${URL}: omitted.`], tables: [], targets: targets(samples) }
  try {
    await interleave(SERVERS, quick ? 1 : 5, async (name, round) => {
      await measureLatency(name, `${prefix}-l${round}`, context, samples)
      await measureRate(name, `${prefix}-r${round}`, context, samples)
      const latest = (key: string): string => samples.of(`${name} ${key}`).at(-1)?.toPrecision(3) ?? ''
      log(`round ${round + 1} ${name}: p50 ${latest('p50')} p99 ${latest('p99')} ms, ${latest('rate')}/s`)
    })
  } finally {
    await deleteKeys(prefix)
  }
  return {
    title,
    method: [
      'Latency is the time from the call of `publish` in one process to the arrival of the bytes in the client process.',
      'The client is connected to the other process.',
      'Events have 200 bytes, and 200 are published a second, one at a time.',
      'The version by hand is `PUBLISH`, the `message` event, and a write to the socket, without a log.',
      `The rate is that of one process with ${IN_FLIGHT} publishes in flight.`,
      'The version by hand pipelines `XADD`, trimmed to about 1,000 entries, and `PUBLISH`.',
      'It has no positions, no ages, and no guaranteed order of the two.',
    ],
    tables: [
      {
        caption: 'Latency and rate',
        columns: ['', ...SERVERS, 'ratio'],
        rows: [
          ['latency p50, ms', 'p50'],
          ['latency p99, ms', 'p99'],
          ['publishes per second', 'rate'],
        ].map(([text = '', key = '']) => [
          text,
          ...SERVERS.map((name) => shown(figure(samples.of(`${name} ${key}`)))),
          shown(against(samples, key), '×'),
        ]),
      },
    ],
    targets: targets(samples),
  }
}

function targets(samples: Samples): ScenarioResult['targets'] {
  const measured = (key: string) => (samples.of(`redis-hub ${key}`).length > 0 ? against(samples, key) : undefined)
  return [
    { text: 'p50 of the latency against Redis by hand', measured: measured('p50'), limit: 1.5, bound: 'most', unit: '×' },
    { text: 'p99 of the latency against Redis by hand', measured: measured('p99'), limit: 1.5, bound: 'most', unit: '×' },
    { text: 'publishes per second against pipelines by hand', measured: measured('rate'), limit: 0.6, bound: 'least', unit: '×' },
  ]
}

function against(samples: Samples, key: string) {
  return ratio(samples.of(`redis-hub ${key}`), samples.of(`redis-bare ${key}`))
}

async function measureLatency(name: (typeof SERVERS)[number], prefix: string, { quick }: BenchContext, samples: Samples): Promise<void> {
  const count = quick ? 200 : 500
  const client = await Worker.start<LatencyOrders>('client/latency-process')
  const servers: Server[] = []
  try {
    const publisher = await Server.start(name, { redisUrl: URL, prefix })
    servers.push(publisher)
    const deliverer = await Server.start(name, { redisUrl: URL, prefix })
    servers.push(deliverer)
    await client.ask('open', { port: deliverer.port })
    await sleep(300)
    const publish = async (turns: number): Promise<number[]> => {
      await publisher.publish({ turns, perTurn: 1, intervalMs: 5, bytes: 200, payload: 'timed' })
      return client.ask('take', { count: turns })
    }
    await publish(100)
    const latencies = await publish(count)
    samples.add(`${name} p50`, percentile(latencies, 50))
    samples.add(`${name} p99`, percentile(latencies, 99))
  } finally {
    await client.stop()
    for (const server of servers) await server.stop()
  }
}

async function measureRate(name: (typeof SERVERS)[number], prefix: string, { quick }: BenchContext, samples: Samples): Promise<void> {
  const server = await Server.start(name, { redisUrl: URL, prefix, stored: true })
  try {
    const order = { count: quick ? 5_000 : 20_000, inFlight: IN_FLIGHT, bytes: 200 }
    await server.flood({ ...order, count: 5_000 })
    samples.add(`${name} rate`, (order.count * 1_000) / (await server.flood(order)))
  } finally {
    await server.stop()
  }
}

async function isThere(): Promise<boolean> {
  const client = new Redis(URL, { lazyConnect: true, retryStrategy: () => null })
  client.on('error', () => {})
  try {
    await client.connect()
    return true
  } catch {
    return false
  } finally {
    client.disconnect()
  }
}

async function deleteKeys(prefix: string): Promise<void> {
  const client = new Redis(URL)
  try {
    for await (const keys of client.scanStream({ match: `{${prefix}*`, count: 1_000 })) {
      if ((keys as string[]).length > 0) await client.unlink(...(keys as string[]))
    }
  } finally {
    client.disconnect()
  }
}
