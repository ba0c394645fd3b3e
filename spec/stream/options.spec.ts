import { once } from 'node:events'
import net from 'node:net'
import type { Request, Response } from 'express'
import { sseMiddleware, type SseMiddlewareOptions, type StreamOptions } from 'express-sse-hub'
import supertest from 'supertest'
import { deferred } from '../../lib/basics/promises.ts'
import { ChunkedBody } from '../support/chunked-body.ts'
import { TestClient, until } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { stopServers } from '../support/servers.ts'
import { SOURCE_KINDS } from '../support/sources.ts'

afterEach(stopServers)

const TOKENS = { event: 'token', end: true }
const CLOSE = 'retry: 2000000000\nevent: stream-close\ndata: \n\n'

describe.each(EXPRESS_VERSIONS)('stream(source, { event, end }) on %s', (_name, express) => {
  const openStream = (options?: SseMiddlewareOptions) => support.openStream(express, options)

  it('names every event', async () => {
    const { stream, client } = await openStream()
    expect(await stream.stream(['a', { b: 1 }], { event: 'token' })).toBe(true)
    expect(stream.state).toBe('open')
    await client.received(2)
    expect(client.text).toBe('retry: 2000\nevent: token\ndata: a\n\nevent: token\ndata: {"b":1}\n\n')
  })

  it.each<[string, StreamOptions | undefined]>([
    ['{}', {}],
    ['{ event: undefined, end: undefined }', { event: undefined, end: undefined }],
    ['{ event: null }', { event: null }],
    ["{ event: '' }", { event: '' }],
    ["{ event: 'message' }", { event: 'message' }],
    ['{ end: false }', { end: false }],
    ['no options', undefined],
  ])('names no event and leaves the stream open with %s', async (_what, options) => {
    const { stream, client } = await openStream({ retryMs: false })
    expect(await stream.stream(['a'], options)).toBe(true)
    expect(stream.state).toBe('open')
    await client.received(1)
    expect(client.text).toBe('data: a\n\n')
  })

  it.each(SOURCE_KINDS)('closes the stream permanently at the end of %s', async (_kind, { make }) => {
    const { stream, client } = await openStream({ retryMs: false })
    const { source } = await make(['a', 'b'])
    expect(await stream.stream(source, TOKENS)).toBe(true)
    expect(stream.state).toBe('closed')
    await client.over()
    expect(client.response.complete).toBe(true)
    expect(client.text.endsWith(`\n\n${CLOSE}`)).toBe(true)
    expect(client.events.length).toBeGreaterThan(1)
    expect(client.events.slice(0, -1).every(({ event }) => event === 'token')).toBe(true)
  })

  it('closes the stream permanently at the end of an empty source', async () => {
    const { stream, client } = await openStream({ retryMs: false })
    expect(await stream.stream([], TOKENS)).toBe(true)
    await client.over()
    expect(client.text).toBe(CLOSE)
  })

  it('ends a body on HTTP/1.1 with the last chunk, and leaves the connection to the next request', async () => {
    const { port } = await support.serveWith(express, (_req, res) => res.sse.stream(['a'], TOKENS), { retryMs: false })
    const socket = net.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    let wire = ''
    socket.setEncoding('latin1').on('data', (text: string) => (wire += text))
    for (let n = 1; n <= 2; n++) {
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
      await until(() => wire.split('0\r\n\r\n').length === n + 1, `answer ${n} has ended`)
    }
    for (const answer of wire.split('HTTP/1.1 200 OK\r\n').slice(1)) {
      let text = ''
      const body = new ChunkedBody((part) => (text += part))
      body.feed(Buffer.from(answer.slice(answer.indexOf('\r\n\r\n') + 4)))
      expect(body.isComplete).toBe(true)
      expect(body.rest).toHaveLength(0)
      expect(text).toBe(`event: token\ndata: a\n\n${CLOSE}`)
    }
    socket.destroy()
  })

  it('ends a body on HTTP/1.0 with the connection', async () => {
    const { port } = await support.serveWith(express, (_req, res) => res.sse.stream(['a'], TOKENS), { retryMs: false })
    const socket = net.connect(port, '127.0.0.1')
    let wire = ''
    socket.setEncoding('latin1').on('data', (text: string) => (wire += text))
    socket.write('GET / HTTP/1.0\r\nHost: x\r\n\r\n')
    await once(socket, 'end')
    expect(wire.slice(wire.indexOf('\r\n\r\n') + 4)).toBe(`event: token\ndata: a\n\n${CLOSE}`)
  })

  it('ends a response that supertest reads whole', async () => {
    const app = express()
    app.use(sseMiddleware({ retryMs: false }))
    app.get('/', (_req: Request, res: Response) => void res.sse.stream(['a', 'b'], TOKENS))
    const { text } = await supertest(app).get('/').expect(200)
    expect(text).toBe(`event: token\ndata: a\n\nevent: token\ndata: b\n\n${CLOSE}`)
  })

  it.each(SOURCE_KINDS)('leaves the stream open when %s fails', async (_kind, { make, makeFailing, error }) => {
    const { stream, client } = await openStream()
    const { source } = makeFailing?.() ?? (await make(['a', Promise.reject(new Error('source broke'))]))
    await expect(stream.stream(source, TOKENS)).rejects.toThrow(error)
    expect(stream.state).toBe('open')
    await stream.send('after')
    await until(() => client.events.at(-1)?.data === 'after', 'the stream works')
    expect(client.text).not.toContain('stream-close')
  })

  it('leaves the stream open when an item cannot be sent', async () => {
    const { stream, client } = await openStream({ retryMs: false })
    await expect(stream.stream(['a', undefined, 'b'], TOKENS)).rejects.toMatchObject({ code: 'SSE_INVALID_DATA' })
    expect(stream.state).toBe('open')
    await stream.send('after')
    await client.received(2)
    expect(client.text).toBe('event: token\ndata: a\n\ndata: after\n\n')
  })

  it('resolves false when the client leaves before the end', async () => {
    const { stream, client } = await openStream()
    const last = deferred<string>()
    const end = stream.stream(['a', last.promise], TOKENS)
    await client.received(1)
    client.leave()
    expect(await end).toBe(false)
    last.resolve('b')
    expect(stream.state).toBe('closed')
  })

  it('does not prevent a reconnect when close() ends the stream first', async () => {
    const { stream, client } = await openStream()
    const last = deferred<string>()
    const end = stream.stream(['a', last.promise], TOKENS)
    await client.received(1)
    stream.close()
    last.resolve('b')
    expect(await end).toBe(false)
    await client.over()
    expect(client.text).toBe('retry: 2000\nevent: token\ndata: a\n\n')
  })

  it('never answers 204, because the head is sent before the source is read', async () => {
    const { url } = await support.serveWith(express, (_req, res) => res.sse.stream([], TOKENS))
    const client = await TestClient.open(url)
    expect(client.status).toBe(200)
    await client.over()
    expect(client.events.map(({ event }) => event)).toEqual(['stream-close'])
  })

  it.each<[string, unknown, RegExp]>([
    ['an unknown option', { events: 'token' }, /^stream: .*'events'/],
    ['the options of close', { reconnect: false }, /^stream: .*'reconnect'/],
    ['an id', { event: 'token', id: '1' }, /^stream: .*'id'/],
    ['an end that is not a boolean', { end: 'yes' }, /^stream: end must be .*'yes'/],
    ['an end that is null', { end: null }, /^stream: end must be .*null/],
    ['a string', 'token', /^stream: toEvent must be a function or \{ event\?, end\? \}, got 'token'/],
    ['a number', 5, /^stream: toEvent must be a function or \{ event\?, end\? \}, got 5/],
    ['null', null, /^stream: toEvent must be a function or \{ event\?, end\? \}, got null/],
  ])('refuses %s with a TypeError, and does not read the source', async (_what, options, message) => {
    const { stream } = await openStream()
    const source = { [Symbol.iterator]: jest.fn() }
    const refused: unknown = await stream.stream(source, options as StreamOptions).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(TypeError)
    expect((refused as Error).message).toMatch(message)
    expect(source[Symbol.iterator]).not.toHaveBeenCalled()
    expect(stream.state).toBe('open')
  })

  it.each([7, 'a\nb', 'a\rb', {}])('refuses %p as an event name', async (event) => {
    const { stream } = await openStream()
    await expect(stream.stream(['a'], { event: event as string })).rejects.toMatchObject({ code: 'SSE_INVALID_EVENT' })
    expect(stream.state).toBe('open')
  })
})
