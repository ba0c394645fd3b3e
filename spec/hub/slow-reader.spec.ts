import { type HubOptions } from 'express-sse-hub'
import { type TestClient, until } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { range } from '../support/hub-items.ts'
import { stopServers } from '../support/servers.ts'
import { serveHub } from '../support/hub-app.ts'

afterEach(stopServers)

const numbers = (client: TestClient): number[] => client.channelEvents.map(({ data }) => Number.parseInt(data, 10))

describe('the bounds of a log', () => {
  it.each<[string, HubOptions['replay'], number, number]>([
    ['a burst larger than the log in one turn', { maxEvents: 10 }, 500, 200],
    ['a burst larger than the bytes of the log', { maxBytes: 2_000 }, 300, 500],
    ['events larger than the log', { maxBytes: 1_000 }, 4, 300_000],
    ['no replay at all', { maxEvents: 0 }, 300, 200],
  ])('reset no client that keeps up: %s', async (_, replay, count, size) => {
    const { hub, connect } = await serveHub({ hub: { replay } })
    const clients = await Promise.all([(await connect()).live(), (await connect('channels=a,b')).live()])
    const filler = 'x'.repeat(size)
    for (let round = 0; round < 3; round++) {
      for (const n of range(round * count + 1, (round + 1) * count)) void hub.publish('a', 'item', `${n} ${filler}`)
      await Promise.all(clients.map((client) => client.received((round + 1) * count)))
    }
    for (const client of clients) {
      expect(numbers(client)).toEqual(range(1, 3 * count))
      expect(client.named('stream-reset')).toEqual([])
    }
  })

  it('reset a client that was away while its events were dropped, without an event from before', async () => {
    const { hub, connect } = await serveHub({ hub: { replay: { maxEvents: 0 } } })
    const client = await (await connect()).live()
    await hub.publish('a', 'item', '1')
    await client.received(1)
    client.leave()
    await until(() => hub.channel('a').subscriberCount === 0, 'the client has left')
    await hub.publish('a', 'item', '2')
    const again = await (await connect('', client.lastId)).live()
    expect(again.events[0]).toMatchObject({ event: 'stream-reset', data: '{"channels":["a"],"reason":"expired"}' })
    expect(again.channelEvents).toEqual([])
  })
})

describe('a slow reader', () => {
  it.each([['a'], ['a,b']])('of %s receives the events without a gap, then a reset, then every new event', async (channels) => {
    const { hub, connect } = await serveHub({ hub: { replay: { maxEvents: 50 } } })
    const [slow, quick] = await Promise.all([(await connect(`channels=${channels}`)).live(), (await connect()).live()])
    slow.pause()
    const filler = 'x'.repeat(20_000)
    let n = 0
    // More bytes than the kernel takes, at the pace of the client that reads.
    while (n < 1_500) {
      for (const end = n + 10; n < end;) void hub.publish('a', 'item', `${++n} ${filler}`)
      await quick.received(n)
    }
    slow.resume()
    await until(() => slow.named('stream-reset').length > 0, 'the slow reader is reset')
    await hub.publish('a', 'item', `${++n} ${filler}`)
    await until(() => numbers(slow).at(-1) === n, 'the slow reader is live again')
    expect(numbers(quick)).toEqual(range(1, 1_500).concat(quick.channelEvents.length > 1_500 ? [n] : []))

    expect(JSON.parse(slow.named('stream-reset')[0]?.data ?? '')).toMatchObject({ reason: 'slow' })
    // A reset that names the channel precedes each gap.
    const gaps: number[] = []
    let previous = 0
    let isReset = false
    for (const { event, data } of slow.events) {
      if (event === 'stream-reset') isReset = data.includes('"a"')
      if (event !== 'item') continue
      const number = Number.parseInt(data, 10)
      if (number <= previous || (number > previous + 1 && !isReset)) gaps.push(number)
      previous = number
      isReset = false
    }
    expect(gaps).toEqual([])
    expect(previous).toBe(1_501)
  })

  it('receives an event of several megabytes whole, with direct sends before or after it', async () => {
    const { hub, streams, live } = await serveHub()
    const client = await live()
    client.pause()
    const large = 'y'.repeat(24_000_000)
    await hub.publish('a', 'item', large)
    await turn()
    const sent = streams[0]?.send('aside', { event: 'direct' })
    client.resume()
    await until(() => client.named('direct').length > 0, 'the direct event has arrived')
    await sent
    await client.received(2)
    expect(client.events.map(({ event, data }) => [event, data.length])).toEqual([
      ['stream-open', expect.any(Number)],
      ['item', 24_000_000],
      ['direct', 5],
    ])
    expect(client.named('item')[0]?.data === large).toBe(true)
  })
})
