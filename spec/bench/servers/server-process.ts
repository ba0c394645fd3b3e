import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { randomFrom } from '../../support/random.ts'
import { obey } from '../support/orders.ts'
import { sequenceNumber } from '../support/sequence.ts'
import type { BenchEvent, BenchServer, MakeServer, ServerOptions } from './bench-server.ts'
import { filler, orders, timed } from './payload.ts'

/** Turns of the event loop with events in each. */
export interface PublishOrder {
  readonly turns: number
  readonly perTurn: number
  /** A turn begins so long after the one before, or when that is done. */
  readonly intervalMs: number
  readonly bytes: number
  readonly payload?: 'filler' | 'orders' | 'timed'
  /** How many channels the events go to, 1 unless given, and how they are spread over them. */
  readonly channels?: number
  readonly spread?: 'in-turn' | 'random'
}

/** Single events, so many of them in flight at any time. */
export interface FloodOrder {
  readonly count: number
  readonly inFlight: number
  readonly bytes: number
}

export interface PublishReport {
  /** How many events each channel was given since the process began. */
  readonly published: number[]
  readonly lastId: string
  readonly ms: number
}

/** The memory of the process in bytes, and the delay of its event loop in milliseconds since it was last asked. */
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

/** How many connections may wait to be accepted. */
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
  // A server that stands still for longer than this would cut off whoever asks it something else meanwhile.
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
      const place = published[channel] ?? 0
      published[channel] = place + 1
      events.push({ channel, data: makeData(sequenceNumber(channel, place)) })
    }
    lastId = await bench?.publish(events)
  }
  return { published, lastId: String(lastId), ms: performance.now() - start }
}

/** Gives how many milliseconds it took. */
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

/** At least one turn of the event loop passes. */
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
