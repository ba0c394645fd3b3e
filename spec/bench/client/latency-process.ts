import net from 'node:net'
import { obey } from '../support/orders.ts'

export type LatencyOrders = {
  open: (input: { readonly port: number }) => Promise<void>
  /** Resolves when `count` events have arrived since the last call, to the milliseconds from their publish to their arrival. */
  take: (input: { readonly count: number }) => Promise<number[]>
}

const STAMP = /"seq":(\d{12}),"at":"(\d{16})"/g
let latencies: number[] = []
let last = -1
let text = ''

async function open({ port }: { readonly port: number }): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
    socket.write('GET /events HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n')
    socket.on('error', reject)
    socket.on('data', (data) => {
      resolve()
      // All processes of the machine share this clock.
      const now = Number(process.hrtime.bigint() / 1_000n)
      text += data.toString('latin1')
      let end = 0
      for (const match of text.matchAll(STAMP)) {
        latencies.push((now - Number(match[2])) / 1_000)
        const sequence = Number(match[1])
        if (last !== -1 && sequence !== last + 1) throw new Error(`VIOLATION: event ${sequence} arrived after ${last}`)
        last = sequence
        end = match.index + match[0].length
      }
      // An event may arrive in parts.
      text = text.slice(Math.max(end, text.length - 100))
    })
  })
}

async function take({ count }: { readonly count: number }): Promise<number[]> {
  const end = performance.now() + 30_000
  while (latencies.length < count) {
    if (performance.now() > end) throw new Error(`${latencies.length} of ${count} events arrived`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  const taken = latencies
  latencies = []
  if (taken.length > count) throw new Error(`VIOLATION: ${taken.length} events arrived instead of ${count}`)
  return taken
}

obey({ open, take } satisfies LatencyOrders)
