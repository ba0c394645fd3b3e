import { Hub, sseMiddleware } from 'express-sse-hub'
import express from 'express'
import { TestClient, until } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { range } from '../support/hub-items.ts'
import { serve, stopServers } from '../support/servers.ts'
import { serveHub } from '../support/hub-app.ts'
import { subscribe } from '../support/subscribe.ts'

afterEach(stopServers)

const positionOf = (id: string): number => Number(/-(\d+)/.exec(id)?.[1])

const numbers = (client: TestClient): number[] => client.channelEvents.map(({ data }) => Number.parseInt(data, 10))

describe('a filter', () => {
  it('that ends its own subscription or stream lets the events before that arrive', async () => {
    for (const end of ['subscription', 'stream'] as const) {
      const hub = new Hub()
      const app = express()
      app.use(sseMiddleware())
      app.get('/events', async (_req, res) => {
        const subscription = await res.sse.subscribe(hub, ['a'], {
          filter: ({ event }) => {
            if (event === 'done' && end === 'subscription') subscription.close()
            if (event === 'done' && end === 'stream') res.sse.close({ reconnect: false })
            return true
          },
        })
      })
      const { url } = await serve(app)
      const client = await (await TestClient.open(`${url}/events`)).live()
      for (const n of range(1, 5)) void hub.publish('a', 'item', String(n))
      void hub.publish('a', 'done', '')
      await client.received(5)
      await until(() => hub.channel('a').subscriberCount === 0, 'the subscription has ended')
      expect(numbers(client).slice(0, 5)).toEqual([1, 2, 3, 4, 5])
      if (end === 'stream') await client.over()
      expect(client.named('stream-close')).toHaveLength(end === 'stream' ? 1 : 0)
    }
  })

  it('that skips the events after a large one leaves the large one whole', async () => {
    const { hub, live } = await serveHub({
      hub: { replay: { maxEvents: 4, maxBytes: 32_000_000 } },
      subscribe: { filter: ({ event }) => event === 'item' },
    })
    const client = await live()
    client.pause()
    const large = 'y'.repeat(24_000_000)
    void hub.publish('a', 'item', large)
    void hub.publish('a', 'unwanted', '')
    await turn()
    client.resume()
    await until(() => client.named('stream-position').length > 0, 'the id has moved')
    expect(client.events.map(({ event, data }) => [event, event === 'item' ? data.length : 0])).toEqual([
      ['stream-open', 0],
      ['item', 24_000_000],
      ['stream-position', 0],
    ])
    expect(client.named('item')[0]?.data === large).toBe(true)
  })

  it('moves the id of its client although direct sends keep the connection busy', async () => {
    const { hub, streams, live } = await serveHub({
      hub: { replay: { maxAgeMs: 2_000 } },
      sse: { keepAliveMs: 1_000 },
      subscribe: { filter: () => false },
    })
    const client = await live()
    await hub.publish('a', 'item', '1')
    await until(() => {
      void streams[0]?.comment('busy')
      return client.named('stream-position').length > 0
    }, 'the id has moved')
    expect(positionOf(client.lastId)).toBe(positionOf(hub.channel('a').lastEventId))
  })

  it('does not hold the event loop when many clients with a long replay connect in one turn', async () => {
    const hub = new Hub()
    for (const n of range(1, 20)) void hub.publish('a', 'item', n)
    const slow = (): boolean => {
      for (const end = performance.now() + 0.5; performance.now() < end;);
      return true
    }
    const before = performance.now()
    const connections = range(1, 40).map(() => {
      return subscribe(hub, ['a'], '', { filter: slow, rewind: 20 })
    })
    const held = performance.now() - before
    await until(() => connections.every(({ channelEvents }) => channelEvents.length === 20), 'every client has the replay')
    const total = performance.now() - before
    // 400 ms of work in time slices: the first at once, the others with turns between them.
    expect(held).toBeLessThan(total / 4)
  })
})
