import net from 'node:net'
import { Hub, sseMiddleware, type SseStream } from 'express-sse-hub'
import express from 'express'
import { ChunkedBody } from '../support/chunked-body.ts'
import { TestClient, until } from '../support/client.ts'
import { parse, turn } from '../support/fake-connection.ts'
import { range } from '../support/hub-items.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

describe('a subscription', () => {
  it('ends with close() after the events published before, and leaves the stream open for direct sends', async () => {
    const hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    app.get('/events', async (_req, res) => {
      const subscription = await res.sse.subscribe(hub, ['a'])
      void hub.publish('a', 'item', '1')
      subscription.close()
      void hub.publish('a', 'item', '2')
      await res.sse.send(String(subscription.isClosed), { event: 'direct' })
    })
    const { url } = await serve(app)
    const client = await TestClient.open(`${url}/events`)
    await client.received(2)
    expect(client.events.map(({ event, data }) => `${event} ${data.slice(0, 4)}`)).toEqual(['stream-open {"ch', 'item 1', 'direct true'])
    expect(hub.channel('a').subscriberCount).toBe(0)
  })

  it('fails while the stream is idle if the bounds of a channel are invalid, so that the program can answer', async () => {
    const hub = new Hub({ replay: () => ({ maxEvents: -1 }) })
    const app = express()
    app.set('env', 'test')
    app.use(sseMiddleware())
    app.get('/events', async (_req, res) => {
      await res.sse.subscribe(hub, ['a']).catch((error: Error) => res.status(500).send(`${res.sse.state}: ${error.message}`))
    })
    const { url } = await serve(app)
    const answer = await fetch(`${url}/events`)
    expect([answer.status, await answer.text()]).toEqual([500, expect.stringMatching(/^idle: Hub: replay\('a'\)\.maxEvents.*-1/)])
  })

  it('follows a large direct send of the same turn', async () => {
    const app = express()
    app.use(sseMiddleware())
    app.get('/events', (_req, res) => {
      void res.sse.send('s'.repeat(1_048_576), { event: 'state' })
      void res.sse.send('ready', { event: 'ready' })
    })
    const { url } = await serve(app)
    const client = await TestClient.open(`${url}/events`)
    await client.received(2)
    expect(client.events.map(({ event, data }) => [event, data.length])).toEqual([
      ['state', 1_048_576],
      ['ready', 5],
    ])
  })

  it('on a pipelined stream delivers the direct sends from before its turn, and everything after', async () => {
    const hub = new Hub({ replay: { maxBytes: 16_000_000 } })
    const app = express()
    app.use(sseMiddleware())
    const first: express.Response[] = []
    app.get('/first', (_req, res) => void first.push(res))
    const streams: SseStream[] = []
    app.get('/events', async (_req, res) => {
      streams.push(res.sse)
      await res.sse.subscribe(hub, ['a'])
      for (let n = 0; n < 6; n++) void res.sse.send('d'.repeat(10_000), { event: 'direct' })
    })
    const { port } = await serve(app)
    const socket = net.connect(port, '127.0.0.1')
    const bytes: Buffer[] = []
    const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: test\r\n\r\n`
    socket.write(request('/first') + request('/events'))
    await until(() => first.length === 1 && streams.length === 1, 'both requests have arrived')
    // A direct send waits with the response. The subscription begins when it is the response's turn.
    void streams[0]?.send('early', { event: 'direct' })
    expect(hub.channel('a').subscriberCount).toBe(0)
    first[0]?.send('done')
    await until(() => hub.channel('a').subscriberCount === 1, 'the stream is subscribed')
    // More bytes than the kernel takes, so that the stream waits for the client repeatedly.
    for (let n = 1; n <= 80; n++) void hub.publish('a', 'item', `${n} ${'x'.repeat(100_000)}`)
    void hub.publish('a', 'last', 'last')
    await turn()
    let text = ''
    const body = new ChunkedBody((part) => (text += part.toString()))
    socket.on('data', (chunk: Buffer) => bytes.push(chunk))
    await until(() => Buffer.concat(bytes.slice(-2)).includes('data: last\n\n'), 'the last event has arrived')
    const all = Buffer.concat(bytes)
    body.feed(all.subarray(all.lastIndexOf('\r\n\r\n', all.indexOf('retry: ')) + 4))
    const events = parse(text)
    expect(events.filter(({ event }) => event === 'direct')).toHaveLength(7)
    expect(events.filter(({ event }) => event === 'item').map(({ data }) => Number.parseInt(data, 10))).toEqual(range(1, 80))
    socket.destroy()
  })
})
