import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { obey } from '../support/orders.ts'

export interface PingOrder {
  readonly port: number
  readonly count: number
  readonly intervalMs: number
}

export type PingOrders = { ping: (order: PingOrder) => Promise<number[]> }

const agent = new http.Agent({ keepAlive: true })

/** Sends requests at a fixed pace, even if answers are late, and returns the milliseconds that each took. */
async function ping({ port, count, intervalMs }: PingOrder): Promise<number[]> {
  const start = performance.now()
  const answers: Promise<number>[] = []
  for (let n = 0; n < count; n++) {
    await sleep(start + n * intervalMs - performance.now())
    answers.push(one(port))
  }
  return Promise.all(answers)
}

async function one(port: number): Promise<number> {
  const start = performance.now()
  return new Promise((resolve, reject) => {
    const request = http.get({ port, host: '127.0.0.1', path: '/ping', agent }, (response) => {
      response.resume()
      response.on('end', () => resolve(performance.now() - start))
    })
    request.on('error', reject)
  })
}

obey({ ping } satisfies PingOrders)
