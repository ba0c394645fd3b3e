import net from 'node:net'
import type { Request, Response } from 'express'
import supertest from 'supertest'
import { sseMiddleware } from 'express-sse-hub'
import { acceptsEventStream, acceptsGzip, hasBody } from '../../lib/stream/request.ts'
import { until } from '../support/client.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

describe('acceptsEventStream', () => {
  it.each<[boolean, string | undefined]>([
    [true, undefined],
    [true, ''],
    [true, '  '],
    [true, '*/*'],
    [true, 'text/*'],
    [true, 'text/event-stream'],
    [true, 'TEXT/Event-Stream'],
    [true, ' text/event-stream ; charset=utf-8'],
    [true, 'text/event-stream;q=0.001'],
    [true, 'text/event-stream; Q=1'],
    [true, 'text/html, application/xhtml+xml, */*;q=0.8'],
    [true, 'application/json,text/event-stream'],
    [true, '*/*;q=0, text/event-stream'],
    [true, 'text/event-stream, */*;q=0'],
    [true, 'text/*;q=0, text/event-stream;q=0.1'],
    [true, '*/*;q=0, text/*'],
    [true, ',,text/event-stream,'],
    [false, 'application/json'],
    [false, 'constructor'],
    [false, '__proto__, application/json'],
    [false, 'text/html'],
    [false, 'text'],
    [false, '*'],
    [false, 'text/event-streams'],
    [false, 'application/*'],
    [false, '*/event-stream'],
    [false, '*/*;q=0'],
    [false, 'text/*;q=0'],
    [false, 'text/event-stream;q=0'],
    [false, 'text/event-stream;q=0.000'],
    [false, 'text/event-stream;charset=utf-8;q=0'],
    [false, 'text/event-stream ; q = 0'],
    [false, 'text/event-stream;q=0, */*'],
    [false, '*/*, text/*, text/event-stream;q=0'],
    [false, 'text/*;q=0, */*'],
    [false, 'text/html, */*;q=0.0'],
  ])('is %s for %j', (expected, accept) => {
    expect(acceptsEventStream(accept)).toBe(expected)
  })

  it.each(['text/event-stream;q=', 'text/event-stream;q=high', 'text/event-stream;q', 'text/event-stream;;', 'text/event-stream;q="1"'])(
    'ignores the malformed weight in %j',
    (accept) => expect(acceptsEventStream(accept)).toBe(true),
  )

  it('decides a hostile header of 16 KiB', () => {
    expect(acceptsEventStream(`${','.repeat(8192)}${';'.repeat(8192)}`)).toBe(false)
    expect(acceptsEventStream(`${'text/*;q=0,'.repeat(1500)}text/event-stream`)).toBe(true)
  })
})

describe('acceptsGzip', () => {
  it.each<[boolean, string | undefined]>([
    [true, 'gzip'],
    [true, 'GZIP'],
    [true, 'x-gzip'],
    [true, 'gzip, deflate, br, zstd'],
    [true, 'br;q=1.0, gzip;q=0.001, *;q=0'],
    [true, '*'],
    [true, '*;q=0, gzip'],
    [false, undefined],
    [false, ''],
    [false, 'identity'],
    [false, 'br, deflate'],
    [false, 'gzip;q=0'],
    [false, 'gzip;q=0.0, *'],
    [false, '*;q=0'],
    [false, 'gzipped'],
  ])('is %s for %j', (expected, acceptEncoding) => {
    expect(acceptsGzip(acceptEncoding)).toBe(expected)
  })
})

describe('hasBody', () => {
  it.each<[boolean, Record<string, string>]>([
    [false, {}],
    [false, { 'content-length': '0' }],
    [true, { 'content-length': '1' }],
    [true, { 'transfer-encoding': 'chunked' }],
  ])('is %s for %j', (expected, headers) => {
    expect(hasBody({ headers })).toBe(expected)
  })
})

