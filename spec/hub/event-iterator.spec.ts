import { Hub, type HubEvent, type ResetEvent, sseMiddleware } from 'express-sse-hub'
import express from 'express'
import { TestClient, until } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { brief, numberOf, publishNumbers, range, take, takeUntil } from '../support/hub-items.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

describe('hub.events()', () => {
  it('gives id, channel, event and data of each event since the call, and none from before', async () => {
    const hub = new Hub()
    await publishNumbers(hub, 'a', [0])
    const items = hub.events(['a'])
    const ids = [
      await hub.publish('a', 'made', { at: new Date(0), gone: undefined, list: [1, { two: 2 }] }),
      await hub.publish('a', 'message', 'a\r\nb\n'),
      await hub.publish('a', 'none', null),
      await hub.publish('a', 'text', '{"n":1}'),
    ]
    expect(await take(items, 4)).toEqual([
      { id: ids[0], channel: 'a', event: 'made', data: { at: '1970-01-01T00:00:00.000Z', list: [1, { two: 2 }] } },
      { id: ids[1], channel: 'a', event: 'message', data: 'a\nb\n' },
      { id: ids[2], channel: 'a', event: 'none', data: null },
      { id: ids[3], channel: 'a', event: 'text', data: '{"n":1}' },
    ])
  })

  it('gives an event of the same turn as the call', async () => {
    const hub = new Hub()
    const items = hub.events(['a'])
    void hub.publish('a', 'item', 1)
    expect((await take(items, 1)).map(brief)).toEqual(['a 1'])
  })

  it('answers a pending next() with the next event', async () => {
    const hub = new Hub()
    const items = hub.events(['a'])
    const pending = items.next()
    const id = await hub.publish('a', 'item', 1)
    expect(await pending).toEqual({ done: false, value: { id, channel: 'a', event: 'item', data: 1 } })
  })

  it('gives deeply frozen data, which is never the object of the publisher', async () => {
    const hub = new Hub()
    const items = hub.events(['a'])
    const order = { id: 1, lines: [{ count: 2 }] }
    void hub.publish('a', 'item', order)
    order.id = 2
    const [item] = (await take(items, 1)) as [HubEvent]
    const data = item.data as typeof order
    expect(data).toEqual({ id: 1, lines: [{ count: 2 }] })
    expect([item, data, data.lines, data.lines[0]].map((value) => Object.isFrozen(value))).toEqual([true, true, true, true])
    expect(Object.isFrozen(order)).toBe(false)
  })

  it('decodes data with the deserialize option of the hub, and gives strings unchanged', async () => {
    const hub = new Hub({ serialize: (value) => `<${String(value)}>`, deserialize: (text) => ({ text }) })
    const items = hub.events(['a'])
    void hub.publish('a', 'item', 1)
    void hub.publish('a', 'item', '<2>')
    expect((await take(items, 2)).map(({ data }) => data)).toEqual([{ text: '<1>' }, '<2>'])
  })

  it('gives the events of several channels once and in the order of publishing, even if a channel is named twice', async () => {
    const hub = new Hub()
    const items = hub.events(['b', 'a', 'c', 'a'])
    for (const n of range(1, 60)) void hub.publish(['a', 'b', 'b', 'other', 'c'][n % 5] as string, 'item', n)
    expect((await take(items, 48)).map(numberOf)).toEqual(range(1, 60).filter((n) => n % 5 !== 3))
    await publishNumbers(hub, 'b', [61])
    expect((await take(items, 1)).map(brief)).toEqual(['b 61'])
  })

  it('gives every event to each of several iterators, at its own pace', async () => {
    const hub = new Hub()
    const [quick, slow] = [hub.events(['a']), hub.events(['a'])]
    for (const n of range(1, 20)) {
      void hub.publish('a', 'item', n)
      expect((await take(quick, 1)).map(numberOf)).toEqual([n])
    }
    expect((await take(slow, 20)).map(numberOf)).toEqual(range(1, 20))
  })

  it('feeds a stream of another shape, and ends when the client of that stream leaves', async () => {
    const hub = new Hub()
    const app = express()
    app.use(sseMiddleware())
    app.get('/', ({ path }, { sse }) =>
      sse.stream(hub.events(['a'], { lastEventId: sse.lastEventId }), ({ id, data }) => ({ id, data: { n: data, path } })),
    )
    const { url } = await serve(app)
    const [first = '', second = ''] = await publishNumbers(hub, 'a', [1, 2])
    const client = await TestClient.open(url, { headers: { 'last-event-id': first } })
    const third = await hub.publish('a', 'item', 3)
    await client.received(2)
    expect(client.events.map(({ id, data }) => [id, data])).toEqual([
      [second, '{"n":2,"path":"/"}'],
      [third, '{"n":3,"path":"/"}'],
    ])
    client.leave()
    await until(() => hub.channel('a').subscriberCount === 0, 'the iterator has ended')
  })

  it('reports an event that deserialize cannot decode once, and leaves it out', async () => {
    const reported: string[] = []
    const hub = new Hub({
      deserialize: (text) => {
        if (text.includes('bad')) throw new Error(`cannot read ${text}`)
        return JSON.parse(text)
      },
      onError: (error, { where }) => reported.push(`${where}: ${String(error)}`),
    })
    const items = hub.events(['a'])
    const nexts = [items.next(), items.next()]
    void hub.publish('a', 'item', { bad: 1 })
    void hub.publish('a', 'item', 2)
    void hub.publish('a', 'item', { bad: 3 })
    void hub.publish('a', 'item', 'bad 4')
    const results = await Promise.all(nexts)
    expect(results.map(({ value }) => (value as HubEvent).data)).toEqual([2, 'bad 4'])
    expect(reported).toEqual(['deserialize: Error: cannot read {"bad":1}', 'deserialize: Error: cannot read {"bad":3}'])
  })

  it('reports an event that cannot be decoded once, however many iterators pass it', async () => {
    const faults: string[] = []
    const hub = new Hub({
      deserialize: () => {
        throw new Error('unreadable')
      },
      onError: (_error, { where }) => faults.push(where),
    })
    await hub.publish('a', 'item', { n: 1 })
    for (let n = 0; n < 3; n++) {
      const items = hub.events(['a'], { rewind: 1 })
      void items.next()
      await turn()
      await items.return?.()
      await turn()
    }
    expect(faults).toEqual(['deserialize'])
  })

  it('gives frozen resets', async () => {
    const [reset] = await takeUntil(new Hub().events(['a'], { lastEventId: 'garbage' }), () => true)
    const { data } = reset as ResetEvent
    expect([reset, data, data.channels].map((value) => Object.isFrozen(value))).toEqual([true, true, true])
  })

  it('counts its events and resets, but not as a subscriber', async () => {
    const hub = new Hub({ replay: { maxEvents: 1 } })
    const items = hub.events(['a'], { lastEventId: 'garbage' })
    await take(items, 1)
    await publishNumbers(hub, 'a', [1])
    await take(items, 1)
    expect(hub.stats()).toMatchObject({ subscribers: 0, delivered: 1, resets: 1 })
    expect(hub.channel('a').subscriberCount).toBe(1)
  })
})
