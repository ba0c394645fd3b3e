import { createReadStream } from 'node:fs'
import { PassThrough, Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Request, Response } from 'express'
import { sseMiddleware, type SseMiddlewareOptions, type SseStream } from 'express-sse-hub'
import { TestClient, until, untilBlocked } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { watched } from '../support/watched.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

describe.each(EXPRESS_VERSIONS)('the source of stream() on %s', (_name, express) => {
  const openStream = (options?: SseMiddlewareOptions) => support.openStream(express, options)

  /** Uses the idle stream of a client that does not accept event streams. */
  const refusedStream = async (use: (stream: SseStream) => Promise<unknown>) => {
    const outcomes: unknown[] = []
    const app = express()
    app.set('env', 'test')
    app.use(sseMiddleware())
    app.get('/', async (_req: Request, res: Response) => {
      outcomes.push(await use(res.sse).catch((error: unknown) => error))
    })
    const { url } = await serve(app)
    const client = await TestClient.open(url, { headers: { accept: 'image/png' } })
    expect(client.status).toBe(406)
    client.resume()
    await until(() => outcomes.length === 1, 'the handler is done')
    return outcomes[0]
  }

  describe('that ends its own stream', () => {
    it.each<[string, (res: Response) => unknown]>([
      ['res.end()', (res) => res.end()],
      ['close()', (res) => res.sse.close()],
    ])('with %s is stopped and reports nothing, as a generator and as an async generator', async (_how, end) => {
      const reported: unknown[] = []
      for (const isAsync of [false, true]) {
        const { stream, res } = await openStream({ onError: (error) => reported.push(error) })
        const log: string[] = []
        const items = function* () {
          yield* watched(log, [1])
          end(res)
          yield* watched(log, [2, 3])
        }
        const asynchronous = async function* () {
          yield* items()
        }
        expect(await stream.stream(isAsync ? asynchronous() : items())).toBe(false)
        await until(() => log.length === 2 || log.at(-1) === 'returned', 'the source is stopped')
        expect(log.filter((entry) => entry === 'started')).toHaveLength(log.filter((entry) => entry === 'returned').length)
      }
      expect(reported).toEqual([])
    })
  })

  describe('when the client leaves', () => {
    it('is returned if it is a generator, and the promise resolves false', async () => {
      const { stream, client } = await openStream()
      const log: string[] = []
      const end = stream.stream(watched(log))
      await client.received(100)
      client.leave()
      expect(await end).toBe(false)
      expect(log).toEqual(['started', 'returned'])
    })

    it('is returned if it is a generator that waits for room', async () => {
      const { stream, client } = await openStream()
      client.pause()
      const log: string[] = []
      let items = 0
      const end = stream.stream(watched(log), () => ({ data: 'x'.repeat(1000 + (items++ % 2)) }))
      await untilBlocked(() => items)
      expect(log).toEqual(['started'])
      client.leave()
      expect(await end).toBe(false)
      expect(log).toEqual(['started', 'returned'])
    })

    it('is asked to return, without being awaited, if it is an async generator that waits', async () => {
      const { stream, client } = await openStream()
      const log: string[] = []
      let release: () => void = () => {}
      const generator = (async function* () {
        try {
          yield 'first'
          await new Promise<void>((resolve) => (release = resolve))
          yield 'never sent'
        } finally {
          log.push('returned')
        }
      })()
      const returned = jest.spyOn(generator, 'return')
      const end = stream.stream(generator)
      await client.received(1)
      expect(returned).not.toHaveBeenCalled()
      client.leave()
      expect(await end).toBe(false)
      expect(returned).toHaveBeenCalledTimes(1)
      expect(log).toEqual([])
      release()
      await until(() => log.length > 0, 'its clean-up ran')
    })

    it('is destroyed without a report if it is a Readable that waits for data', async () => {
      const onError = jest.fn()
      const { stream, client } = await openStream({ onError })
      const source = new PassThrough()
      const end = stream.stream(source, (chunk: Buffer) => ({ data: chunk.toString() }))
      source.write('first')
      await client.received(1)
      client.leave()
      expect(await end).toBe(false)
      expect(source.destroyed).toBe(true)
      await until(() => source.closed, 'the source is closed')
      for (let i = 0; i < 10; i++) await nextTurn()
      expect(onError).not.toHaveBeenCalled()
    })

    it.each<[string, (stream: SseStream) => void]>([
      ['with close()', (stream) => stream.close()],
      ['permanently', (stream) => stream.close({ reconnect: false })],
    ])('is returned when the program closes the stream %s', async (_what, close) => {
      const { stream, client } = await openStream()
      const log: string[] = []
      const end = stream.stream(watched(log))
      await client.received(10)
      close(stream)
      expect(await end).toBe(false)
      expect(log).toEqual(['started', 'returned'])
      await client.over()
    })

    it('is stopped before its first item if the client has already left, and the promise resolves false', async () => {
      const { stream, client } = await openStream()
      client.leave()
      await until(() => stream.state === 'closed', 'the stream is closed')
      const log: string[] = []
      expect(await stream.stream(watched(log))).toBe(false)
      const source = new PassThrough()
      expect(await stream.stream(source)).toBe(false)
      expect(source.destroyed).toBe(true)
      expect(log).toEqual([])
    })
  })

  describe('for a refused client', () => {
    it('is stopped', async () => {
      const source = new PassThrough()
      expect(await refusedStream((stream) => stream.stream(source))).toBe(false)
      expect(source.destroyed).toBe(true)
    })

    it('does not crash the process if it is a Readable that fails while it is stopped', async () => {
      const sources: Readable[] = []
      const outcome = await refusedStream((stream) => {
        const source = createReadStream('/nonexistent/file')
        sources.push(source)
        return stream.stream(source)
      })
      expect(outcome).toBe(false)
      await until(() => sources[0]?.closed === true, 'the source is closed')
    })

    it('does not crash the process if it is a Readable whose clean-up fails', async () => {
      const source = new Readable({ read() {}, destroy: (_error, done) => done(new Error('clean-up broke')) })
      expect(await refusedStream((stream) => stream.stream(source))).toBe(false)
      await until(() => source.closed, 'the source is closed')
    })
  })
})
