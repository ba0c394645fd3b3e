import type { Server } from 'node:http'
import { Hub, sseMiddleware } from 'express-sse-hub'
import express from 'express'
import { join } from '../lib/hub/subscribable.ts'
import { TestClient, until } from './support/client.ts'
import { FakeConnection, turn } from './support/fake-connection.ts'
import { collectGarbage } from './support/garbage.ts'
import { serve, stopServers } from './support/servers.ts'

afterEach(stopServers)

async function memory(): Promise<{ heap: number; buffers: number }> {
  for (let n = 0; n < 5; n++) {
    collectGarbage()
    await turn()
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return { heap: heapUsed, buffers: arrayBuffers }
}

async function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve) => server.getConnections((_error, count) => resolve(count)))
}

describe('what is kept for long', () => {
  it('is not kept by names and keys that were cut from large strings', async () => {
    const hub = new Hub({ replay: { latestPerKey: true } })
    const before = await memory()
    for (let n = 0; n < 60; n++) {
      const body = `channel number ${n};key number ${n};${'x'.repeat(1_000_000)}`
      const [channel = '', key = ''] = body.split(';')
      await hub.publish(channel, 'item', n, { key, idempotencyKey: key })
      const connection = new FakeConnection()
      hub[join]([channel], { owner: key }, '').begin(connection.asConnection)
    }
    expect((await memory()).heap - before.heap).toBeLessThan(6_000_000)
    expect(hub.stats().subscribers).toBe(60)
  })

  it('is little more than what small logs count, beside a busy one', async () => {
    const hub = new Hub({ replay: { maxEvents: 1 } })
    const before = await memory()
    for (let n = 0; n < 500; n++) {
      await hub.publish(`quiet ${n}`, 'item', 'x')
      for (let m = 0; m < 200; m++) await hub.publish('busy', 'item', 'x')
    }
    const { buffers } = await memory()
    expect(buffers - before.buffers).toBeLessThan(500 * 1_000)
    expect(hub.stats().channels).toBe(501)
  })
})

describe('after 10,000 connects and disconnects', () => {
  it('nothing is left: no subscriber, no timer, no listener, and the heap is flat', async () => {
    const hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    app.get('/events', (req, res) => res.sse.subscribe(hub, ['a', `user:${req.query['user'] as string}`]))
    const { url, server } = await serve(app)
    let clients = 0
    const connect = async (): Promise<void> => {
      const client = await TestClient.open(`${url}/events?user=${clients++}`)
      client.leave()
    }
    const round = async (count: number): Promise<number> => {
      for (let n = 0; n < count; n += 50) await Promise.all(Array.from({ length: 50 }, connect))
      await until(() => hub.channel('a').subscriberCount === 0, 'all are gone')
      while ((await connectionsOf(server)) > 0) await turn()
      return (await memory()).heap
    }
    const setTimer = jest.spyOn(globalThis, 'setInterval')
    const clearTimer = jest.spyOn(globalThis, 'clearInterval')
    const listeners = server.eventNames().map((name) => server.listenerCount(name))
    const before = await round(2_000)
    const after = await round(8_000)
    const timers = setTimer.mock.results.map(({ value }) => value as unknown)
    const cleared = new Set(clearTimer.mock.calls.map(([timer]) => timer as unknown))
    setTimer.mockRestore()
    clearTimer.mockRestore()
    expect(timers.length).toBeGreaterThan(0)
    expect(timers.filter((timer) => !cleared.has(timer))).toEqual([])
    expect(server.eventNames().map((name) => server.listenerCount(name))).toEqual(listeners)
    expect(hub.channel('user:1').subscriberCount).toBe(0)
    // 8,000 more streams: 100 bytes each would show.
    expect(after - before).toBeLessThan(2_000_000)
  })
})

describe('the memory of logs', () => {
  /** Publishes a small event to each of many channels; how many bytes the hub holds afterwards, and how many it counts. */
  async function holdSmall(channels: number, maxTotalBytes: number): Promise<{ hub: Hub; held: number; counted: number }> {
    const hub = new Hub({ maxTotalBytes })
    const before = await memory()
    for (let n = 0; n < channels; n++) await hub.publish(`user:${n}`, 'notification', 'x')
    const after = await memory()
    return { hub, held: after.heap - before.heap + after.buffers - before.buffers, counted: hub.stats().logBytes }
  }

  it('is what is counted, for channels with one small event too', async () => {
    const { hub, held, counted } = await holdSmall(20_000, 268_435_456)
    expect(hub.stats().channels).toBe(20_000)
    expect(held / counted).toBeLessThan(1.3)
    expect(held / counted).toBeGreaterThan(0.7)
  })

  it('is bounded by maxTotalBytes, however many channels there were', async () => {
    const { hub, held, counted } = await holdSmall(60_000, 20_000_000)
    expect(counted).toBeLessThanOrEqual(20_000_000)
    expect(counted).toBeGreaterThan(19_000_000)
    expect(held / counted).toBeLessThan(1.3)
    expect(hub.stats().channels).toBeLessThan(10_000)
  })

  it('is let go of when the bound of all logs drops their events', async () => {
    const hub = new Hub({ maxTotalBytes: 1_000_000 })
    const before = await memory()
    const large = 'x'.repeat(2_000_000)
    for (let n = 0; n < 50; n++) await hub.publish(`c${n}`, 'item', large)
    const after = await memory()
    expect(hub.channel('c49').lastEventId).not.toBe('')
    expect(after.buffers - before.buffers).toBeLessThan(8_000_000)
  })

  it('stays near what is kept, however much was published', async () => {
    const hub = new Hub({ replay: { maxEvents: 1 } })
    const before = await memory()
    for (let n = 0; n < 500; n++) {
      for (let i = 0; i < 400; i++) void hub.publish(`c${n}`, 'item', 'x'.repeat(100))
      await turn()
    }
    const after = await memory()
    expect(hub.channel('c499').lastEventId).not.toBe('')
    // One event of 150 bytes each is kept, in a page of a few KiB.
    expect(after.buffers - before.buffers).toBeLessThan(500 * 9_000)
    expect(after.heap - before.heap).toBeLessThan(500 * 6_000)
  })

  it('does not grow by what filters read when they replay', async () => {
    const hub = new Hub({ replay: { maxEvents: 20 } })
    const round = async (count: number): Promise<void> => {
      for (let n = 0; n < count; n++) {
        for (let i = 0; i < 20; i++) void hub.publish('a', 'item', { filler: 'x'.repeat(2_000) })
        const connection = new FakeConnection()
        hub[join](['a'], { rewind: 20, filter: () => true }, '').begin(connection.asConnection)
        connection.leave()
        await turn()
      }
    }
    await round(50)
    const before = await memory()
    await round(300)
    const after = await memory()
    expect(after.buffers - before.buffers).toBeLessThan(4_000_000)
    expect(after.heap - before.heap).toBeLessThan(4_000_000)
  })
})
