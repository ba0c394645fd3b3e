import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'
import { TestClient, until } from '../support/client.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

async function setUp(keepAlive?: 'comment' | 'event') {
  const hub = new Hub()
  const app = express()
  app.use(sseMiddleware({ keepAliveMs: 20, keepAlive }))
  app.get('/direct', (_req, res) => void res.sse.open())
  app.get('/hub', (_req, res) => res.sse.subscribe(hub, 'a'))
  const { url } = await serve(app)
  return { hub, open: (path: string) => TestClient.open(url + path) }
}

describe("keepAlive: 'event'", () => {
  it('sends an event without an id, which a page can observe', async () => {
    const { open } = await setUp('event')
    const client = await open('/direct')
    await until(() => client.named('stream-alive').length >= 3, 'three have arrived')
    expect(client.text).toMatch(/^retry: 2000\n(event: stream-alive\ndata: \n\n){3,}$/)
    expect(client.comments).toEqual([])
    expect(client.named('stream-alive')[0]).toEqual({ event: 'stream-alive', id: undefined, data: '' })
  })

  it('sends the event after the hub moves the position', async () => {
    const { hub, open } = await setUp('event')
    const client = await (await open('/hub')).live()
    const id = await hub.publish('other', 'item', 1)
    await until(() => client.lastId.startsWith(id.slice(0, id.indexOf('/') + 1)), 'the id has moved')
    const at = client.events.findIndex(({ event }) => event === 'stream-position')
    await until(() => client.events.length > at + 1, 'the next event arrived')
    expect(client.events[at + 1]?.event).toBe('stream-alive')
    expect(client.channelEvents).toEqual([])
  })
})

describe("keepAlive: 'comment'", () => {
  it.each(['comment', undefined] as const)('sends a comment line without a blank line (%p)', async (keepAlive) => {
    const { open } = await setUp(keepAlive)
    const client = await open('/direct')
    await until(() => client.comments.length >= 3, 'three have arrived')
    expect(client.text).toMatch(/^retry: 2000\n(:\n){3,}$/)
    expect(client.events).toEqual([])
  })
})

it('sseMiddleware refuses an unknown keepAlive', () => {
  expect(() => sseMiddleware({ keepAlive: 'ping' as 'event' })).toThrow(
    new TypeError("sseMiddleware: keepAlive must be 'comment' or 'event', got 'ping'"),
  )
})
