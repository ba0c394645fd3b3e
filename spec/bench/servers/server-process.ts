import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { randomFrom } from '../../support/random.ts'
import { obey } from '../support/orders.ts'
import { sequenceNumber } from '../support/sequence.ts'
import type { BenchEvent, BenchServer, MakeServer, ServerOptions } from './bench-server.ts'
import { filler, orders, timed } from './payload.ts'

/** An order to publish events in turns of the event loop. */
export interface PublishOrder {
  readonly turns: number
  readonly perTurn: number
  /** Interval between the starts of turns. A turn waits for the end of the previous turn. */
  readonly intervalMs: number
  readonly bytes: number
  readonly payload?: 'filler' | 'orders' | 'timed'
  /** Number of channels, and the distribution of the events over them. Default: 1. */
  readonly channels?: number
  readonly spread?: 'in-turn' | 'random'
}

/** An order to publish single events, with a fixed number in flight. */
export interface FloodOrder {
  readonly count: number
  readonly inFlight: number
  readonly bytes: number
}

export interface PublishReport {
  /** Number of events of each channel since the start of the process. */
  readonly published: number[]
  readonly lastId: string
  readonly ms: number
}

/** Memory of the process in bytes, and the delay of its event loop in milliseconds since the last report. */
export interface ServerReport {
  readonly rss: number
  readonly peakRss: number
  readonly heapUsed: number
  readonly external: number
  readonly arrayBuffers: number
  readonly delayP50Ms: number
  readonly delayP99Ms: number
  readonly delayMaxMs: number
}

export type ServerOrders = {
  listen: () => Promise<number>
  publish: (order: PublishOrder) => Promise<PublishReport>
  flood: (order: FloodOrder) => Promise<number>
  report: (input: { readonly collect: boolean }) => Promise<ServerReport>
}

/** Limit of the connections that wait to be accepted. */
const BACKLOG = 4_096
const PAYLOADS = { filler, orders, timed }
const [, , name = '', options = '{}'] = process.argv
const delay = monitorEventLoopDelay({ resolution: 1 })
const published: number[] = []
let bench: BenchServer | undefined
let nextChannel = 0

async function listen(): Promise<number> {
  const { makeServer } = require(`./${name}.js`) as { readonly makeServer: MakeServer }
  bench = await makeServer(JSON.parse(options) as ServerOptions)
  const server = http.createServer(bench.listener)
  // With a timeout, a server that is blocked for longer would cut off other requests.
  server.keepAliveTimeout = 0
  await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1', backlog: BACKLOG }, resolve))
  return (server.address() as AddressInfo).port
}

async function publish({
  turns,
  perTurn,
  intervalMs,
  bytes,
  payload = 'filler',
  channels = 1,
  spread = 'in-turn',
}: PublishOrder): Promise<PublishReport> {
  const random = randomFrom(1)
  const makeData = PAYLOADS[payload](bytes)
  for (let channel = published.length; channel < channels; channel++) published.push(0)
  const start = performance.now()
  let lastId: unknown
  for (let turn = 0; turn < turns; turn++) {
    await untilTime(start + turn * intervalMs)
    const events: BenchEvent[] = []
    for (let n = 0; n < perTurn; n++) {
      const channel = spread === 'random' ? Math.floor(random() * channels) : nextChannel++ % channels
      const index = published[channel] ?? 0
      published[channel] = index + 1
      events.push({ channel, data: makeData(sequenceNumber(channel, index)) })
    }
    lastId = await bench?.publish(events)
  }
  return { published, lastId: String(lastId), ms: performance.now() - start }
}

/** Returns the time that it took, in milliseconds. */
async function flood({ count, inFlight, bytes }: FloodOrder): Promise<number> {
  const makeData = filler(bytes)
  const start = performance.now()
  let next = 0
  const publishOn = async (): Promise<void> => {
    while (next < count) await bench?.publish([{ channel: 0, data: makeData(sequenceNumber(0, next++)) }])
  }
  await Promise.all(Array.from({ length: inFlight }, publishOn))
  return performance.now() - start
}

/** Waits until a time, and for at least one turn of the event loop. */
async function untilTime(time: number): Promise<void> {
  const ms = time - performance.now()
  if (ms >= 1) await sleep(ms)
  else await new Promise((resolve) => setImmediate(resolve))
}

async function report({ collect }: { readonly collect: boolean }): Promise<ServerReport> {
  if (collect) {
    global.gc?.()
    await sleep(20)
    global.gc?.()
    await sleep(20)
  }
  const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage()
  const [delayP50Ms, delayP99Ms, delayMaxMs] = [delay.percentile(50) / 1e6, delay.percentile(99) / 1e6, delay.max / 1e6]
  delay.disable()
  delay.reset()
  delay.enable()
  return { rss, peakRss: process.resourceUsage().maxRSS * 1_024, heapUsed, external, arrayBuffers, delayP50Ms, delayP99Ms, delayMaxMs }
}

obey({ listen, publish, flood, report } satisfies ServerOrders)
