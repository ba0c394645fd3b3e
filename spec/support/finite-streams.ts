import { setImmediate as nextTurn } from 'node:timers/promises'
import type express from 'express'
import type { NextFunction, Request, Response } from 'express'
import { Hub, type SseError, sseMiddleware, type SseStream } from 'express-sse-hub'

/** A request that every tool which calls an app without a server can make. */
export interface ToolRequest {
  readonly url: string
  readonly method?: 'GET' | 'HEAD'
  readonly headers?: Readonly<Record<string, string>>
}

export interface ToolAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

export type ToolCall = (request: ToolRequest) => Promise<ToolAnswer>

/** Text that is sent `KIBS` times, which is more than the buffers of a response hold. */
const KIB = 'x'.repeat(1_000)
const KIBS = 200

const OPENED = 'id: <id>/\nevent: stream-open\ndata: {"channels":["a"],"replayed":2,"keepAliveMs":15000}\n\n'
const REPLAYED = `retry: 2000\nid: <id>/a\nevent: item\ndata: 2\n\nid: <id>/a\nevent: item\ndata: 3\n\n${OPENED}`
const CLOSE = 'retry: 2000000000\nevent: stream-close\ndata: \n\n'

/** Makes an app whose streams end by themselves. `GET /state` returns the state of all previous streams. */
export function finiteApp(factory: typeof express) {
  const streams: SseStream[] = []
  /** Reports since the last `GET /state`. */
  const reports: string[] = []
  const onError = (error: unknown): void => void reports.push(String(error))
  const hubs: Hub[] = []
  const hubOfThree = async (): Promise<{ hub: Hub; firstId: string }> => {
    const hub = new Hub({ onError })
    hubs.push(hub)
    const firstId = await hub.publish('a', 'item', 1)
    for (const n of [2, 3]) await hub.publish('a', 'item', n)
    return { hub, firstId }
  }
  const app = factory()
  app.use(sseMiddleware({ onError }))
  app.get('/state', (_req, res) => {
    const all = {
      states: streams.map(({ state }) => state),
      aborted: streams.map(({ signal }) => signal.aborted),
      subscribers: hubs.map((hub) => hub.stats().subscribers),
      reports: reports.splice(0),
    }
    res.type('text').send(JSON.stringify(all))
  })
  app.use((_req: Request, res: Response, next: NextFunction) => {
    streams.push(res.sse)
    next()
  })
  app.get('/sends', async (_req, res) => {
    res.set('Set-Cookie', 'seen=yes')
    void res.sse.send(1)
    await res.sse.send({ n: 2 }, { event: 'item', id: 7 })
    await res.sse.comment('bye')
    res.sse.close()
  })
  app.get('/unawaited', (_req, res) => {
    void res.sse.send('äöü €')
    void res.sse.send('two\nlines')
    res.sse.close({ reconnect: false })
  })
  app.get('/source', async (_req, res) => {
    const isWhole = await res.sse.stream(
      (async function* () {
        yield* ['a', 'b']
      })(),
      { event: 'token', end: true },
    )
    if (!isWhole) reports.push('the stream was cut')
  })
  app.get('/large', async (_req, res) => {
    for (let n = 0; n < KIBS; n++) if (!(await res.sse.send(KIB))) reports.push('the send had no room')
    res.sse.close()
  })
  app.get('/rewind', async (_req, res) => {
    const { hub } = await hubOfThree()
    await res.sse.subscribe(hub, 'a', { rewind: 2 })
    await hub.publish('a', 'item', 4)
    res.sse.close({ reconnect: false })
  })
  app.get('/resume', async (req, res) => {
    const { hub, firstId } = await hubOfThree()
    req.headers['last-event-id'] = firstId
    const subscription = await res.sse.subscribe(hub, 'a')
    subscription.close()
    await subscription.ended
    res.sse.close()
  })
  app.get('/shutdown', async (_req, res) => {
    const { hub } = await hubOfThree()
    await res.sse.subscribe(hub, 'a', { rewind: 2 })
    await hub.close()
    reports.push('the hub is closed')
  })
  app.get('/nothing', (_req, res) => res.sse.close({ reconnect: false }))
  app.use((error: SseError, _req: Request, res: Response, _next: NextFunction) => void res.status(error.status).send(error.code))
  return app
}

