import { setTimeout as sleep } from 'node:timers/promises'
import { obey } from '../support/orders.ts'
import { Subscriber } from './subscriber.ts'

/** Connections to open. */
export interface ConnectOrder {
  readonly port: number
  readonly path: string
  readonly headers?: readonly string[]
  /** The channels of each connection, of which there are as many. They are asked for by `?c=` when `named`. */
  readonly channels: readonly (readonly number[])[]
  readonly named?: boolean
  /** The place of the first event that each is due, of every channel. 0 unless given. */
  readonly from?: number
  /** How many may be on their way at the same time. */
  readonly window: number
  /** Whether they read on after the head of the answer. */
  readonly reads?: boolean
  /** Whether bytes are only counted, as of a compressed stream. */
  readonly opaque?: boolean
}

export interface LoadReport {
  /** Events that arrived. */
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

/** How long the last of the events may take to arrive. */
const REACH_TIMEOUT_MS = 60_000
const subscribers: Subscriber[] = []
/** Reads of all sockets land here one after the other, because each is looked through before the next. */
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

/** Settles when every subscriber has everything. */
async function reach({ published }: { readonly published: readonly number[] }): Promise<LoadReport> {
  const end = performance.now() + REACH_TIMEOUT_MS
  for (const subscriber of subscribers) {
    while (!subscriber.has(published)) {
      if (performance.now() > end) {
        throw new Error(`a subscriber did not get everything in ${REACH_TIMEOUT_MS} ms: ${subscriber.describe(published)}`)
      }
      await sleep(2)
    }
  }
  // Nothing may come twice or beyond: who has more than was published says so too.
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
