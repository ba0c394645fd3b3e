import { once } from 'node:events'
import http, { type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type express from 'express'
import type { Response } from 'express'
import { SseError, sseMiddleware } from 'express-sse-hub'
import { type CallParts, REJECTING_CALLS } from './rejecting-calls.ts'

/** Result of a call whose promise was used in one way. */
export interface Outcome {
  readonly call: string
  readonly way: string
  /** Calls of `onError`. */
  readonly reports: readonly (readonly [where: string, error: string])[]
  /** Errors that the handlers of the rejection received. */
  readonly seen: readonly string[]
}

type Use = (promise: Promise<unknown>, see: (error: unknown) => void) => unknown

const nothing = (): void => {}

/** Ways to use a promise that leave its rejection unhandled. */
export const UNOBSERVED_WAYS: Readonly<Record<string, Use>> = {
  'not used at all': nothing,
  '.then(f) alone': (promise) => promise.then(nothing),
  '.finally(f) alone': (promise) => promise.finally(nothing),
  '.then(f).finally(f)': (promise) => promise.then(nothing).finally(nothing),
  '.finally(f).then(f)': (promise) => promise.finally(nothing).then(nothing),
  '.catch() without a function': (promise) => promise.catch(undefined),
  '.then(f) alone, twice': (promise) => [promise.then(nothing), promise.then(nothing)],
}

/** Ways to use a promise that handle its rejection. */
export const OBSERVED_WAYS: Readonly<Record<string, Use>> = {
  await: async (promise, see) => {
    try {
      await promise
    } catch (error) {
      see(error)
    }
  },
  '.catch(f)': (promise, see) => promise.catch(see),
  '.then(f, f)': (promise, see) => promise.then(nothing, see),
  '.then(f).catch(f)': (promise, see) => promise.then(nothing).catch(see),
  '.finally(f).catch(f)': (promise, see) => promise.finally(nothing).catch(see),
  'Promise.all': (promise, see) => Promise.all([Promise.resolve(1), promise]).catch(see),
  'Promise.race': (promise, see) => Promise.race([promise, new Promise(nothing)]).catch(see),
  'Promise.allSettled': async (promise, see) => {
    for (const result of await Promise.allSettled([promise])) if (result.status === 'rejected') see(result.reason)
  },
  'returned by an async function': (promise, see) => (async () => promise)().catch(see),
}

/** Handles the rejection after it was reported. */
export const LATE_WAY = '.catch(f) after it was reported'

/** Makes every call, and uses its promise in every way, in a process that crashes on an unhandled rejection. */
async function main(factory: typeof express): Promise<void> {
  const responses: Response[] = []
  const reports: [where: string, error: string][] = []
  const onError: CallParts['onError'] = (error, { where }) => void reports.push([where, textOf(error)])
  const app = factory()
  app.use(sseMiddleware({ onError }))
  app.get('/', (_req, res) => {
    res.sse.open()
    responses.push(res)
  })
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  for (const { name, prepare } of REJECTING_CALLS) {
    for (const [way, use] of [...Object.entries(UNOBSERVED_WAYS), ...Object.entries(OBSERVED_WAYS), [LATE_WAY, nothing] as const]) {
      const client = await get(server)
      const res = responses.pop() as Response
      const call = await prepare({ onError, stream: res.sse })
      const seen: string[] = []
      const see = (error: unknown): void => void seen.push(textOf(error))
      const promise = call()
      void use(promise, see)
      // An unhandled rejection is reported within a few turns of the event loop. 12 turns are more than enough.
      for (let n = 0; n < 12; n++) await nextTurn()
      if (way === LATE_WAY) await promise.catch(see)
      console.log(JSON.stringify({ call: name, way, reports: reports.splice(0), seen } satisfies Outcome))
      client.destroy()
    }
  }
  server.close()
  server.closeAllConnections()
}

function get(server: Server): Promise<http.ClientRequest> {
  const { port } = server.address() as AddressInfo
  return new Promise((resolve, reject) => {
    const request = http.get({ port, host: '127.0.0.1', agent: false }, (response) => {
      response.on('error', nothing).resume()
      resolve(request)
    })
    request.on('error', reject)
  })
}

function textOf(error: unknown): string {
  return error instanceof SseError ? error.code : (error as Error).message
}

if (require.main === module) void main(require(process.argv[2] ?? 'express') as typeof express)
