import { once } from 'node:events'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import vm from 'node:vm'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { Hub, sseMiddleware, type SseMiddlewareOptions, type SseStream } from 'express-sse-hub'
import { until, untilBlocked } from '../support/client.ts'

/** The process object outside Jest. Node's own modules emit their warnings only there. */
const realProcess = vm.runInThisContext('process') as NodeJS.Process

type Handler = (sse: SseStream, req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => unknown

const closers: (() => void)[] = []
const warnings: Error[] = []
const onWarning = (warning: Error): void => void warnings.push(warning)

beforeEach(() => {
  warnings.length = 0
  realProcess.on('warning', onWarning)
})
afterEach(async () => {
  for (const close of closers.splice(0)) close()
  await nextTurn()
  realProcess.off('warning', onWarning)
  // oxlint-disable-next-line jest/no-standalone-expect -- holds for every test of this file
  expect(warnings).toEqual([])
})

/** Serves HTTP/2 without TLS and without Express, and opens one session. */
async function open(handler: Handler, options?: SseMiddlewareOptions, timeoutMs = 0) {
  const middleware = sseMiddleware(options)
  const refusals: unknown[] = []
  const server = http2.createServer((req, res) => {
    middleware(req, res, (error) => {
      if (error !== undefined) {
        refusals.push(error)
        res.statusCode = 406
        res.end()
        return
      }
      const { sse } = res as unknown as { sse: SseStream }
      void handler(sse, req, res)
    })
  })
  server.setTimeout(timeoutMs)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const session = http2.connect(url)
  session.on('error', () => {})
  await once(session, 'connect')
  closers.push(() => {
    session.destroy()
    server.close()
  })
  return { server, session, refusals, url }
}

/** Sends a request on a session. */
async function get(session: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders = {}) {
  const stream = session.request({ ':path': '/', accept: 'text/event-stream', ...headers })
  const events: EventSourceMessage[] = []
  const comments: string[] = []
  const client = { stream, events, comments, text: '', ended: false, head: {} as http2.IncomingHttpHeaders }
  const parser = createParser({ onEvent: (event) => events.push(event), onComment: (comment) => comments.push(comment) })
  stream.setEncoding('utf8')
  stream.on('data', (text: string) => {
    client.text += text
    parser.feed(text)
  })
  stream.on('error', () => {}).on('close', () => (client.ended = true))
  client.head = (await once(stream, 'response'))[0] as http2.IncomingHttpHeaders
  return client
}

/** Serves streams that are opened at once, and collects them. */
async function openStreams(options?: SseMiddlewareOptions) {
  const streams: SseStream[] = []
  const { session } = await open((sse) => {
    streams.push(sse)
    sse.open()
  }, options)
  return { session, streams }
}

describe('a stream on HTTP/2', () => {
  it('has the head of an event stream, without a Connection header', async () => {
    const { session } = await open((sse) => sse.open())
    const client = await get(session)
    const { date, ...head } = client.head
    expect(date).toEqual(expect.any(String))
    expect(head).toEqual({
      ':status': 200,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-store, no-transform',
      'x-accel-buffering': 'no',
      [http2.sensitiveHeaders]: [],
    })
    await until(() => client.text === 'retry: 2000\n', 'the retry field arrived')
  })

  it('sends its head at once with `retryMs: false`', async () => {
    const { session } = await open((sse) => sse.open(), { retryMs: false, keepAliveMs: false })
    const client = await get(session)
    expect(client.head[':status']).toBe(200)
    expect(client.text).toBe('')
  })

  it('suspends the timeout of the server until the last stream of the session ends', async () => {
    const streams: SseStream[] = []
    const sessions = new Set<unknown>()
    const { server, session, url } = await open(
      (sse, req) => {
        streams.push(sse)
        sessions.add(req.stream.session)
        sse.open()
      },
      { keepAliveMs: false },
      100,
    )
    const timedOut: unknown[] = []
    server.on('timeout', (quiet: unknown) => timedOut.push(quiet))
    const clients = [await get(session), await get(session)]
    // A newer session without a stream times out. The older session would have timed out before it.
    const idle = http2.connect(url)
    closers.push(() => idle.destroy())
    await until(() => timedOut.length === 1, 'a session without a stream timed out')
    expect([timedOut.some((quiet) => sessions.has(quiet)), sessions.size]).toEqual([false, 1])
    streams[0]?.close()
    await until(() => clients[0]?.ended === true, 'the first stream ended')
    expect(clients[1]?.ended).toBe(false)
    streams[1]?.close()
    await until(() => timedOut.some((quiet) => sessions.has(quiet)), 'the session timed out once it had no stream')
  })

  it('carries events, comments and sources, and ends with close()', async () => {
    const { session } = await open(async (sse) => {
      await sse.send('ü', { event: 'tick', id: '1' })
      await sse.comment('hello')
      await sse.stream([1, 2])
      sse.close({ reconnect: false })
    })
    const client = await get(session)
    await until(() => client.ended, 'the stream has ended')
    expect(client.text).toBe(
      'retry: 2000\nid: 1\nevent: tick\ndata: ü\n\n: hello\ndata: 1\n\ndata: 2\n\nretry: 2000000000\nevent: stream-close\ndata: \n\n',
    )
  })

  it('is independent of the other streams of its session', async () => {
    const { session, streams } = await openStreams()
    const clients = [await get(session), await get(session), await get(session)]
    const { signal } = streams[1] as SseStream
    clients[1]?.stream.close(http2.constants.NGHTTP2_CANCEL)
    await until(() => signal.aborted, 'the second client has left')
    expect(streams.map(({ state }) => state)).toEqual(['open', 'closed', 'open'])
    expect(await Promise.all(streams.map((stream) => stream.send('x')))).toEqual([true, false, true])
    await until(() => clients[0]?.events.length === 1 && clients[2]?.events.length === 1, 'the others have received it')
    expect(clients[1]?.events).toEqual([])
    session.destroy()
    await until(() => streams.every(({ state }) => state === 'closed'), 'all are closed with the session')
  })

  it('subscribes to a hub, unsubscribes when the client leaves, and resumes', async () => {
    const hub = new Hub()
    const { session } = await open((sse) => sse.subscribe(hub, ['a']))
    const first = await get(session)
    await until(() => first.events.length === 1, 'the client is live')
    const id = await hub.publish('a', 'e', 1)
    await until(() => first.events.length === 2, 'the event arrived')
    first.stream.close()
    await until(() => hub.channel('a').subscriberCount === 0, 'the client is unsubscribed')
    await hub.publish('a', 'e', 2)
    const second = await get(session, { 'last-event-id': id })
    await until(() => second.events.length === 2, 'the client has resumed')
    expect(second.events.map(({ event, data }) => (event === 'e' ? data : event))).toEqual(['2', 'stream-open'])
  })

  it('sends keep-alive comments', async () => {
    const { session } = await open((sse) => sse.open(), { keepAliveMs: 20 })
    const client = await get(session)
    await until(() => client.comments.length >= 3, 'three comments arrived')
    expect(client.events).toEqual([])
  })

  it('blocks an awaiting loop while its client does not read, but not the other streams of the session', async () => {
    const { session, streams } = await openStreams({ stallTimeoutMs: false })
    // The streams of a session share its window, and a blocked stream must not use it up.
    session.setLocalWindowSize(1_000_000)
    const slow = await get(session)
    slow.stream.pause()
    const other = await get(session)
    const [stream] = streams as [SseStream]
    let sent = 0
    let over = false
    const loop = (async () => {
      while (await stream.send('x'.repeat(1000))) sent++
      over = true
    })()
    await untilBlocked(() => sent)
    const before = sent
    await streams[1]?.send('quick')
    await until(() => other.events.length === 1, 'the other client has received it')
    expect(over).toBe(false)
    slow.stream.resume()
    await until(() => sent > before + 500, 'the loop continues')
    slow.stream.close(http2.constants.NGHTTP2_CANCEL)
    await loop
    expect(stream.state).toBe('closed')
  })

  it('notices a client that resets its stream without an error while bytes wait for it', async () => {
    const { session, streams } = await openStreams({ stallTimeoutMs: false })
    const client = await get(session)
    client.stream.pause()
    const [stream] = streams as [SseStream]
    const { signal } = stream
    const full = stream.send('x'.repeat(500_000))
    client.stream.close(http2.constants.NGHTTP2_NO_ERROR)
    await until(() => signal.aborted, 'the disconnect is noticed')
    expect(await full).toBe(false)
    expect(stream.state).toBe('closed')
  })

  it('destroys a client that reads nothing for `stallTimeoutMs`', async () => {
    const { session, streams } = await openStreams({ stallTimeoutMs: 100 })
    const slow = await get(session)
    slow.stream.pause()
    const [stream] = streams as [SseStream]
    while (await stream.send('x'.repeat(1000)));
    expect(stream.state).toBe('closed')
  })

  it('keeps a client that reads one flow-control window within `stallTimeoutMs`', async () => {
    const hub = new Hub()
    const { session } = await open((sse) => void sse.subscribe(hub, ['a']), { stallTimeoutMs: 600 })
    const client = await get(session)
    await until(() => client.events.length === 1, 'the client is live')
    // The timer sets the pace of the client. The test does not wait for it.
    client.stream.on('data', () => {
      client.stream.pause()
      setTimeout(() => client.stream.resume(), 90)
    })
    await hub.publish('a', 'item', 'x'.repeat(160_000))
    await until(() => client.events.length === 2, 'the event has arrived')
    expect(client.events[1]?.data).toHaveLength(160_000)
    expect(hub.channel('a').subscriberCount).toBe(1)
  })

  it('is destroyed by more than `maxQueuedBytes` of unawaited sends, and the session stays open', async () => {
    const { session, streams } = await openStreams({ maxQueuedBytes: 50_000 })
    const slow = await get(session)
    slow.stream.pause()
    const [stream] = streams as [SseStream]
    for (let n = 0; n < 5000 && stream.state === 'open'; n++) void stream.send('x'.repeat(1000))
    expect(stream.state).toBe('closed')
    const next = await get(session)
    expect(await streams[1]?.send('x')).toBe(true)
    await until(() => next.events.length === 1, 'the next client receives the event')
  })

  it('answers HEAD with the head alone', async () => {
    const states: string[] = []
    const { session } = await open(async (sse) => {
      states.push(String(await sse.send('x')), sse.state)
    })
    const client = await get(session, { ':method': 'HEAD' })
    await until(() => client.ended && states.length === 2, 'the stream has ended')
    expect(client.head[':status']).toBe(200)
    expect(client.text).toBe('')
    expect(states).toEqual(['false', 'closed'])
  })

  it('discards the body of a POST', async () => {
    const { session } = await open((sse) => sse.send('x'))
    const stream = session.request({ ':path': '/', ':method': 'POST', 'content-length': '1000000' })
    let text = ''
    stream
      .setEncoding('utf8')
      .on('data', (part: string) => (text += part))
      .on('error', () => {})
    const isSent = once(stream, 'finish')
    stream.end('y'.repeat(1_000_000))
    await isSent
    await until(() => text.endsWith('data: x\n\n'), 'the event arrived')
    expect(text).toBe('retry: 2000\ndata: x\n\n')
  })

  it('refuses a client that does not accept event streams through next, once', async () => {
    const results: unknown[] = []
    const { session, refusals } = await open(async (sse) => {
      results.push(sse.open(), await sse.send('x'), sse.state)
    })
    const client = await get(session, { accept: 'application/json' })
    await until(() => client.ended && results.length === 3, 'the stream has ended')
    expect(client.head[':status']).toBe(406)
    expect(refusals).toEqual([expect.objectContaining({ code: 'SSE_NOT_ACCEPTABLE', status: 406 })])
    expect(results).toEqual([false, false, 'closed'])
  })

  it('is closed for a client that leaves during an asynchronous check', async () => {
    const hub = new Hub()
    const outcomes: unknown[] = []
    let isRequested = false
    const { session } = await open(async (sse, _req, res) => {
      isRequested = true
      await once(res, 'close')
      outcomes.push(sse.signal.aborted, sse.open(), await sse.send('x'), (await sse.subscribe(hub, ['a'])).isClosed)
    })
    const stream = session.request({ ':path': '/' })
    stream.on('error', () => {})
    await until(() => isRequested, 'the request has arrived')
    stream.close(http2.constants.NGHTTP2_CANCEL)
    await until(() => outcomes.length === 4, 'the handler is done')
    expect(outcomes).toEqual([true, false, false, true])
    expect(hub.channel('a').subscriberCount).toBe(0)
  })
})
