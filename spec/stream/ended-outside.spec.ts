import { once } from 'node:events'
import net from 'node:net'
import express, { type Request, type Response } from 'express'
import { Hub, type SubscribeOptions, sseMiddleware, type Subscription } from 'express-sse-hub'
import { ChunkedBody } from '../support/chunked-body.ts'
import { until } from '../support/client.ts'
import { serve, stopServers } from '../support/servers.ts'

const sockets: net.Socket[] = []
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await stopServers()
})

/** Opens a stream on a connection with a second request pipelined behind it. */
async function setUp(options: SubscribeOptions & { readonly keepAliveMs?: number } = {}) {
  const { keepAliveMs, ...subscribe } = options
  const hub = new Hub({ replay: { maxBytes: 50_000_000 } })
  const app = express()
  const opened: { res: Response; subscription: Subscription }[] = []
  app.use(sseMiddleware({ keepAliveMs }))
  app.get('/events', async (_req, res) => {
    opened.push({ res, subscription: await res.sse.subscribe(hub, 'a', { owner: 'u', ...subscribe }) })
  })
  app.get('/next', (_req: Request, res) => void res.send('next'))
  const { port } = await serve(app)
  const socket = net.connect(port, '127.0.0.1')
  sockets.push(socket)
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => {})
  await once(socket, 'connect')
  socket.write('GET /events HTTP/1.1\r\nHost: x\r\n\r\n')
  await until(() => opened.length === 1, 'it is subscribed')
  const [{ res, subscription }] = opened as [{ res: Response; subscription: Subscription }]
  socket.write('GET /next HTTP/1.1\r\nHost: x\r\n\r\n')
  return { hub, res, subscription, socket, bytes: () => Buffer.concat(chunks) }
}

/** Separates the body of the stream from the bytes that follow it on the connection. */
function split(bytes: Buffer): { readonly text: string; readonly rest: string; readonly isComplete: boolean } {
  let text = ''
  const body = new ChunkedBody((part) => (text += part.toString()))
  body.feed(bytes.subarray(bytes.indexOf('\r\n\r\n') + 4))
  return { text, rest: body.rest.toString(), isComplete: body.isComplete }
}

describe('a stream whose response the program ends with res.end()', () => {
  it.each<[string, SubscribeOptions & { keepAliveMs?: number }, (all: { hub: Hub; res: Response; subscription: Subscription }) => unknown]>(
    [
      ['the hub disconnects it', {}, ({ hub, res }) => (res.end(), hub.disconnect('u'))],
      ['the hub disconnects it permanently', {}, ({ hub, res }) => (res.end(), hub.disconnect('u', { reconnect: false }))],
      [
        'an event was published in the same turn',
        {},
        ({ hub, res, subscription }) => (void hub.publish('a', 'item', 'late'), res.end(), subscription.close()),
      ],
      [
        'its clean-up closes the subscription',
        {},
        ({ hub, res, subscription }) => (res.on('finish', () => subscription.close()), void hub.publish('a', 'item', 'late'), res.end()),
      ],
      ['events are published afterwards', {}, async ({ hub, res }) => (res.end(), await hub.publish('a', 'item', 'late'))],
      ['a keep-alive is due', { keepAliveMs: 10 }, ({ res }) => res.end()],
      ['the program sends directly', {}, ({ res }) => (res.end(), res.sse.send('late'))],
      ['the program closes it', {}, ({ res }) => (res.end(), res.sse.close({ reconnect: false }))],
    ],
  )('sends nothing after its last chunk when %s', async (_what, options, act) => {
    const all = await setUp(options)
    await act(all)
    await until(() => all.bytes().toString().endsWith('next'), 'the next answer arrived')
    const { text, rest, isComplete } = split(all.bytes())
    expect([isComplete, text.includes('late'), rest.startsWith('HTTP/1.1 200 OK')]).toEqual([true, false, true])
    expect([all.subscription.isClosed, all.res.sse.state, all.hub.stats().subscribers]).toEqual([true, 'closed', 0])
  })

  it('ends at once when a filter makes the call', async () => {
    const responses: Response[] = []
    const all = await setUp({ filter: () => (responses[0]?.end(), true) })
    responses.push(all.res)
    for (let n = 0; n < 3; n++) void all.hub.publish('a', 'item', 'late')
    await until(() => all.bytes().toString().endsWith('next'), 'the next answer arrived')
    expect([split(all.bytes()).isComplete, all.bytes().includes('late')]).toEqual([true, false])
  })

  it('is cut off without a last chunk in the middle of a large event', async () => {
    const all = await setUp()
    all.socket.pause()
    await all.hub.publish('a', 'item', 'x'.repeat(12_000_000))
    await until(() => all.res.socket?.writableNeedDrain === true, 'the socket is full')
    const closed = once(all.socket, 'close')
    all.res.end()
    all.socket.resume()
    await closed
    expect(split(all.bytes()).isComplete).toBe(false)
    expect(all.bytes().includes('HTTP/1.1 200 OK', 100)).toBe(false)
  })
})
