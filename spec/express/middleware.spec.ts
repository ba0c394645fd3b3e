import http from 'node:http'
import net from 'node:net'
import type { Request, Response } from 'express'
import supertest from 'supertest'
import { Hub, SseError, sseMiddleware, type SseMiddlewareOptions } from 'express-sse-hub'
import { TestClient, until } from '../support/client.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

async function ask(url: string, options: http.RequestOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, options, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }))
    })
    request.on('error', reject)
    request.end()
  })
}

describe.each(EXPRESS_VERSIONS)('sseMiddleware on %s', (_name, express) => {
  const appWith = (handler: (req: Request, res: Response) => unknown, options?: SseMiddlewareOptions) => {
    const app = express()
    app.use(sseMiddleware(options))
    app.get('/', handler)
    return app
  }

  describe('before the stream is used', () => {
    it.each<[string, number, (res: Response) => unknown]>([
      ['401', 401, (res) => res.status(401).json({ error: 'who?' })],
      ['404', 404, (res) => res.sendStatus(404)],
      ['204', 204, (res) => res.status(204).end()],
      ['JSON', 200, (res) => res.json({ ok: true })],
    ])('a handler answers %s as if it was not there', async (_what, status, answer) => {
      const plain = express()
      plain.get('/', (_req, res) => void answer(res))
      const expected = await supertest(plain).get('/')
      const got = await supertest(appWith((_req, res) => void answer(res))).get('/')
      const { date: _, ...headers } = got.headers as Record<string, string>
      expect(got.status).toBe(status)
      expect(got.text).toBe(expected.text)
      expect({ date: expect.any(String) as string, ...headers }).toEqual({
        ...(expected.headers as object),
        date: expect.any(String) as string,
      })
    })

    it('an unknown route is still answered 404, and the stream is idle', async () => {
      let state = ''
      const app = express()
      app.use(sseMiddleware())
      app.use((_req, res, next) => {
        state = res.sse.state
        next()
      })
      await supertest(app).get('/nothing').expect(404)
      expect(state).toBe('idle')
    })
  })

  describe('the head', () => {
    it('has exactly the headers of an event stream, and the retry field follows', async () => {
      const app = appWith((_req, res) => res.sse.close())
      const answer = await supertest(app).get('/').expect(200)
      expect(answer.headers).toEqual({
        'x-powered-by': 'Express',
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-cache, no-store, no-transform',
        'x-accel-buffering': 'no',
        date: expect.any(String) as string,
        connection: 'close',
        'transfer-encoding': 'chunked',
      })
      expect(answer.text).toBe('retry: 2000\n')
    })

    it('takes values from the `headers` option, without regard to case, and drops what is undefined', async () => {
      const headers = { 'cache-control': 'no-store', 'X-Accel-Buffering': undefined, 'X-Mine': ['a', 'b'] }
      const answer = await supertest(appWith((_req, res) => res.sse.close(), { headers })).get('/')
      expect(answer.headers).toMatchObject({
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        'x-mine': 'a, b',
      })
      expect(answer.headers).not.toHaveProperty('x-accel-buffering')
    })

    it('has the bare type where the `headers` option says so, for a client or proxy that compares all of it', async () => {
      const answer = await supertest(appWith((_req, res) => res.sse.close(), { headers: { 'Content-Type': 'text/event-stream' } })).get('/')
      expect(answer.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-cache, no-store, no-transform' })
    })

    it('loses what describes another body, and keeps everything else', async () => {
      const app = appWith((_req, res) => {
        res.set({
          'Content-Length': '5',
          'Content-Encoding': 'br',
          ETag: '"x"',
          'X-Kept': 'yes',
          Vary: 'Origin',
          'Content-Type': 'text/html',
        })
        res.cookie('a', '1')
        res.cookie('b', '2')
        res.sse.close()
      })
      const answer = await supertest(app).get('/')
      for (const name of ['content-length', 'content-encoding', 'etag']) expect(answer.headers).not.toHaveProperty(name)
      expect(answer.headers).toMatchObject({ 'x-kept': 'yes', vary: 'Origin', 'content-type': 'text/event-stream; charset=utf-8' })
      expect(answer.headers['set-cookie']).toEqual(['a=1; Path=/', 'b=2; Path=/'])
    })

    it('has no Connection header of its own, keeps that of the program, and closes where the client asks for it', async () => {
      const app = appWith((_req, res) => void res.sse.open())
      app.get('/own', (_req, res) => void res.set('Connection', 'close').sse.open())
      const { url } = await serve(app)
      const connectionOf = async (path: string, headers = {}): Promise<unknown> =>
        (await TestClient.open(url + path, { headers })).response.headers.connection
      expect(await connectionOf('/', { connection: 'keep-alive' })).toBeUndefined()
      expect(await connectionOf('/', { connection: 'close' })).toBe('close')
      expect(await connectionOf('/own', { connection: 'keep-alive' })).toBe('close')
    })

    it('takes the status from the `status` option', async () => {
      const answer = await supertest(appWith((_req, res) => res.sse.close(), { status: 202 })).get('/')
      expect(answer.status).toBe(202)
    })

    it('is sent once, whatever opens the stream again', async () => {
      const opened: unknown[] = []
      const app = appWith((_req, res) => {
        opened.push(res.sse.state, res.sse.open(), res.sse.state, res.sse.open())
        res.sse.close()
        opened.push(res.sse.state, res.sse.open())
      })
      const answer = await supertest(app).get('/').expect(200)
      expect(opened).toEqual(['idle', true, 'open', true, 'closed', false])
      expect(answer.text).toBe('retry: 2000\n')
    })
  })

  it('mounted twice, the inner options count and nothing is sent twice', async () => {
    const app = express()
    app.use(sseMiddleware({ retryMs: 1 }))
    app.get('/', sseMiddleware({ retryMs: 7 }), (_req, res) => res.sse.close())
    const answer = await supertest(app).get('/')
    expect(answer.text).toBe('retry: 7\n')
  })

  describe('HEAD', () => {
    it.each<[string, (res: Response, hub: Hub) => unknown, unknown]>([
      ['open', (res) => res.sse.open(), false],
      ['send', (res) => res.sse.send('x'), false],
      ['comment', (res) => res.sse.comment('x'), false],
      ['stream', (res) => res.sse.stream(['x']), false],
      ['close', (res) => res.sse.close(), undefined],
      [
        'subscribe',
        (res, hub) => res.sse.subscribe(hub, ['a']),
        { channels: ['a'], isClosed: true, ended: expect.any(Promise) as unknown, close: expect.any(Function) as unknown },
      ],
    ])('is answered with the head alone by %s, and the connection serves the next request', async (_what, use, expected) => {
      const hub = new Hub()
      const app = express()
      app.use(sseMiddleware())
      let result: unknown
      let state = ''
      app.get('/', async (_req, res) => {
        result = await use(res, hub)
        state = res.sse.state
      })
      app.get('/next', (_req, res) => void res.json('next'))
      const { port } = await serve(app)
      // A raw socket: Node's client does not keep a connection after an answer to HEAD without a length.
      const socket = net.connect(port, '127.0.0.1')
      let answers = ''
      socket.setEncoding('utf8').on('data', (text: string) => (answers += text))
      socket.write('HEAD / HTTP/1.1\r\nHost: x\r\n\r\n')
      await until(() => answers.includes('\r\n\r\n'), 'the head came')
      socket.write('GET /next HTTP/1.1\r\nHost: x\r\n\r\n')
      await until(() => answers.endsWith('"next"'), 'the next answer came')
      socket.destroy()
      expect(answers).toMatch(/^HTTP\/1\.1 200 OK\r\n(?:[^\r\n]+\r\n)+\r\nHTTP\/1\.1 200 OK\r\n(?:[^\r\n]+\r\n)+\r\n"next"$/)
      expect(answers).toMatch(/Content-Type: text\/event-stream; charset=utf-8\r\nCache-Control: no-cache, no-store, no-transform\r\n/)
      expect(state).toBe('closed')
      expect(result).toEqual(expected)
      expect(hub.channel('a').subscriberCount).toBe(0)
    })
  })

  describe('a client that does not accept event streams', () => {
    it('is refused exactly once, through the error handling of Express', async () => {
      const hub = new Hub()
      const results: unknown[] = []
      const errors: unknown[] = []
      const app = express()
      app.use(sseMiddleware())
      const router = express.Router()
      router.get('/', async (_req, res) => {
        results.push(res.sse.open(), await res.sse.send('x'), await res.sse.comment('x'), await res.sse.stream(['x']))
        results.push((await res.sse.subscribe(hub, ['a'])).isClosed, res.sse.state, res.sse.signal.aborted)
        res.sse.close()
        res.sse.close({ reconnect: false })
      })
      app.use('/deep', router)
      app.use((error: unknown, _req: Request, res: Response, _next: unknown) => {
        errors.push(error)
        res.status((error as SseError).status).json({ code: (error as SseError).code })
      })
      const answer = await supertest(app).get('/deep').set('Accept', 'application/json').expect(406)
      await until(() => results.length === 7, 'the handler is through')
      expect(answer.body).toEqual({ code: 'SSE_NOT_ACCEPTABLE' })
      expect(results).toEqual([false, false, false, false, true, 'closed', true])
      expect(errors).toHaveLength(1)
      expect(errors[0]).toBeInstanceOf(SseError)
      expect((errors[0] as SseError).message).toContain('application/json')
      expect(hub.channel('a').subscriberCount).toBe(0)
    })

    // An unhandled rejection or an uncaught exception, however late in the test, makes Jest fail it.
    const uses: [string, (res: Response, hub: Hub) => unknown][] = [
      ['open', (res) => res.sse.open()],
      ['send', (res) => res.sse.send('x')],
      ['comment', (res) => res.sse.comment('x')],
      [
        'stream',
        (res) =>
          res.sse.stream(
            (function* () {
              yield 'x'
            })(),
          ),
      ],
      ['subscribe', (res, hub) => res.sse.subscribe(hub, ['a'])],
      ['close', (res) => res.sse.close()],
    ]
    const styles: [string, (use: (res: Response) => unknown) => (req: Request, res: Response) => unknown][] = [
      ['a plain function', (use) => (_req, res) => void use(res)],
      ['a function that returns the promise', (use) => (_req, res) => use(res)],
      [
        'an async function',
        (use) => async (_req, res) => {
          await use(res)
        },
      ],
      [
        'an async function that uses it late and twice',
        (use) => async (_req, res) => {
          await new Promise((resolve) => setImmediate(resolve))
          await use(res)
          await use(res)
        },
      ],
    ]
    const cases = uses.flatMap(([what, use]) => styles.map(([style, wrap]) => [what, style, use, wrap] as const))
    it.each(cases)('kills nothing that calls %s in %s', async (what, _style, use, wrap) => {
      const hub = new Hub()
      const app = express()
      app.set('env', 'test')
      app.use(sseMiddleware())
      app.get(
        '/',
        wrap((res) =>
          Promise.resolve(use(res, hub)).catch((error: unknown) => {
            // The second subscribe of a stream is the program's fault, refused client or not.
            if (what !== 'subscribe') throw error
          }),
        ),
      )
      app.get('/next', (_req, res) => void res.json('next'))
      const { url } = await serve(app)
      expect(await ask(url, { headers: { accept: 'application/json' } })).toMatchObject({ status: 406 })
      for (let i = 0; i < 3; i++) expect(await ask(`${url}/next`, {})).toMatchObject({ status: 200, body: '"next"' })
    })
  })
})

describe('the options of sseMiddleware', () => {
  it.each<[string, unknown, typeof TypeError | typeof RangeError, RegExp]>([
    ['a number', 5, TypeError, /options.*5/],
    ['null', null, TypeError, /options.*null/],
    ['an array', [], TypeError, /options.*\[\]/],
    ['an unknown name', { keepalive: 5 }, TypeError, /keepalive.*keepAliveMs/],
    ['keepAliveMs: "5"', { keepAliveMs: '5' }, TypeError, /keepAliveMs.*'5'/],
    ['keepAliveMs: true', { keepAliveMs: true }, TypeError, /keepAliveMs.*true/],
    ['keepAliveMs: null', { keepAliveMs: null }, TypeError, /keepAliveMs.*null/],
    ['keepAliveMs: 0', { keepAliveMs: 0 }, RangeError, /keepAliveMs.*0/],
    ['keepAliveMs: NaN', { keepAliveMs: NaN }, RangeError, /keepAliveMs.*NaN/],
    ['keepAliveMs: Infinity', { keepAliveMs: Infinity }, RangeError, /keepAliveMs.*Infinity/],
    ['keepAliveMs beyond what a timer keeps', { keepAliveMs: 2 ** 31 }, RangeError, /keepAliveMs.*2147483648/],
    ['retryMs: -1', { retryMs: -1 }, RangeError, /retryMs.*-1/],
    ['retryMs: 1.5', { retryMs: 1.5 }, RangeError, /retryMs.*1\.5/],
    ['retryMs: 2 ** 31', { retryMs: 2 ** 31 }, RangeError, /retryMs.*2147483648/],
    ['stallTimeoutMs: 0', { stallTimeoutMs: 0 }, RangeError, /stallTimeoutMs.*0/],
    ['maxLifetimeMs: "1h"', { maxLifetimeMs: '1h' }, TypeError, /maxLifetimeMs.*'1h'/],
    ['maxQueuedBytes: -1', { maxQueuedBytes: -1 }, RangeError, /maxQueuedBytes.*-1/],
    ['maxQueuedBytes: false', { maxQueuedBytes: false }, TypeError, /maxQueuedBytes.*false/],
    ['status: 99', { status: 99 }, RangeError, /status.*99/],
    ['status: "200"', { status: '200' }, TypeError, /status.*'200'/],
    ['serialize: {}', { serialize: {} }, TypeError, /serialize.*\{\}/],
    ['deserialize, which belongs to the hub', { deserialize: JSON.parse }, TypeError, /no option 'deserialize'/],
    ['onError: "log"', { onError: 'log' }, TypeError, /onError.*'log'/],
    ['headers: "x"', { headers: 'x' }, TypeError, /headers.*'x'/],
    ['a header name with a space', { headers: { 'a b': 'x' } }, TypeError, /a b/],
    ['a header value with a line break', { headers: { 'X-A': 'x\r\nX-B: y' } }, TypeError, /X-A/],
  ])('are checked when it is made: %s', (_what, options, type, message) => {
    // By name: what Node itself throws is not of the classes that exist inside Jest.
    const make = () => sseMiddleware(options as SseMiddlewareOptions)
    expect(make).toThrow(expect.objectContaining({ name: type.name, message: expect.stringMatching(message) as string }) as Error)
  })

  it('take undefined for their default, and the ends of their ranges', () => {
    const names = [
      'keepAliveMs',
      'retryMs',
      'headers',
      'status',
      'stallTimeoutMs',
      'maxQueuedBytes',
      'maxLifetimeMs',
      'serialize',
      'onError',
    ]
    expect(() => sseMiddleware(Object.fromEntries(names.map((name) => [name, undefined])))).not.toThrow()
    expect(() =>
      sseMiddleware({ keepAliveMs: 2 ** 31 - 1, retryMs: 0, maxQueuedBytes: 0, stallTimeoutMs: 1, maxLifetimeMs: 1 }),
    ).not.toThrow()
    expect(() => sseMiddleware({ keepAliveMs: false, retryMs: false, stallTimeoutMs: false, maxLifetimeMs: false })).not.toThrow()
  })

  it.each([
    [{ status: 204 }, RangeError, /status must be one that has a body, got 204/],
    [{ headers: { 'Content-Length': 5 } }, TypeError, /Content-Length cannot be set/],
    [{ headers: { 'transfer-encoding': 'chunked' } }, TypeError, /transfer-encoding cannot be set/],
  ])('that would break the framing are refused: %j', (options, type, message) => {
    expect(() => sseMiddleware(options)).toThrow(type)
    expect(() => sseMiddleware(options)).toThrow(message)
  })

  it('that are a request, because it was not called, are told so', () => {
    const handler = sseMiddleware as unknown as (req: unknown, res: unknown) => void
    expect(() => handler({ socket: {}, url: '/' }, {})).toThrow(/app\.use\(sseMiddleware\(\)\)/)
  })

  it('make a handler that says so when it has no next', () => {
    const handler = sseMiddleware() as unknown as (req: unknown) => void
    expect(() => handler({})).toThrow(/\(req, res, next\).*next must be a function.*got undefined/)
  })
})
