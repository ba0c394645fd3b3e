import { createParser } from 'eventsource-parser'
import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'
import { until } from '../support/client.ts'
import { hasNginx, Nginx, proxyTo } from '../support/nginx.ts'
import { serve, stopServers } from '../support/servers.ts'

const describeNginx = hasNginx('the tests of a stream behind nginx') ? describe : describe.skip

/** Reads a stream with fetch until it ends or fails. */
async function read(url: string, lastEventId = '') {
  const response = await fetch(url, {
    headers: { accept: 'text/event-stream', ...(lastEventId === '' ? {} : { 'last-event-id': lastEventId }) },
  })
  const items: string[] = []
  const client = { items, lastEventId, ended: null as null | 'end' | Error }
  const parser = createParser({
    onEvent: ({ event, id, data }) => {
      client.lastEventId = id ?? client.lastEventId
      if (event === 'item') items.push(data)
    },
  })
  const decoder = new TextDecoder()
  const drain = async (): Promise<void> => {
    for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) parser.feed(decoder.decode(bytes, { stream: true }))
  }
  drain().then(
    () => (client.ended = 'end'),
    (error: unknown) => (client.ended = error as Error),
  )
  return client
}

describeNginx('a stream behind nginx', () => {
  let nginx: Nginx
  let hub: Hub
  const responses = new Set<express.Response>()
  beforeEach(async () => {
    hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    app.get('/events', async (_req, res) => {
      responses.add(res)
      res.on('close', () => responses.delete(res))
      await res.sse.subscribe(hub, 'a')
    })
    nginx = await Nginx.start({ server: proxyTo((await serve(app)).port) })
  })
  afterEach(async () => {
    await nginx.stop()
    await stopServers()
  })

  const cut = (): void => {
    for (const res of responses) res.destroy()
  }

  it('fails for fetch when cut, and ends when closed, if nginx speaks HTTP/1.1 to the server', async () => {
    for (const [end, expected] of [
      [async () => cut(), expect.objectContaining({ message: 'terminated' }) as unknown],
      [async () => hub.disconnect(() => true), 'end'],
    ] as const) {
      const client = await read(`${nginx.url}/http1.1/events`)
      await until(() => hub.stats().subscribers === 1, 'the client is subscribed')
      await hub.publish('a', 'item', 1)
      await until(() => client.items.length === 1, 'the event arrived')
      await end()
      await until(() => client.ended !== null, 'the response has ended')
      expect(client.ended).toEqual(expected)
    }
  })

  it('appears complete when cut, by default, but resumes exactly from its id', async () => {
    let lastEventId = ''
    const items: string[] = []
    for (let round = 0; round < 3; round++) {
      const client = await read(`${nginx.url}/default/events`, lastEventId)
      await until(() => hub.stats().subscribers === 1, 'the client is subscribed')
      for (let n = 0; n < 5; n++) await hub.publish('a', 'item', `${round} ${n}`)
      await until(() => client.items.at(-1) === `${round} 4`, 'the events arrived')
      cut()
      await until(() => client.ended !== null && hub.stats().subscribers === 0, 'the response has ended')
      expect(client.ended).toBe('end')
      await hub.publish('a', 'item', `${round} away`)
      items.push(...client.items)
      lastEventId = client.lastEventId
    }
    const last = await read(`${nginx.url}/default/events`, lastEventId)
    await until(() => last.items.length === 1, 'the missed event has arrived')
    expect([...items, ...last.items]).toEqual(
      [0, 1, 2].flatMap((round) => [...[0, 1, 2, 3, 4].map((n) => `${round} ${n}`), `${round} away`]),
    )
  })
})
