import { Hub, type HubEvent, SseError } from 'express-sse-hub'
import { formatId, parseId } from '../../lib/event/event-id.ts'
import { join } from '../../lib/hub/subscribable.ts'
import type { EventFilter, SubscribeOptions } from '../../lib/delivery/subscribe-options.ts'
import { until } from '../support/client.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { sized } from '../support/scale.ts'
import { subscribe } from '../support/subscribe.ts'

describe('Hub', () => {
  describe('publish', () => {
    it('resolves with an id that has the epoch, the position and the channel', async () => {
      const hub = new Hub()
      const before = Date.now() * 1_000
      const id = await hub.publish('user:ä/1', 'created', { n: 1 })
      expect(id).toMatch(/^[0-9a-z]{10}-\d+\/user%3A%C3%A4%2F1$/)
      const position = parseId(id)?.position ?? 0
      expect(position).toBeGreaterThanOrEqual(before)
      expect(position).toBeLessThanOrEqual(Date.now() * 1_000 + 1_000)
    })

    it('gives positions that only grow over all channels, even when the clock is set back', async () => {
      const hub = new Hub()
      const positions: number[] = []
      const now = jest.spyOn(Date, 'now')
      try {
        for (const clock of [2_000_000, 2_000_000, 1_000_000, 2_000_001]) {
          now.mockReturnValue(clock)
          positions.push(parseId(await hub.publish(`c${positions.length % 2}`, 'e', 1))?.position ?? 0)
        }
      } finally {
        now.mockRestore()
      }
      expect(positions).toEqual([2_000_000_000, 2_000_000_001, 2_000_000_002, 2_000_001_000])
    })

    it.each([
      ['an empty channel', '', 'e', 1, 'SSE_INVALID_CHANNEL', "''"],
      ['a channel that is not a string', 7, 'e', 1, 'SSE_INVALID_CHANNEL', '7'],
      ['a channel of 257 units', 'x'.repeat(257), 'e', 1, 'SSE_INVALID_CHANNEL', 'xxx'],
      ['a channel with a lone surrogate', 'a\ud800', 'e', 1, 'SSE_INVALID_CHANNEL', 'd800'],
      ['an empty event', 'c', '', 1, 'SSE_INVALID_EVENT', "''"],
      ['an event with a line break', 'c', 'a\ndata: forged', 1, 'SSE_INVALID_EVENT', 'forged'],
      ['an event with a carriage return', 'c', 'a\rdata: forged', 1, 'SSE_INVALID_EVENT', 'forged'],
      ['an event name of the hub', 'c', 'stream-reset', 1, 'SSE_INVALID_EVENT', 'stream-reset'],
      ['undefined data', 'c', 'e', undefined, 'SSE_INVALID_DATA', 'undefined'],
      ['a function as data', 'c', 'e', () => 1, 'SSE_INVALID_DATA', 'Function'],
      ['a BigInt', 'c', 'e', { n: 1n }, 'SSE_INVALID_DATA', '1n'],
    ])('rejects %s by name, and stores nothing', async (_, channel, event, data, code, shown) => {
      const hub = new Hub()
      const error: unknown = await hub.publish(channel as string, event, data).catch((reason: unknown) => reason)
      expect(error).toBeInstanceOf(SseError)
      expect(error).toMatchObject({ code, message: expect.stringContaining(shown) as string })
      expect(hub.channel('c').lastEventId).toBe('')
    })

    it('names event and channel if data cannot be sent, or if serialize returns no string', async () => {
      await expect(new Hub().publish('c', 'e', 1n)).rejects.toThrow(/^publish 'e' to 'c': data could not be serialised/)
      const hub = new Hub({ serialize: () => 5 as unknown as string })
      await expect(hub.publish('c', 'e', {})).rejects.toThrow(/serialize must return a string, it returned 5/)
    })

    it('rejects circular data, and keeps working', async () => {
      const hub = new Hub()
      const circle: Record<string, unknown> = {}
      circle['self'] = circle
      await expect(hub.publish('c', 'e', circle)).rejects.toMatchObject({ code: 'SSE_INVALID_DATA' })
      await expect(hub.publish('c', 'e', { ok: true })).resolves.toContain('/c')
    })

    it('serialises and encodes once for 1,000 subscribers, which all receive the same buffer', async () => {
      const serialize = jest.fn(JSON.stringify)
      const hub = new Hub({ serialize })
      const connections = Array.from({ length: 1_000 }, () => subscribe(hub, ['c']))
      const opened = connections[0]?.writes.length ?? 0
      const write = jest.spyOn(Buffer.prototype, 'write')
      const from = jest.spyOn(Buffer, 'from')
      await hub.publish('c', 'e', { a: 1 })
      await until(() => connections.every(({ writes }) => writes.length > opened), 'every client has the event')
      const encodings = write.mock.calls.length + from.mock.calls.length
      write.mockRestore()
      from.mockRestore()
      expect(serialize).toHaveBeenCalledTimes(1)
      expect(encodings).toBe(1)
      const buffers = new Set(connections.map((connection) => connection.writes.at(-1)))
      expect(buffers.size).toBe(1)
      expect([...buffers][0]?.toString()).toContain('data: {"a":1}\n\n')
    })

    it('writes all events of a turn to a subscriber at once', async () => {
      const hub = new Hub()
      const connection = subscribe(hub, ['c'])
      const before = connection.writes.length
      for (let n = 0; n < 20; n++) void hub.publish('c', 'e', n)
      await turn()
      expect(connection.writes.length).toBe(before + 1)
      expect(connection.channelEvents.map(({ data }) => Number(data))).toEqual(Array.from({ length: 20 }, (_, n) => n))
    })

    it('writes several events to a subscriber in writes of at most 64 KiB', async () => {
      const hub = new Hub()
      const connection = subscribe(hub, ['c'])
      for (let n = 0; n < 500; n++) void hub.publish('c', 'e', 'x'.repeat(1_000))
      await until(() => connection.channelEvents.length === 500, 'all events are delivered')
      expect(Math.max(...connection.writes.map(({ length }) => length))).toBeLessThanOrEqual(65_536)
      expect(connection.writes.length).toBeLessThan(20)
    })

    it('slows a publisher that awaits down to the pace of the delivery', async () => {
      const hub = new Hub({ replay: { maxEvents: 1 } })
      const connection = subscribe(hub, ['c'])
      const text = 'x'.repeat(100_000)
      // Far more than may wait, in a loop that never leaves the microtask queue by itself.
      const count = sized(400, 150)
      for (let n = 0; n < count; n++) await hub.publish('c', 'e', text)
      const taken = (): number => connection.writes.reduce((sum, { length }) => sum + length, 0)
      await until(() => taken() > count * text.length, 'all events are delivered')
      expect(connection.channelEvents).toHaveLength(count)
      expect(connection.events.filter(({ event }) => event === 'stream-reset')).toHaveLength(0)
    })

    it('yields to the event loop when a publisher loops endlessly', async () => {
      const hub = new Hub()
      subscribe(hub, ['c'])
      const loop = { turns: 0 }
      const count = (): void => {
        if (++loop.turns < 3) setImmediate(count)
      }
      setImmediate(count)
      while (loop.turns < 3) await hub.publish('c', 'e', 1)
      expect(hub.channel('c').lastEventId).not.toBe('')
    })
  })

  describe('channel', () => {
    it('is a handle that creates nothing, counts subscribers and knows the last id', async () => {
      const hub = new Hub()
      const orders = hub.channel('orders')
      expect([orders.name, orders.subscriberCount, orders.lastEventId]).toEqual(['orders', 0, ''])
      const connection = subscribe(hub, ['orders'])
      expect(orders.subscriberCount).toBe(1)
      const id = await orders.publish('created', { n: 1 })
      expect(orders.lastEventId).toBe(id)
      connection.leave()
      expect(orders.subscriberCount).toBe(0)
    })

    it('refuses an invalid name', () => {
      expect(() => new Hub().channel('')).toThrow(/channel name.*''/)
    })
  })

  describe('options', () => {
    it.each([
      [{ replay: { maxEvents: -1 } }, RangeError, /replay\.maxEvents.*-1/],
      [{ replay: { maxEvents: 1.5 } }, RangeError, /replay\.maxEvents.*1\.5/],
      [{ replay: { maxAgeMs: Infinity } }, RangeError, /replay\.maxAgeMs.*Infinity/],
      [{ replay: { maxBytes: '1' } }, TypeError, /replay\.maxBytes.*'1'/],
      [{ replay: { maxEvnets: 1 } }, TypeError, /maxEvnets/],
      [{ replay: 7 }, TypeError, /replay.*7/],
      [{ maxTotalBytes: -1 }, RangeError, /maxTotalBytes.*-1/],
      [{ serialize: 'json' }, TypeError, /serialize.*'json'/],
      [{ deserialize: {} }, TypeError, /deserialize/],
      [{ onError: 1 }, TypeError, /onError.*1/],
      [{ replays: {} }, TypeError, /replays/],
      [null, TypeError, /options/],
    ])('refuses %j and names what is wrong', (options, type, message) => {
      expect(() => new Hub(options as object)).toThrow(type)
      expect(() => new Hub(options as object)).toThrow(message)
    })

    it('takes the bounds of a channel from a function of its name, and names the channel if they are invalid', async () => {
      const hub = new Hub({ replay: (channel) => ({ maxEvents: channel === 'bad' ? -1 : 2 }) })
      for (let n = 0; n < 5; n++) await hub.publish('good', 'e', n)
      expect(subscribe(hub, ['good'], '', { rewind: 9 }).channelEvents.map(({ data }) => data)).toEqual(['3', '4'])
      await expect(hub.publish('bad', 'e', 1)).rejects.toThrow(/replay\('bad'\)\.maxEvents.*-1/)
    })
  })

  describe('subscribe', () => {
    it.each([
      ['channels that are not names', { c: 1 }, {}, /channel name.*c: 1/],
      ['no channel', [], {}, /at least one channel/],
      ['a bad name among good ones', ['c', ''], {}, /channel name.*''/],
      ['a filter that is not a function', ['c'], { filter: 1 }, /filter must be a function.*1/],
      ['a negative rewind', ['c'], { rewind: -1 }, /rewind.*-1/],
      ['an unknown option', ['c'], { rewnid: 1 }, /rewnid/],
    ])('refuses %s', (_, channels, options, message) => {
      const hub = new Hub()
      expect(() => hub[join](channels as string[], options as SubscribeOptions, '')).toThrow(message)
      expect(hub.channel('c').subscriberCount).toBe(0)
    })

    it('subscribes once to a channel that is named twice', async () => {
      const hub = new Hub()
      const connection = subscribe(hub, ['c', 'c'])
      await hub.publish('c', 'e', 1)
      await turn()
      expect(connection.channelEvents).toHaveLength(1)
    })

    it('replays the last events of each channel for rewind, merged in the order of publishing', async () => {
      const hub = new Hub()
      for (let n = 0; n < 6; n++) await hub.publish(n % 2 === 0 ? 'a' : 'b', 'e', n)
      await hub.publish('b', 'e', 6)
      const connection = subscribe(hub, ['a', 'b', 'empty'], '', { rewind: 2 })
      expect(connection.events.map(({ event, data }) => `${event} ${data}`)).toEqual([
        'e 2',
        'e 4',
        'e 5',
        'e 6',
        expect.stringContaining('stream-open') as string,
      ])
      expect(connection.events.at(-1)?.data).toContain('"replayed":4')
    })

    it('ignores rewind when the client resumes', async () => {
      const hub = new Hub()
      const ids = [await hub.publish('c', 'e', 1), await hub.publish('c', 'e', 2)]
      expect(subscribe(hub, ['c'], ids[1], { rewind: 2 }).channelEvents).toHaveLength(0)
    })
  })

  describe('filter', () => {
    it('receives the event as a client does, not the object of the publisher', async () => {
      const hub = new Hub()
      const seen: unknown[] = []
      subscribe(hub, ['c'], '', { filter: (event) => seen.push(event) > 0 })
      const when = new Date(0)
      const id = await hub.publish('c', 'e', { when, gone: undefined })
      const text = await hub.publish('c', 'message', 'a\r\nb')
      await turn()
      expect(seen).toEqual([
        { id, channel: 'c', event: 'e', data: { when: when.toJSON() } },
        { id: text, channel: 'c', event: 'message', data: 'a\nb' },
      ])
    })

    it('that throws or returns a promise counts as false, is reported, and affects no other subscriber', async () => {
      const reported: string[] = []
      const hub = new Hub({ onError: (error, { where }) => reported.push(`${where}: ${String(error)}`) })
      const others = [subscribe(hub, ['c']), subscribe(hub, ['c'], '', { filter: () => true })]
      const throwing = subscribe(hub, ['c'], '', {
        filter: () => {
          throw new Error('no')
        },
      })
      const promising = subscribe(hub, ['c'], '', { filter: (async () => true) as unknown as EventFilter })
      await hub.publish('c', 'e', 1)
      await turn()
      expect(others.map((other) => other.channelEvents.length)).toEqual([1, 1])
      expect([throwing.channelEvents.length, promising.channelEvents.length]).toEqual([0, 0])
      expect(reported.toSorted()).toEqual(['filter: Error: no', expect.stringContaining('must return a boolean')])
    })

    it('cannot change what another filter sees', async () => {
      const reported: unknown[] = []
      const hub = new Hub({ onError: (error) => reported.push(error) })
      const seen: unknown[] = []
      const spy = ({ data }: { data: unknown }): boolean => {
        seen.push(JSON.stringify(data))
        return true
      }
      const change = ({ data }: HubEvent): boolean => {
        ;(data as { deep: { n: number } }).deep.n = 2
        return true
      }
      for (const filter of [spy, change, spy]) subscribe(hub, ['c'], '', { filter })
      await hub.publish('c', 'e', { deep: { n: 1 } })
      await turn()
      expect(seen).toEqual(['{"deep":{"n":1}}', '{"deep":{"n":1}}'])
      expect(reported).toEqual([expect.any(TypeError)])
    })

    it('may publish, subscribe others and end its own subscription', async () => {
      const hub = new Hub()
      const late: FakeConnection[] = []
      const connection = new FakeConnection()
      const filter: SubscribeOptions['filter'] = ({ data }) => {
        if (data === 1) void hub.publish('c', 'e', 2)
        if (data === 2) late.push(subscribe(hub, ['c']))
        if (data === 3) subscription.close()
        return true
      }
      const subscription = hub[join](['c'], { filter }, '').begin(connection.asConnection)
      const other = subscribe(hub, ['c'])
      await hub.publish('c', 'e', 1)
      for (let n = 0; n < 3; n++) await turn()
      await hub.publish('c', 'e', 3)
      await hub.publish('c', 'e', 4)
      for (let n = 0; n < 3; n++) await turn()
      expect(connection.channelEvents.map(({ data }) => data)).toEqual(['1', '2'])
      expect(other.channelEvents.map(({ data }) => data)).toEqual(['1', '2', '3', '4'])
      expect(late[0]?.channelEvents.map(({ data }) => data)).toEqual(['3', '4'])
      expect(subscription.isClosed).toBe(true)
      expect(hub.channel('c').subscriberCount).toBe(2)
    })

    it('counts as false if the event cannot be decoded, and the error is reported once for all filters', async () => {
      const reported: string[] = []
      const hub = new Hub({
        deserialize: () => {
          throw new Error('unreadable')
        },
        onError: (error, { where }) => reported.push(`${where}: ${String(error)}`),
      })
      const connections = Array.from({ length: 20 }, () => subscribe(hub, ['c'], '', { filter: () => true }))
      await hub.publish('c', 'e', {})
      for (let n = 0; n < 3; n++) await turn()
      expect(reported).toEqual(['deserialize: Error: unreadable'])
      expect(connections.flatMap(({ channelEvents }) => channelEvents)).toEqual([])
    })

    it('that throws does no harm if onError is asynchronous and rejects', async () => {
      const warnings: unknown[] = []
      const warning = jest.spyOn(process, 'emitWarning').mockImplementation((text) => void warnings.push(text))
      try {
        // oxlint-disable-next-line typescript/no-misused-promises -- an application may do this all the same
        const hub = new Hub({ onError: async () => Promise.reject(new Error('hook broke')) })
        subscribe(hub, ['c'], '', {
          filter: () => {
            throw new Error('no')
          },
        })
        await hub.publish('c', 'e', 1)
        await until(() => warnings.length > 0, 'there is a warning')
      } finally {
        warning.mockRestore()
      }
      expect(warnings).toEqual([expect.stringMatching(/^onError: Error: hook broke/)])
    })

    it('decodes each event once for all filters of a turn', async () => {
      const deserialize = jest.fn(JSON.parse)
      const hub = new Hub({ deserialize })
      for (let n = 0; n < 50; n++) subscribe(hub, ['c'], '', { filter: () => true })
      await hub.publish('c', 'e', { n: 1 })
      await turn()
      expect(deserialize).toHaveBeenCalledTimes(1)
    })
  })

  describe('close', () => {
    it('refuses later publishes, and returns the same promise when called again', async () => {
      const hub = new Hub()
      const connection = subscribe(hub, ['c'])
      const last = hub.publish('c', 'e', 'last')
      const closed = hub.close()
      expect(hub.close()).toBe(closed)
      await Promise.all([closed, last])
      expect(connection.channelEvents.map(({ data }) => data)).toEqual(['last'])
      await expect(hub.publish('c', 'e', 1)).rejects.toMatchObject({ code: 'SSE_HUB_CLOSED', status: 503 })
      expect(connection.isOpen).toBe(false)
    })
  })

  it('has an epoch of its own', () => {
    const epochs = new Set(Array.from({ length: 50 }, () => parseId(subscribe(new Hub(), ['c']).events[0]?.id ?? '')?.epoch))
    expect(epochs.size).toBe(50)
    expect(formatId('0123456789', 5, 'c')).toBe('0123456789-5/c')
  })
})