describe.each(EXPRESS_VERSIONS)('on %s', (_name, express) => {
  const app = (parser: 'simple' | 'extended' | false = 'extended') => {
    const made = express()
    made.set('query parser', parser)
    made.use(sseMiddleware())
    made.get('/', (_req: Request, res: Response) => void res.json(res.sse.lastEventId))
    return made
  }

  describe('the middleware', () => {
    it.each<[number, string]>([
      [200, 'text/event-stream'],
      [200, '*/*'],
      [200, 'text/*;q=0.1'],
      [406, 'application/json'],
      [406, 'text/event-stream;q=0, */*'],
    ])('answers %s to Accept: %j', async (status, accept) => {
      const made = express()
      made.set('env', 'test')
      made.use(sseMiddleware())
      made.get('/', (_req, res) => res.sse.close())
      const answer = await supertest(made).get('/').set('Accept', accept)
      expect(answer.status).toBe(status)
    })

    it('serves a client that sends no Accept header', async () => {
      const made = express()
      made.use(sseMiddleware())
      made.get('/', (_req, res) => res.sse.close())
      const { port } = await serve(made)
      const socket = net.connect(port, '127.0.0.1')
      let text = ''
      socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
      await until(() => text.endsWith('retry: 2000\n\r\n0\r\n\r\n'), 'the stream arrived')
      expect(text).toMatch(/^HTTP\/1\.1 200/)
      socket.destroy()
    })
  })

  describe('lastEventId', () => {
    const of = async (path: string, header?: string, parser?: 'simple' | 'extended' | false): Promise<unknown> => {
      const request = supertest(app(parser)).get(path)
      if (header !== undefined) void request.set('Last-Event-ID', header)
      return (await request).body as unknown
    }

    it.each<[string, string, string | undefined, string]>([
      ['is empty without a header or a query', '/', undefined, ''],
      ['is the header', '/', 'abc-1/a%2Fb', 'abc-1/a%2Fb'],
      ['is the header when there is also a query', '/?lastEventId=q', 'h', 'h'],
      ['is the query when the header is empty', '/?lastEventId=q', '', 'q'],
      ['is read from lastEventId', '/?lastEventId=q', undefined, 'q'],
      ['is read from last_event_id', '/?last_event_id=q', undefined, 'q'],
      ['is read from Last-Event-ID', '/?Last-Event-ID=q', undefined, 'q'],
      ['is read from evs_last_event_id', '/?evs_last_event_id=q', undefined, 'q'],
      ['is read from the first of these names', '/?evs_last_event_id=4&Last-Event-ID=3&last_event_id=2&lastEventId=1', undefined, '1'],
      ['is the first of repeated values', '/?lastEventId=1&lastEventId=2', undefined, '1'],
      ['skips a name with an empty value', '/?lastEventId=&last_event_id=2', undefined, '2'],
      ['is decoded from the query', '/?lastEventId=a%2Fb%20c+d%C3%BC', undefined, 'a/b c dü'],
      ['survives a malformed query', '/?lastEventId=%zz&&=&%', undefined, '%zz'],
      ['ignores an array', '/?lastEventId[]=1', undefined, ''],
      ['ignores an array with an index', '/?lastEventId[0]=1', undefined, ''],
      ['ignores an object', '/?lastEventId[a]=1', undefined, ''],
      ['ignores an object next to a string', '/?lastEventId[a]=1&last_event_id=2', undefined, '2'],
      ['ignores other names', '/?lasteventid=1&last-event-id=2&__proto__=3', undefined, ''],
    ])('%s', async (_what, path, header, expected) => {
      expect(await of(path, header)).toBe(expected)
    })

    it.each(['simple', false] as const)('works with the query parser of Express set to %p', async (parser) => {
      expect(await of('/?lastEventId=q', undefined, parser)).toBe('q')
    })

    it('works in a router that is mounted at a path', async () => {
      const made = express()
      const router = express.Router()
      router.get('/b', (_req: Request, res: Response) => void res.json(res.sse.lastEventId))
      made.use(sseMiddleware())
      made.use('/a', router)
      const answer = await supertest(made).get('/a/b?lastEventId=q')
      expect(answer.body).toBe('q')
    })

    it('is decoded from the header as UTF-8', async () => {
      const { port } = await serve(app())
      const socket = net.connect(port, '127.0.0.1')
      let text = ''
      socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      socket.write(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nLast-Event-ID: ü😀\r\n\r\n'))
      await until(() => text.includes('"'.repeat(1)) && text.trimEnd().endsWith('"'), 'the answer arrived')
      expect(text).toMatch(/"ü😀"$/)
      socket.destroy()
    })
  })
})
