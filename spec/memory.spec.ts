import { Hub, sseMiddleware } from 'express-sse-hub'
import express from 'express'
import { join } from '../lib/hub/subscribable.ts'
import { TestClient, until } from './support/client.ts'
import { FakeConnection, turn } from './support/fake-connection.ts'
import { collectGarbage } from './support/garbage.ts'
import { connectionsLeft, serve, stopServers } from './support/servers.ts'

afterEach(stopServers)

async function memory(): Promise<{ heap: number; buffers: number }> {
  for (let n = 0; n < 5; n++) {
    collectGarbage()
    await turn()
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return { heap: heapUsed, buffers: arrayBuffers }
}

describe('the memory of a hub', () => {
  it('does not retain large strings of which names and keys are parts', async () => {
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

  it('is little more than the size of its small logs while another channel is busy', async () => {
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

describe('10,000 connects and disconnects', () => {
  it('leave no subscriber, no timer and no listener, and do not grow the heap', async () => {
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
      await until(() => hub.channel('a').subscriberCount === 0, 'all clients are unsubscribed')
      await connectionsLeft(server, 0)
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
    // The limit detects a leak of 250 bytes for each of the 8,000 streams.
    expect(after - before).toBeLessThan(2_000_000)
  })
})

describe('the memory of logs', () => {
  /** Publishes a small event to each of many channels, and returns the bytes that the hub holds and the bytes that it counts. */
  async function holdSmall(channels: number, maxTotalBytes: number): Promise<{ hub: Hub; held: number; counted: number }> {
    const hub = new Hub({ maxTotalBytes })
    const before = await memory()
    for (let n = 0; n < channels; n++) await hub.publish(`user:${n}`, 'notification', 'x')
    const after = await memory()
    return { hub, held: after.heap - before.heap + after.buffers - before.buffers, counted: hub.stats().logBytes }
  }

  it('matches the counted size even for channels with one small event', async () => {
    const { hub, held, counted } = await holdSmall(20_000, 268_435_456)
    expect(hub.stats().channels).toBe(20_000)
    expect(held / counted).toBeLessThan(1.3)
    expect(held / counted).toBeGreaterThan(0.7)
  })

  it('is bounded by maxTotalBytes for any number of channels', async () => {
    const { hub, held, counted } = await holdSmall(60_000, 20_000_000)
    expect(counted).toBeLessThanOrEqual(20_000_000)
    expect(counted).toBeGreaterThan(19_000_000)
    expect(held / counted).toBeLessThan(1.3)
    expect(hub.stats().channels).toBeLessThan(10_000)
  })

  it('is released when maxTotalBytes drops events', async () => {
    const hub = new Hub({ maxTotalBytes: 1_000_000 })
    const before = await memory()
    const large = 'x'.repeat(2_000_000)
    for (let n = 0; n < 50; n++) await hub.publish(`c${n}`, 'item', large)
    const after = await memory()
    expect(hub.channel('c49').lastEventId).not.toBe('')
    expect(after.buffers - before.buffers).toBeLessThan(8_000_000)
  })

  it('stays near the size of the kept events after many publishes', async () => {
    const hub = new Hub({ replay: { maxEvents: 1 } })
    const before = await memory()
    for (let n = 0; n < 500; n++) {
      for (let i = 0; i < 400; i++) void hub.publish(`c${n}`, 'item', 'x'.repeat(100))
      await turn()
    }
    const after = await memory()
    expect(hub.channel('c499').lastEventId).not.toBe('')
    // Each channel keeps one event of 150 bytes in a page of a few KiB.
    expect(after.buffers - before.buffers).toBeLessThan(500 * 9_000)
    expect(after.heap - before.heap).toBeLessThan(500 * 6_000)
  })

  it('does not grow when filters read replayed events', async () => {
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
