import diagnosticsChannel from 'node:diagnostics_channel'
import { type DiagnosticMessages, Hub, type HubOptions, type SubscribeOptions } from 'express-sse-hub'
import { join } from '../../lib/hub/subscribable.ts'
import { until } from '../support/client.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { type HubApp, serveHub } from '../support/hub-app.ts'
import { stopServers } from '../support/servers.ts'
import { subscribe } from '../support/subscribe.ts'

const stops: (() => void)[] = []

afterEach(async () => {
  for (const stop of stops.splice(0)) stop()
  jest.restoreAllMocks()
  jest.useRealTimers()
  await stopServers()
})

/** Listens to the diagnostics of a hub until the test ends. */
function listen<K extends keyof DiagnosticMessages>(hub: Hub, kind: K, listener: (message: DiagnosticMessages[K]) => void): void {
  const onMessage = (message: unknown): void => {
    if ((message as DiagnosticMessages[K]).hub === hub) listener(message as DiagnosticMessages[K])
  }
  diagnosticsChannel.subscribe(`express-sse-hub:${kind}`, onMessage)
  stops.push(() => diagnosticsChannel.unsubscribe(`express-sse-hub:${kind}`, onMessage))
}

const setUp = (options: SubscribeOptions = {}, hub: HubOptions = {}): Promise<HubApp> => serveHub({ hub, subscribe: options })

describe('a listener of', () => {
  it('subscribe that disconnects the stream makes room for another', async () => {
    const { hub, connect, subscriptions } = await setUp({ owner: 'k' }, { maxSubscribersPerOwner: 1 })
    const closed: unknown[] = []
    listen(hub, 'close', ({ owner }) => closed.push(owner))
    listen(hub, 'subscribe', ({ owner = '' }) => void hub.disconnect(owner))
    for (let n = 0; n < 3; n++) {
      const client = await connect()
      await client.over()
      expect(client.events.map(({ data }) => data)).toEqual(['{"reason":"disconnected"}'])
    }
    expect(closed).toEqual(['k', 'k', 'k'])
    expect(subscriptions.map((subscription) => subscription.isClosed)).toEqual([true, true, true])
    expect([hub.stats().subscribers, hub.channel('a').subscriberCount]).toEqual([0, 0])
    await hub.close()
  })

  it('subscribe that ends the only other stream of a channel leaves the new one subscribed', async () => {
    const hub = new Hub()
    const streams: FakeConnection[] = []
    listen(hub, 'subscribe', () => streams.at(-1)?.leave())
    streams.push(subscribe(hub, ['a'], '', {}))
    const second = subscribe(hub, ['a'], '', {})
    await hub.publish('a', 'item', 'heard')
    await turn()
    expect(second.channelEvents.map(({ data }) => data)).toEqual(['heard'])
    expect(hub.channel('a').subscriberCount).toBe(1)
  })

  it('publish that ends the last stream leaves the bounds of the log in force', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] })
    const hub = new Hub({ replay: { maxAgeMs: 1_000, maxEvents: 1 } })
    subscribe(hub, ['a'], '', { owner: 'k' })
    listen(hub, 'publish', () => void hub.disconnect('k'))
    await hub.publish('a', 'item', 1)
    for (let n = 0; n < 20; n++) {
      await turn()
      jest.advanceTimersByTime(500)
    }
    expect(hub.stats()).toMatchObject({ channels: 0, logBytes: 0 })
  })

  it('close no longer counts the subscriber', () => {
    const hub = new Hub()
    const connection = subscribe(hub, ['a'], '', {})
    const seen: number[] = []
    listen(hub, 'close', () => seen.push(hub.stats().subscribers))
    connection.leave()
    expect(seen).toEqual([0])
  })

  it('reset that disconnects the stream releases it', async () => {
    const { hub, connect } = await setUp({ owner: 'k', filter: () => true })
    listen(hub, 'reset', () => void hub.disconnect('k'))
    await hub.publish('a', 'item', 1)
    const connection = new FakeConnection()
    hub[join](['a'], { owner: 'k' }, 'forged').begin(connection.asConnection)
    await (await connect()).live()
    await hub.publish('a', 'item', 2)
    expect(connection.channelEvents).toEqual([])
    expect(hub.stats().subscribers).toBe(1)
  })
})

describe('a stream whose subscription the program closed', () => {
  it('is not ended by a drain that began before', async () => {
    const { hub, live, streams, subscriptions } = await setUp()
    for (let n = 0; n < 3; n++) await live()
    const closed = hub.close({ drainMs: 300 })
    await turn()
    subscriptions[2]?.close()
    await closed
    expect([streams[2]?.state, await streams[2]?.send('direct')]).toEqual(['open', true])
  })
})

describe('a predicate of disconnect', () => {
  it('that returns a promise that rejects causes no unhandled rejection', async () => {
    const { hub, live } = await setUp()
    await live()
    const unhandled: unknown[] = []
    const onUnhandled = (error: unknown): void => void unhandled.push(error)
    process.on('unhandledRejection', onUnhandled)
    stops.push(() => process.off('unhandledRejection', onUnhandled))
    await expect(hub.disconnect((() => Promise.reject(new Error('boom'))) as never)).rejects.toThrow('must return a boolean')
    for (let n = 0; n < 3; n++) await turn()
    expect(unhandled).toEqual([])
    expect(hub.stats().subscribers).toBe(1)
  })
})

describe('an onError hook', () => {
  it('that throws a value without a text form becomes a warning, and affects no subscriber', async () => {
    const warning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const hub = new Hub({
      onError: () => {
        // oxlint-disable-next-line typescript/only-throw-error -- the case that is tested
        throw Object.create(null)
      },
    })
    const connection = subscribe(hub, ['a'], '', {
      filter: ({ data }) => {
        if (data === 1) throw new Error('no')
        return true
      },
    })
    await hub.publish('a', 'item', 1)
    await turn()
    await hub.publish('a', 'item', 2)
    await turn()
    expect(connection.channelEvents.map(({ data }) => data)).toEqual(['2'])
    expect(warning).toHaveBeenCalledTimes(1)
  })
})

describe('access that has ended', () => {
  it('prevents direct sends, too', async () => {
    const end = Date.now() + 60_000
    const { live, streams } = await setUp({ expiresAt: end })
    const client = await live()
    jest.spyOn(Date, 'now').mockReturnValue(end)
    expect(await streams[0]?.send('late')).toBe(false)
    await client.over()
    expect(client.text).not.toContain('late')
  })
})

describe('hub.close({ drainMs })', () => {
  it('resolves when every client has left', async () => {
    const { hub, live } = await setUp()
    const clients = [await live(), await live(), await live()]
    let isClosed = false
    const closed = hub.close({ drainMs: 600_000 }).then(() => (isClosed = true))
    for (const client of clients) client.leave()
    await until(() => isClosed, 'the hub is closed')
    await closed
    expect(hub.stats().subscribers).toBe(0)
  })
})