/** Defines tests that a tool which calls an app without a server receives complete streams. */
export function testFiniteStreams(start: () => ToolCall | Promise<ToolCall>): void {
  let call: ToolCall
  beforeAll(async () => {
    call = await start()
  })

  /** Returns the state of all streams so far. */
  const state = async () =>
    JSON.parse((await call({ url: '/state' })).body) as { states: string[]; aborted: boolean[]; subscribers: number[]; reports: string[] }

  const expectAllClosed = async () => {
    const all = await state()
    expect(all.reports).toEqual([])
    expect(new Set(all.states)).toEqual(new Set(['closed']))
    expect(new Set(all.aborted)).toEqual(new Set([true]))
    expect(all.subscribers.every((count) => count === 0)).toBe(true)
  }

  it.each([
    ['sends', '/sends', 'retry: 2000\ndata: 1\n\nid: 7\nevent: item\ndata: {"n":2}\n\n: bye\n'],
    ['unawaited sends, and a permanent close', '/unawaited', `retry: 2000\ndata: äöü €\n\ndata: two\ndata: lines\n\n${CLOSE}`],
    ['a source', '/source', `retry: 2000\nevent: token\ndata: a\n\nevent: token\ndata: b\n\n${CLOSE}`],
    ['more data than a response buffers', '/large', `retry: 2000\n${`data: ${KIB}\n\n`.repeat(KIBS)}`],
    ['a subscription with a rewind', '/rewind', `${REPLAYED}id: <id>/a\nevent: item\ndata: 4\n\n${CLOSE}`],
    ['a subscription that resumes and is closed', '/resume', REPLAYED],
  ])('receives all of %s, and no stream stays open', async (_what, url, body) => {
    const answer = await call({ url })
    expect(answer.status).toBe(200)
    expect(answer.body.replaceAll(/\w{10}-\d+/g, '<id>')).toBe(body)
    await expectAllClosed()
  })

  it('receives the head that a client receives', async () => {
    const { headers } = await call({ url: '/sends' })
    const { 'content-type': type, 'cache-control': control, 'x-accel-buffering': buffering, 'set-cookie': cookie } = headers
    expect([type, control, buffering]).toEqual(['text/event-stream; charset=utf-8', 'no-cache, no-store, no-transform', 'no'])
    expect([cookie].flat()).toEqual(['seen=yes'])
    for (const name of ['content-length', 'content-encoding', 'etag', 'connection']) expect(headers).not.toHaveProperty(name)
  })

  it('receives only the head for HEAD', async () => {
    const answer = await call({ url: '/sends', method: 'HEAD' })
    expect([answer.status, answer.headers['content-type'], answer.body]).toEqual([200, 'text/event-stream; charset=utf-8', ''])
    await expectAllClosed()
  })

  it('receives 204 from a stream that is closed before its head', async () => {
    const answer = await call({ url: '/nothing' })
    expect([answer.status, answer.body]).toEqual([204, ''])
    await expectAllClosed()
  })

  it('receives 406 if it does not accept event streams', async () => {
    const answer = await call({ url: '/unawaited', headers: { accept: 'image/png' } })
    expect([answer.status, answer.body]).toEqual([406, 'SSE_NOT_ACCEPTABLE'])
    await expectAllClosed()
  })

  it('receives the end of a subscription when the hub closes, and does not keep the hub from closing', async () => {
    const { body } = await call({ url: '/shutdown' })
    const text = body.replaceAll(/\w{10}-\d+/g, '<id>')
    expect(text.startsWith(REPLAYED)).toBe(true)
    expect(text.slice(REPLAYED.length)).toMatch(/^retry: [1-5]\d{3}\nevent: stream-end\ndata: \{"reason":"closing"\}\n\n$/)
    let reports: string[] = []
    for (let n = 0; reports.length === 0 && n < 500; n++) {
      await nextTurn()
      ;({ reports } = await state())
    }
    expect(reports).toEqual(['the hub is closed'])
  })
}
