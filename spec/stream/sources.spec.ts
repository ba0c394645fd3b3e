import { ReadableStream, TextDecoderStream } from 'node:stream/web'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { NextFunction, Request, Response } from 'express'
import { type ErrorContext, type EventInput, sseMiddleware, type SseStream } from 'express-sse-hub'
import { deferred } from '../../lib/basics/promises.ts'
import { TestClient, until } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { SOME_EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { connectionsLeft, serve, stopServers } from '../support/servers.ts'
import { type Items, SOURCE_KINDS, type TestSource } from '../support/sources.ts'
import { sized } from '../support/scale.ts'

afterEach(stopServers)

/** Text that is larger than the kernel's buffers for a client that does not read. */
const LARGE = 'x'.repeat(8_388_608)

const NEVER = new Promise<never>(() => {})

/** Waits until pending promises and callbacks of the event loop have run. */
async function settle(): Promise<void> {
  for (let n = 0; n < 20; n++) await nextTurn()
}

describe.each(SOME_EXPRESS_VERSIONS)('on %s', (_name, express) => {
  describe.each(SOURCE_KINDS)('%s as the source of a stream', (_kind, kind) => {
    /** Sends a source to a client. `end` is the result of `stream`, and `reports` lists the calls of `onError`. */
    const sendSource = async (made: TestSource) => {
      const reports: [message: string, context: ErrorContext][] = []
      const opened = await support.openStream(express, { onError: (error, context) => reports.push([(error as Error).message, context]) })
      const toEvent = jest.fn(made.toEvent ?? ((data: unknown) => ({ data })))
      const end = opened.stream.stream(made.source, toEvent as unknown as (item: unknown) => EventInput)
      end.catch(() => {})
      /** Checks that exactly these things have happened to the source. */
      const expectHappened = async (expected: readonly unknown[]) => {
        await until(() => made.happened().length >= expected.length, `these have happened: ${expected.join(', ')}`)
        await settle()
        expect(made.happened()).toEqual(expected)
      }
      return { ...opened, end, reports, expectHappened, toEvent }
    }

    const sendItems = async (items: Items) => sendSource(await kind.make(items))

    it('is stopped when the client leaves while an item is being sent', async () => {
      const large = deferred<string>()
      const { stream, client, res, end, reports, expectHappened } = await sendItems(['first', large.promise, NEVER, 'unread'])
      await client.received(1)
      client.pause()
      large.resolve(LARGE)
      await until(() => (res.socket?.writableLength ?? 0) > 0, 'the item is being sent')
      client.leave()
      expect(await end).toBe(false)
      expect(stream.state).toBe('closed')
      await expectHappened(kind.leftBetween)
      expect(reports).toEqual([])
    })

    it('is stopped when the client leaves while the source never delivers its next item', async () => {
      const { stream, client, end, reports, expectHappened } = await sendItems(['first', NEVER, 'unread'])
      await client.received(1)
      client.leave()
      expect(await end).toBe(false)
      expect(stream.state).toBe('closed')
      await expectHappened(kind.leftWaiting)
      expect(reports).toEqual([])
    })

    it('is read no further when an item arrives after the client has left, and the item is dropped', async () => {
      const late = deferred<string>()
      const { client, end, reports, expectHappened, toEvent } = await sendItems(['first', late.promise, 'unread'])
      await client.received(1)
      client.leave()
      expect(await end).toBe(false)
      await expectHappened(kind.leftWaiting)
      late.resolve('late')
      await expectHappened(kind.arrivedLate)
      expect(toEvent).toHaveBeenCalledTimes(1)
      expect(reports).toEqual([])
    })

    it('is reported at most once when it fails after the client has left', async () => {
      const late = deferred<string>()
      const { client, end, reports, expectHappened } = await sendItems(['first', late.promise, 'unread'])
      await client.received(1)
      client.leave()
      expect(await end).toBe(false)
      await expectHappened(kind.leftWaiting)
      late.reject(new Error('source broke'))
      await until(() => reports.length >= kind.reports, 'it is reported')
      await expectHappened(kind.arrivedLate)
      expect(reports).toEqual(kind.reports === 0 ? [] : [['source broke', { where: 'source' }]])
    })

    it('rejects the promise with its own error, is not reported, and leaves the stream open', async () => {
      const made = kind.makeFailing?.() ?? (await kind.make(['first', Promise.reject(new Error('source broke')), 'unread']))
      const { stream, client, end, reports, expectHappened } = await sendSource(made)
      await expect(end).rejects.toThrow(kind.error)
      expect(stream.state).toBe('open')
      await expectHappened(kind.failed)
      expect(reports).toEqual([])
      expect(await stream.send('after')).toBe(true)
      await until(() => client.events.at(-1)?.data === 'after', 'the stream works')
    })

    it('resolves the promise to true at its end, and leaves the stream open', async () => {
      const { stream, client, end, reports, expectHappened } = await sendItems(['first', Promise.resolve('last')])
      expect(await end).toBe(true)
      expect(stream.state).toBe('open')
      await expectHappened(kind.ended)
      expect(reports).toEqual([])
      expect(await stream.send('after')).toBe(true)
      await until(() => client.events.at(-1)?.data === 'after', 'the stream works')
      expect(client.events.map(({ data }) => data).join('')).toBe('firstlastafter')
    })
  })

  it('a stream cancels the body of its fetch and closes the connection when its client leaves', async () => {
    const fetches = sized(50, 20)
    const large = Buffer.alloc(8_388_608, 'x')
    const answers = { begun: 0, open: 0 }
    const { server: upstream, url: upstreamUrl } = await serve((req, res) => {
      answers.begun++
      answers.open++
      res.on('close', () => answers.open--)
      res.write('first')
      if (req.url === '/large') res.write(large)
    })

    const ends: unknown[] = []
    const { url } = await support.serveWith(express, async (req, res) => {
      const response = await fetch(`${upstreamUrl}/${req.query['path'] as string}`)
      const text = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())
      ends.push(await res.sse.stream(text))
    })
    // Every tenth client leaves while an item is being sent, and the others while the next item is awaited.
    const clients = await Promise.all(
      Array.from({ length: fetches }, (_, n) => TestClient.open(`${url}?path=${n % 10 === 0 ? 'large' : 'small'}`)),
    )
    for (const client of clients) client.pause()
    expect(answers).toEqual({ begun: fetches, open: fetches })
    await connectionsLeft(upstream, fetches)
    for (const client of clients) client.leave()
    await until(() => answers.open === 0, 'all answers have ended')
    await until(() => ends.length === fetches, 'all streams have ended')
    await connectionsLeft(upstream, 0)
    expect(new Set(ends)).toEqual(new Set([false]))
  })

  describe('a web stream that already has a reader', () => {
    it('is refused before the head is sent, so the handler can still answer 500', async () => {
      const outcomes: unknown[] = []
      const app = express()
      app.use(sseMiddleware())
      app.get('/', async (_req: Request, res: Response, next: NextFunction) => {
        const source = new ReadableStream<string>()
        source.getReader()
        try {
          await res.sse.stream(source)
        } catch (error) {
          outcomes.push(error, res.headersSent, res.sse.state)
          next(error)
        }
      })
      app.use((_error: unknown, _req: Request, res: Response, _next: NextFunction) => void res.status(500).send('sorry'))
      const { url } = await serve(app)
      const client = await TestClient.open(url)
      expect(client.status).toBe(500)
      expect(outcomes).toEqual([
        expect.objectContaining({ code: 'SSE_INVALID_EVENT', message: expect.stringContaining('must not be locked') as string }),
        false,
        'idle',
      ])
      await client.over()
      expect(client.text).toBe('sorry')
    })

    it('leaves the stream idle, so that it accepts another source', async () => {
      const streams: SseStream[] = []
      const { url } = await support.serveWith(express, async (_req, res) => {
        streams.push(res.sse)
        const source = new ReadableStream<string>()
        source.getReader()
        await res.sse.stream(source).catch(() => {})
        await res.sse.stream(['another'])
      })
      const client = await TestClient.open(url)
      await client.received(1)
      expect(client.text).toBe('retry: 2000\ndata: another\n\n')
      expect(streams[0]?.state).toBe('open')
    })
  })
})
