import type { NextFunction, Request, Response } from 'express'
import { type ErrorContext, Hub, type SseError, type SseMiddlewareOptions, sseMiddleware, type Subscription } from 'express-sse-hub'
import { TestClient } from '../support/client.ts'
import { DemoProcess, stopDemoProcesses } from '../support/demo-process.ts'
import { turn } from '../support/fake-connection.ts'
import { REJECTING_CALLS } from '../support/rejecting-calls.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'
import { AutonomousEngine } from '../support/autonomous-backplane.ts'
import { LATE_WAY, OBSERVED_WAYS, type Outcome, UNOBSERVED_WAYS } from '../support/unobserved-process.ts'

afterEach(stopServers)

const MODULES = { 'Express 4': 'express4', 'Express 5': 'express' } as Readonly<Record<string, string>>

/** Expects one outcome for every way. */
const forEach = (ways: readonly string[], outcome: Pick<Outcome, 'reports' | 'seen'>) =>
  Object.fromEntries(ways.map((way) => [way, outcome]))

describe.each(EXPRESS_VERSIONS)('on %s', (name, express) => {
  afterAll(stopDemoProcesses)

  describe('in a process that makes rejecting calls,', () => {
    let program: DemoProcess
    beforeAll(async () => {
      program = new DemoProcess('spec/support/unobserved-process.ts', { args: [MODULES[name] as string] })
      await program.over()
    })

    const outcomesOf = (call: string, ways: readonly string[]) => {
      const all = program.output.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as Outcome] : []))
      return Object.fromEntries(all.flatMap(({ call: of, way, ...outcome }) => (of === call && ways.includes(way) ? [[way, outcome]] : [])))
    }

    it('the process runs to its end and exits with code 0', () => {
      expect(program.output).not.toContain('Rejection')
      expect(program.exitCode).toBe(0)
    })

    describe.each(REJECTING_CALLS)('$name', ({ name: call, where, error }) => {
      it('is reported once if nothing handles the rejection', () => {
        const ways = Object.keys(UNOBSERVED_WAYS)
        expect(outcomesOf(call, ways)).toEqual(forEach(ways, { reports: [[where, error]], seen: [] }))
      })

      it('rejects and is not reported if a handler is attached', () => {
        const ways = Object.keys(OBSERVED_WAYS)
        expect(outcomesOf(call, ways)).toEqual(forEach(ways, { reports: [], seen: [error] }))
      })

      it('rejects for a handler that is attached after the report', () => {
        expect(outcomesOf(call, [LATE_WAY])).toEqual(forEach([LATE_WAY], { reports: [[where, error]], seen: [error] }))
      })
    })
  })

  it('a process that publishes when its streams close exits with code 0 after a graceful shutdown', async () => {
    const program = new DemoProcess('spec/support/shutdown-process.ts', { args: [MODULES[name] as string] })
    const [, port] = await program.prints(/listening on (\d+)/)
    const clients = await Promise.all(Array.from({ length: 3 }, () => TestClient.open(`http://127.0.0.1:${port}/events`)))
    for (const client of clients) await client.live()
    program.signal('SIGTERM')
    await program.over()
    expect(program.exitCode).toBe(0)
    expect(program.output.match(/^publish: SSE_HUB_CLOSED$/gm)).toHaveLength(3)
    expect(program.output).toContain('the hub is closed')
    expect(program.output).toContain('the server is closed')
    for (const client of clients) expect(client.named('stream-end')).toHaveLength(1)
  })

  /** Serves an app. Its error handler answers with the error's status, and collects `errors`. `onError` collects `reports`. */
  const serveApp = async (handler: (req: Request, res: Response) => unknown, options?: SseMiddlewareOptions) => {
    const errors: unknown[] = []
    const reports: [string, string][] = []
    const onError = (error: unknown, { where }: ErrorContext): void => void reports.push([where, (error as Error).message])
    const hub = new Hub({ onError })
    const app = express()
    app.use(sseMiddleware({ onError, ...options }))
    app.get('/', (req: Request, res: Response) => handler(req, res))
    app.get('/good', (_req: Request, res: Response) => res.sse.subscribe(hub, 'a'))
    app.use((error: { readonly status?: number }, _req: Request, res: Response, _next: NextFunction) => {
      errors.push(error)
      // The answer is asynchronous, as it is with a rendered error page.
      setImmediate(() => res.status(error.status ?? 500).send('sorry'))
    })
    const { url } = await serve(app)
    const stillServes = async () => {
      const client = await (await TestClient.open(`${url}/good`)).live()
      client.leave()
    }
    return { url, hub, errors, reports, stillServes }
  }

  describe('a subscribe with a wrong option', () => {
    const WRONG = /rewind must be an integer/

    it.each<[string, (promise: Promise<Subscription>) => unknown]>([
      ['nothing', () => {}],
      ['only .then(f)', (promise) => void promise.then(() => {})],
      ['only .finally(f)', (promise) => void promise.finally(() => {})],
      ['.then(f) twice', (promise) => void [promise.then(() => {}), promise.then(() => {})]],
    ])('is answered by the error handler and reported if the program attaches %s', async (_how, look) => {
      const { url, errors, reports, stillServes } = await serveApp((_req, res) => look(res.sse.subscribe(new Hub(), 'a', { rewind: -1 })))
      const client = await TestClient.open(url)
      expect(client.status).toBe(500)
      await client.over()
      expect(client.text).toBe('sorry')
      expect(errors).toEqual([expect.objectContaining({ message: expect.stringMatching(WRONG) as string })])
      expect(reports).toEqual([['subscribe', expect.stringMatching(WRONG)]])
      await stillServes()
    })

    it('is answered once, and is not reported on Express 5, if the handler returns it', async () => {
      const { url, errors, reports, stillServes } = await serveApp((_req, res) => res.sse.subscribe(new Hub(), 'a', { rewind: -1 }))
      const client = await TestClient.open(url)
      expect(client.status).toBe(500)
      expect(errors).toEqual([expect.objectContaining({ message: expect.stringMatching(WRONG) as string })])
      // Express 4 ignores the promise that a handler returns.
      expect(reports.map(([where]) => where)).toEqual(name === 'Express 5' ? [] : ['subscribe'])
      await stillServes()
    })

    it('leaves the answer to the program if that handles the rejection', async () => {
      const { url, errors, reports } = await serveApp((_req, res) => {
        res.sse.subscribe(new Hub(), 'a', { rewind: -1 }).catch(() => setImmediate(() => res.status(409).send('handled')))
      })
      const client = await TestClient.open(url)
      expect(client.status).toBe(409)
      expect([errors, reports]).toEqual([[], []])
    })

    it('leaves the answer to a first subscribe that is still pending', async () => {
      const hub = new Hub({ backplane: new AutonomousEngine().backplane() })
      const { url, errors, reports } = await serveApp((_req, res) => {
        void res.sse.subscribe(hub, 'a')
        void res.sse.subscribe(hub, 'b')
      })
      const client = await (await TestClient.open(url)).live()
      expect(client.status).toBe(200)
      expect(reports).toEqual([['subscribe', expect.stringContaining('a stream has one subscription') as string]])
      expect(errors).toEqual([])
      await hub.close()
    })

    it('leaves an open stream open, and does not reach the error handler', async () => {
      const { url, errors, reports } = await serveApp((_req, res) => {
        void res.sse.send('before')
        void res.sse.subscribe(new Hub(), 'a', { rewind: -1 })
        setImmediate(() => setImmediate(() => void res.sse.send('after')))
      })
      const client = await TestClient.open(url)
      await client.received(2)
      expect(reports).toHaveLength(1)
      expect(errors).toEqual([])
    })
  })

  it('a publish that a handler returns is answered by Express 5, and reported on Express 4', async () => {
    const hubErrors: string[] = []
    const hub = new Hub({ onError: (_error, { where }) => hubErrors.push(where) })
    const { url, errors, stillServes } = await serveApp((_req, res) => {
      // On Express 4 the handler itself must answer.
      if (name === 'Express 4') setImmediate(() => setImmediate(() => res.status(500).send('sorry')))
      return hub.publish('a', 'stream-open', 1)
    })
    const client = await TestClient.open(url)
    expect(client.status).toBe(500)
    expect(errors.map((error) => (error as SseError).code)).toEqual(name === 'Express 5' ? ['SSE_INVALID_EVENT'] : [])
    expect(hubErrors).toEqual(name === 'Express 5' ? [] : ['publish'])
    await stillServes()
  })

  describe('a subscribe to an invalid channel that the client named', () => {
    const QUERIES = [
      ['two rooms', '?room=a&room=b'],
      ['a room of 300 characters', `?room=${'x'.repeat(300)}`],
      ['an empty room', '?room='],
      ['no room', ''],
      ['a list', '?room[]=a'],
    ] as const

    it.each(QUERIES)('is refused with 400 for %s, and neither rejects nor is reported', async (_what, query) => {
      const subscriptions: Subscription[] = []
      const { url, hub, errors, reports, stillServes } = await serveApp(async (req, res) => {
        subscriptions.push(await res.sse.subscribe(hub, [req.query['room'] as string]))
      })
      const client = await TestClient.open(`${url}/${query}`)
      expect(client.status).toBe(400)
      await client.over()
      expect(client.text).toBe('sorry')
      expect(errors).toEqual([
        expect.objectContaining({
          code: 'SSE_BAD_REQUEST',
          status: 400,
          cause: expect.objectContaining({ code: 'SSE_INVALID_CHANNEL' }) as unknown,
        }),
      ])
      expect(subscriptions).toEqual([expect.objectContaining({ isClosed: true, channels: [] })])
      expect(hub.stats()).toMatchObject({ subscribers: 0, channels: 0 })
      await stillServes()
      expect(reports).toEqual([])
    })

    it.each(QUERIES)('is refused with 400 for %s if nothing handles the promise', async (_what, query) => {
      const { url, hub, errors, reports, stillServes } = await serveApp(
        (req, res) => void res.sse.subscribe(hub, [req.query['room'] as string]),
      )
      const client = await TestClient.open(`${url}/${query}`)
      expect(client.status).toBe(400)
      expect(errors).toHaveLength(1)
      await stillServes()
      expect(reports).toEqual([])
    })

    it.each(QUERIES)('closes an open stream permanently for %s', async (_what, query) => {
      const { url, hub, errors, reports, stillServes } = await serveApp(async (req, res) => {
        await res.sse.send('before')
        await res.sse.subscribe(hub, [req.query['room'] as string])
      })
      const client = await TestClient.open(`${url}/${query}`)
      await client.over()
      expect(client.events.map(({ event, data }) => [event, data])).toEqual([
        [undefined, 'before'],
        ['stream-close', ''],
      ])
      expect(client.response.complete).toBe(true)
      await stillServes()
      expect([errors, reports]).toEqual([[], []])
    })
  })
})

describe('a publish in memory that succeeds', () => {
  it.each([
    ['without subscribers', (hub: Hub) => hub.publish('a', 'item', 1)],
    ['through a handle', (hub: Hub) => hub.channel('a').publish('item', 1)],
    ['with an idempotency key', (hub: Hub) => hub.publish('a', 'item', 1, { idempotencyKey: 'k' })],
  ])('returns an ordinary promise %s', async (_how, publish) => {
    const hub = new Hub()
    const items = hub.events('a')
    const promise = publish(hub)
    expect(promise.constructor).toBe(Promise)
    expect(Object.getPrototypeOf(promise)).toBe(Promise.prototype)
    expect(await promise).toBe(((await items.next()).value as { id: string }).id)
    await turn()
  })
})
