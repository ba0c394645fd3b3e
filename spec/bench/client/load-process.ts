import { setTimeout as sleep } from 'node:timers/promises'
import { obey } from '../support/orders.ts'
import { Subscriber } from './subscriber.ts'

/** An order to open connections. */
export interface ConnectOrder {
  readonly port: number
  readonly path: string
  readonly headers?: readonly string[]
  /** Channels of each connection. */
  readonly channels: readonly (readonly number[])[]
  /** If true, clients name their channels in the query `?c=`. */
  readonly named?: boolean
  /** Index of the first event that each connection expects, in every channel. Default: 0. */
  readonly from?: number
  /** Limit of the connections that are being opened at the same time. */
  readonly window: number
  /** If false, clients stop reading after the head of the answer. */
  readonly reads?: boolean
  /** If true, clients only count bytes, as of a compressed stream. */
  readonly opaque?: boolean
}

export interface LoadReport {
  /** Number of received events. */
  readonly deliveries: number
  readonly bytes: number
  /** CPU seconds of this process. */
  readonly cpu: number
}

export type LoadOrders = {
  connect: (order: ConnectOrder) => Promise<void>
  reach: (input: { readonly published: readonly number[] }) => Promise<LoadReport>
  report: () => LoadReport
  close: () => Promise<void>
}

/** Time limit for the arrival of the last event. */
const REACH_TIMEOUT_MS = 60_000
const subscribers: Subscriber[] = []
/** Read buffer of all sockets. They can share it, because each read is scanned before the next. */
const shared = Buffer.allocUnsafeSlow(262_144)
let opened = 0

async function connect(order: ConnectOrder): Promise<void> {
  const queue = order.channels.map((channels) => ({ channels, number: opened++ }))
  const openNext = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const subscriber = new Subscriber(next.channels, order, next.number, shared)
      subscribers.push(subscriber)
      await subscriber.open()
    }
  }
  await Promise.all(Array.from({ length: order.window }, openNext))
}

/** Resolves when every subscriber has received every event. */
async function reach({ published }: { readonly published: readonly number[] }): Promise<LoadReport> {
  const end = performance.now() + REACH_TIMEOUT_MS
  for (const subscriber of subscribers) {
    while (!subscriber.has(published)) {
      if (performance.now() > end) {
        throw new Error(`a subscriber did not receive every event in ${REACH_TIMEOUT_MS} ms: ${subscriber.describe(published)}`)
      }
      await sleep(2)
    }
  }
  // The report also fails if a subscriber has received an event twice, or more events than were published.
  return report()
}

function report(): LoadReport {
  for (const { violation } of subscribers) {
    if (violation !== '') throw new Error(`VIOLATION: ${violation}`)
  }
  const { user, system } = process.cpuUsage()
  return {
    deliveries: subscribers.reduce((sum, { deliveries }) => sum + deliveries, 0),
    bytes: subscribers.reduce((sum, { bytes }) => sum + bytes, 0),
    cpu: (user + system) / 1e6,
  }
}

async function close(): Promise<void> {
  for (const subscriber of subscribers.splice(0)) subscriber.close()
  await sleep(0)
}

obey({ connect, reach, report, close } satisfies LoadOrders)
