import { ReadableStream, TextDecoderStream } from 'node:stream/web'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { NextFunction, Request, Response } from 'express'
import { type ErrorContext, type EventInput, sseMiddleware, type SseStream } from 'express-sse-hub'
import { deferred } from '../../lib/basics/promises.ts'
import { TestClient, until } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { SOME_EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'
import { type Items, SOURCE_KINDS, type TestSource } from '../support/sources.ts'
import { sized } from '../support/scale.ts'

afterEach(stopServers)

/** More than the kernel takes for a client that does not read. */
const LARGE = 'x'.repeat(8_388_608)

const NEVER = new Promise<never>(() => {})

/** Lets everything happen that needs no more than the event loop. */
async function settle(): Promise<void> {
  for (let n = 0; n < 20; n++) await nextTurn()
}

describe.each(SOME_EXPRESS_VERSIONS)('on %s', (_name, express) => {
  describe.each(SOURCE_KINDS)('the source of a stream, %s,', (_kind, kind) => {
    /** Sends a source to a client: `end` is the answer of `stream`, and `reports` what `onError` was told. */
    const sendSource = async (made: TestSource) => {
      const reports: [message: string, context: ErrorContext][] = []
      const opened = await support.openStream(express, { onError: (error, context) => reports.push([(error as Error).message, context]) })
      const toEvent = jest.fn(made.toEvent ?? ((data: unknown) => ({ data })))
      const end = opened.stream.stream(made.source, toEvent as unknown as (item: unknown) => EventInput)
      end.catch(() => {})
      /** Checks that this has become of the source, and nothing else. */
      const became = async (expected: readonly unknown[]) => {
        await until(() => made.happened().length >= expected.length, `it is done with: ${expected.join(', ')}`)
        await settle()
        expect(made.happened()).toEqual(expected)
      }
      return { ...opened, end, reports, became, toEvent }
    }

    const sendItems = async (items: Items) => sendSource(await kind.make(items))

    it('is stopped when the client leaves while an item is sent', async () => {
      const large = deferred<string>()
      const { stream, client, res, end, reports, became } = await sendItems(['first', large.promise, NEVER, 'unread'])
      await client.received(1)
      client.pause()
      large.resolve(LARGE)
      await until(() => (res.socket?.writableLength ?? 0) > 0, 'the item is under way')
      client.leave()
      expect(await end).toBe(false)
      expect(stream.state).toBe('closed')
      await became(kind.leftBetween)
      expect(reports).toEqual([])
    })

    it('is stopped when the client leaves while an item is waited for that never comes', async () => {
      const { stream, client, end, reports, became } = await sendItems(['first', NEVER, 'unread'])
      await client.received(1)
      client.leave()
      expect(await end).toBe(false)
      expect(stream.state).toBe('closed')
      await became(kind.leftWaiting)
      expect(reports).toEqual([])
    })

    it('is asked for nothing more when an item comes after the client left, which is let go', async () => {
      const late = deferred<string>()
      const { client, end, reports, became, toEvent } = await sendItems(['first', late.promise, 'unread'])
      await client.received(1)
      client.leave()
      expect(await end).toBe(false)
      await became(kind.leftWaiting)
      late.resolve('late')
      await became(kind.cameLate)
      expect(toEvent).toHaveBeenCalledTimes(1)
      expect(reports).toEqual([])
    })

    it('is reported at most once when it fails after the client left', async () => {
      const late = deferred<string>()
      const { client, end, reports, became } = await sendItems(['first', late.promise, 'unread'])
      await client.received(1)
      client.leave()
      expect(await end).toBe(false)
      await became(kind.leftWaiting)
      late.reject(new Error('source broke'))
      await until(() => reports.length >= kind.reports, 'it is reported')
      await became(kind.cameLate)
      expect(reports).toEqual(kind.reports === 0 ? [] : [['source broke', { where: 'source' }]])
    })

    it('rejects the promise with its own error, which is not reported, and the stream stays open', async () => {
      const made = kind.makeFailing?.() ?? (await kind.make(['first', Promise.reject(new Error('source broke')), 'unread']))
      const { stream, client, end, reports, became } = await sendSource(made)
      await expect(end).rejects.toThrow(kind.error)
      expect(stream.state).toBe('open')
      await became(kind.failed)
      expect(reports).toEqual([])
      expect(await stream.send('after')).toBe(true)
      await until(() => client.events.at(-1)?.data === 'after', 'the stream goes on')
    })

    it('resolves the promise to true at its end, and the stream stays open', async () => {
      const { stream, client, end, reports, became } = await sendItems(['first', Promise.resolve('last')])
      expect(await end).toBe(true)
      expect(stream.state).toBe('open')
      await became(kind.ended)
      expect(reports).toEqual([])
      expect(await stream.send('after')).toBe(true)
      await until(() => client.events.at(-1)?.data === 'after', 'the stream goes on')
      expect(client.events.map(({ data }) => data).join('')).toBe('firstlastafter')
    })
  })

  it('the bodies of many fetches are cancelled when their clients leave, and leave no connection open', async () => {
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
    const connections = async () =>
      new Promise<number>((resolve, reject) => upstream.getConnections((error, count) => (error ? reject(error) : resolve(count))))
    const ends: unknown[] = []
    const { url } = await support.serveWith(express, async (req, res) => {
      const response = await fetch(`${upstreamUrl}/${req.query['path'] as string}`)
      const text = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())
      ends.push(await res.sse.stream(text))
    })
    // Every tenth leaves while an item is sent, and the others while one is waited for.
    const clients = await Promise.all(
      Array.from({ length: fetches }, (_, n) => TestClient.open(`${url}?path=${n % 10 === 0 ? 'large' : 'small'}`)),
    )
    for (const client of clients) client.pause()
    expect(answers).toEqual({ begun: fetches, open: fetches })
    expect(await connections()).toBe(fetches)
    for (const client of clients) client.leave()
    await until(() => answers.open === 0, 'all answers are over')
    await until(() => ends.length === fetches, 'all streams are over')
    let open = await connections()
    for (; open > 0; open = await connections()) await nextTurn()
    expect(new Set(ends)).toEqual(new Set([false]))
  })

  describe('a web stream that has a reader already', () => {
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

    it('leaves the stream idle, which takes another source', async () => {
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
