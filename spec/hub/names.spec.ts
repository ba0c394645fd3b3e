import { channelOf, Hub, type SseError } from 'express-sse-hub'
import { join } from '../../lib/hub/subscribable.ts'
import { FakeConnection } from '../support/fake-connection.ts'

function recorder() {
  const faults: { code: string; message: string; where: string }[] = []
  const hub = new Hub({
    onError: (error, { where }) => faults.push({ code: (error as SseError).code, message: (error as SseError).message, where }),
  })
  return { hub, faults }
}

describe('a name with a missing value', () => {
  it.each(['user:undefined', 'undefined', 'undefined:user', 'user:NaN', 'a/NaN/b', 'org:undefined:user:5', 'a.undefined', 'a|NaN'])(
    'as a channel is reported once, whichever call uses it: %s',
    async (name) => {
      const { hub, faults } = recorder()
      for (let n = 0; n < 3; n++) await hub.publish(name, 'item', n)
      hub[join](['a', name], {}, '').cancel()
      await hub.events(name).return()
      expect(faults).toEqual([{ code: 'SSE_INVALID_CHANNEL', where: 'channel', message: expect.stringContaining(`'${name}'`) as string }])
      expect(hub.stats().published).toBe(3)
    },
  )

  it('as an owner is reported once', () => {
    const { hub, faults } = recorder()
    for (let n = 0; n < 3; n++) hub[join](['a'], { owner: 'user:undefined' }, '').cancel()
    expect(faults).toEqual([{ code: 'SSE_INVALID_OWNER', where: 'owner', message: expect.stringContaining("'user:undefined'") as string }])
  })

  it.each(['user:undefinedness', 'NaNcy', 'my-undefined-thing', 'user:null', 'Undefined', 'a'])(
    'is not a name that only looks like one: %s',
    async (name) => {
      const { hub, faults } = recorder()
      await hub.publish(name, 'item', 1)
      hub[join](name, { owner: name }, '').cancel()
      expect(faults).toEqual([])
    },
  )

  it('is reported for a limited number of names', async () => {
    const { hub, faults } = recorder()
    for (let n = 0; n < 1_000; n++) await hub.publish(`user:undefined:${n}`, 'item', n)
    expect(faults).toHaveLength(100)
  })
})

describe('a single channel name', () => {
  it('works like a list of one in subscribe and events()', async () => {
    const hub = new Hub()
    const connection = new FakeConnection()
    hub[join]('orders', {}, '').begin(connection.asConnection)
    const events = hub.events('orders')
    const next = events.next()
    await hub.publish('orders', 'created', 1)
    expect((await next).value).toMatchObject({ channel: 'orders', data: 1 })
    connection.feed?.flush()
    expect(JSON.parse(connection.events[0]?.data ?? '')).toMatchObject({ channels: ['orders'] })
    expect(connection.channelEvents.map(({ data }) => data)).toEqual(['1'])
    await events.return()
  })
})

describe('channelOf', () => {
  it('reads the channel that an event came from', async () => {
    const hub = new Hub()
    for (const channel of ['orders', 'user:7/ü 😀%', 'a/b']) expect(channelOf(await hub.publish(channel, 'item', 1))).toBe(channel)
  })

  it("is '' for an event of the hub's own", () => {
    const connection = new FakeConnection()
    new Hub()[join]('a', {}, '').begin(connection.asConnection)
    expect(channelOf(connection.events[0]?.id ?? '')).toBe('')
  })

  it.each(['', '7', 'not an id', '0123456789-1/%', `0123456789-${2 ** 53}/a`, 'x'.repeat(5_000), undefined as unknown as string])(
    'is undefined for a string that is not an id of a hub: %p',
    (id) => {
      expect(channelOf(id)).toBeUndefined()
    },
  )
})
