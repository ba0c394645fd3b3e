import {
  type ChannelName,
  Hub,
  type HubEvent,
  type HubSchemas,
  type SchemaIssue,
  SseError,
  sseMiddleware,
  type StandardSchema,
} from 'express-sse-hub'
import express from 'express'
import * as v from 'valibot'
import { z } from 'zod'
import { TestClient } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { serve, stopServers } from '../support/servers.ts'

type Validate<Output> = StandardSchema<unknown, Output>['~standard']['validate']

/** A schema that needs no library. */
const handMade = <Output>(validate: Validate<Output>): StandardSchema<unknown, Output> => ({
  '~standard': { version: 1, vendor: 'hand-made', validate },
})
const anything = handMade((value) => ({ value }))
const refusing = (...issues: SchemaIssue[]) => handMade(() => ({ issues }))
/** A schema whose output is its own name. */
const named = (name: string) => handMade(() => ({ value: name }))

interface Order {
  id: string
  total: number
}

const order: Validate<Order> = (value) => {
  const { id, total = 0 } = value as Partial<Order>
  if (typeof id !== 'string') return { issues: [{ message: 'no string', path: ['id'] }] }
  return { value: { id: id.trim(), total } }
}

const zodOrder = z.object({ id: z.string().trim(), total: z.number().default(0) })
const valibotOrder = v.object({ id: v.pipe(v.string(), v.trim()), total: v.optional(v.number(), 0) })

/** The same schema of every library: trims the id, fills in the total, strips the rest. */
const ORDERS: readonly (readonly [name: string, schema: StandardSchema])[] = [
  ['zod', zodOrder],
  ['zod, asynchronous', zodOrder.refine(async () => true)],
  ['valibot', valibotOrder],
  [
    'valibot, asynchronous',
    v.pipeAsync(
      valibotOrder,
      v.checkAsync(async () => true),
    ),
  ],
  ['a hand-made one', handMade(order)],
  ['a hand-made one, asynchronous', handMade(async (value) => order(value))],
  // The schemas of arktype are functions.
  ['a function', Object.assign((value: unknown) => value, handMade(order))],
]

/** The events that a channel keeps, as clients read them. */
async function stored<C extends object, P extends object>(hub: Hub<C, P>, channel: ChannelName<C>): Promise<HubEvent[]> {
  const items = hub.events([channel], { rewind: 1_000 })
  await hub.close()
  const events: HubEvent[] = []
  for await (const item of items) events.push(item)
  return events
}

/** A hub whose schemas are unknown to the compiler. */
const untypedHub = (schemas: HubSchemas): Hub => new Hub({ schemas })

async function rejection(promise: Promise<unknown>): Promise<SseError> {
  const error: unknown = await promise.then(
    () => new Error('nothing was refused'),
    (reason: unknown) => reason,
  )
  return error as SseError
}

afterEach(stopServers)

describe('a hub with schemas', () => {
  describe.each(ORDERS)('of %s', (_, schema) => {
    const makeHub = () => new Hub({ schemas: { orders: { created: schema } } })

    it('stores the output of the schema, and delivers it to clients, filters, events() and in the replay', async () => {
      const hub = makeHub()
      const app = express()
      app.use(sseMiddleware())
      const filtered: unknown[] = []
      const filter = ({ data }: { readonly data: unknown }): boolean => filtered.push(data) > 0
      app.get('/', (__, res) => res.sse.subscribe(hub, ['orders'], { filter, rewind: 1 }))
      const { url } = await serve(app)
      const client = await (await TestClient.open(url)).live()
      const items = hub.events(['orders'])
      const input = { id: ' 7 ', secret: 'x' }
      const id = await hub.publish('orders', 'created', input)
      expect(input).toEqual({ id: ' 7 ', secret: 'x' })
      await client.received(1)
      expect(client.channelEvents).toEqual([{ id, event: 'created', data: '{"id":"7","total":0}' }])
      expect(filtered).toEqual([{ id: '7', total: 0 }])
      expect(await items.next()).toEqual({ done: false, value: { id, channel: 'orders', event: 'created', data: { id: '7', total: 0 } } })
      const late = await (await TestClient.open(url)).live()
      expect(late.channelEvents).toEqual(client.channelEvents)
    })

    it('rejects a payload that the schema refuses, with its issues, and stores nothing', async () => {
      const hub = makeHub()
      const error = await rejection(hub.publish('orders', 'created', { id: 7 }))
      expect(error).toBeInstanceOf(SseError)
      expect(error.code).toBe('SSE_INVALID_DATA')
      const { vendor } = schema['~standard']
      expect(error.message).toMatch(new RegExp(`^publish 'created' to 'orders': the ${vendor} schema refused the payload: id: \\S`))
      const issues = error.cause as SchemaIssue[]
      expect(issues).toHaveLength(1)
      expect(error.message.endsWith(`: id: ${issues[0]?.message}`)).toBe(true)
      expect(hub.channel('orders').lastEventId).toBe('')
      const id = await hub.publish('orders', 'created', { id: '8' })
      expect(await stored(hub, 'orders')).toEqual([{ id, channel: 'orders', event: 'created', data: { id: '8', total: 0 } }])
    })
  })

  describe('reports each issue', () => {
    it.each<[string, StandardSchema, unknown, [path: string, message: string][]]>([
      [
        'of zod its path and its message',
        z.object({ lines: z.array(z.object({ count: z.number() })), name: z.string().min(2, 'too short') }),
        { lines: [{ count: 1 }, { count: '2' }], name: 'x' },
        [
          ['lines.1.count', 'Invalid input: expected number, received string'],
          ['name', 'too short'],
        ],
      ],
      [
        'of valibot its path and its message',
        v.object({ lines: v.array(v.object({ count: v.number('no number') })), name: v.pipe(v.string(), v.minLength(2, 'too short')) }),
        { lines: [{ count: 1 }, { count: '2' }], name: 'x' },
        [
          ['lines.1.count', 'no number'],
          ['name', 'too short'],
        ],
      ],
      [
        'its path, of keys and of objects with a key, and its message',
        refusing({ message: 'first', path: ['a', 0, Symbol('s')] }, { message: 'second', path: [{ key: 'b' }, { key: 1 }] }),
        1,
        [
          ['a.0.Symbol(s)', 'first'],
          ['b.1', 'second'],
        ],
      ],
      [
        'its message alone where it has no path',
        refusing({ message: 'first' }, { message: 'second', path: [] }),
        1,
        [
          ['', 'first'],
          ['', 'second'],
        ],
      ],
    ])('%s', async (_, schema, data, issues) => {
      const hub = new Hub({ schemas: { c: { e: schema } } })
      const error = await rejection(hub.publish('c', 'e', data))
      const texts = issues.map(([path, message]) => (path === '' ? message : `${path}: ${message}`))
      expect(error.message.split(' refused the payload: ')[1]).toBe(texts.join('; '))
      expect((error.cause as SchemaIssue[]).map(({ message }) => message)).toEqual(issues.map(([, message]) => message))
    })
  })

  describe('sends', () => {
    it('a string from a schema unchanged, and an object that a schema makes from a string as JSON', async () => {
      const hub = new Hub({
        schemas: {
          c: {
            toText: z.object({ n: z.number() }).transform(({ n }) => `n is ${n}`),
            fromText: z.string().transform((text) => ({ text })),
          },
        },
      })
      await hub.publish('c', 'toText', { n: 7 })
      await hub.publish('c', 'fromText', 'x')
      const app = express()
      app.use(sseMiddleware())
      app.get('/', (__, res) => res.sse.subscribe(hub, ['c'], { rewind: 2 }))
      const { url } = await serve(app)
      const client = await (await TestClient.open(url)).live()
      expect(client.channelEvents.map(({ data }) => data)).toEqual(['n is 7', '{"text":"x"}'])
      const events = await stored(hub, 'c')
      expect(events.map(({ data }) => data)).toEqual(['n is 7', { text: 'x' }])
    })

    it('the output of a schema through the serialize of the hub', async () => {
      const serialize = (value: unknown): string => `<${String(value)}>`
      const hub = new Hub({ schemas: { c: { e: z.coerce.number() } }, serialize, deserialize: (text) => text })
      await hub.publish('c', 'e', '7')
      expect((await stored(hub, 'c')).map(({ data }) => data)).toEqual(['<7>'])
    })

    it('nothing if the output of a schema has no text form', async () => {
      const hub = new Hub({ schemas: { c: { e: handMade(() => ({ value: undefined })) } } })
      expect(await rejection(hub.publish('c', 'e', 1))).toMatchObject({
        code: 'SSE_INVALID_DATA',
        message: expect.stringMatching(/^publish 'e' to 'c': data must be a string or have a JSON form, got undefined/) as string,
      })
      expect(hub.channel('c').lastEventId).toBe('')
    })

    it('null, false and 0, which are ordinary payloads', async () => {
      const hub = new Hub({ schemas: { c: { e: anything } } })
      for (const data of [null, false, 0, '']) await hub.publish('c', 'e', data)
      expect((await stored(hub, 'c')).map(({ data }) => data)).toEqual([null, false, 0, ''])
    })
  })

  describe('has only the channels and events of its schemas:', () => {
    it.each(['order', 'orders2', 'Orders', '__proto__', 'constructor', 'toString', '*'])('no channel %s', async (name) => {
      const hub = untypedHub({ orders: { created: anything } })
      expect(await rejection(hub.publish(name, 'created', 1))).toMatchObject({
        code: 'SSE_INVALID_CHANNEL',
        message: expect.stringContaining(`no channel '${name}'`) as string,
      })
      expect(hub.stats().channels).toBe(0)
    })

    it.each(['create', 'Created', '__proto__', 'constructor', 'toString', 'message'])('no event %s', async (name) => {
      const hub = untypedHub({ orders: { created: anything, shipped: anything } })
      const error = await rejection(hub.publish('orders', name, 1))
      expect(error.code).toBe('SSE_INVALID_EVENT')
      expect(error.message).toContain(`'${name}'`)
      expect(error.message).toMatch(/'orders'.*created, shipped/)
      expect(hub.channel('orders').lastEventId).toBe('')
    })

    it('__proto__ and constructor are channels and events if they are in the schemas', async () => {
      const text = '{ "__proto__": { "constructor": 0, "__proto__": 0 } }'
      const hub = untypedHub(JSON.parse(text, (_, value: unknown) => (value === 0 ? anything : value)) as HubSchemas)
      await hub.publish('__proto__', 'constructor', 1)
      await hub.publish('__proto__', '__proto__', 2)
      expect(await rejection(hub.publish('__proto__', 'toString', 3))).toMatchObject({ code: 'SSE_INVALID_EVENT' })
      const events = await stored(hub, '__proto__')
      expect(events.map(({ event, data }) => `${event} ${String(data)}`)).toEqual(['constructor 1', '__proto__ 2'])
    })

    it('the ones that the schemas had when the hub was created', async () => {
      const schemas: Record<string, Record<string, StandardSchema>> = { c: { e: named('first') } }
      const hub = new Hub({ schemas })
      schemas['c'] = { e: named('second') }
      schemas['d'] = { e: anything }
      await hub.publish('c', 'e', 1)
      expect(await rejection(hub.publish('d', 'e', 1))).toMatchObject({ code: 'SSE_INVALID_CHANNEL' })
      expect((await stored(hub, 'c')).map(({ data }) => data)).toEqual(['first'])
    })

    it.each([
      ['an empty channel', '', 'e', 'SSE_INVALID_CHANNEL'],
      ['a channel that is no string', 7, 'e', 'SSE_INVALID_CHANNEL'],
      ['an event with a line break', 'c', 'a\nb', 'SSE_INVALID_EVENT'],
      ['an event name of the hub', 'c', 'stream-reset', 'SSE_INVALID_EVENT'],
    ])('not %s, which no schema can allow, and no schema is called', async (_, channel, event, code) => {
      const validate = jest.fn((value: unknown) => ({ value }))
      const hub = untypedHub({ '*': { e: handMade(validate) } })
      expect(await rejection(hub.publish(channel as string, event, 1))).toMatchObject({ code })
      expect(validate).not.toHaveBeenCalled()
      await hub.publish('c', 'e', 1)
      expect(validate).toHaveBeenCalledTimes(1)
    })

    it('none if the schemas are empty', async () => {
      const hub = untypedHub({})
      expect(await rejection(hub.publish('c', 'e', 1))).toMatchObject({ code: 'SSE_INVALID_CHANNEL' })
    })
  })

  describe('has families of channels', () => {
    it.each([
      ['user:', 'user'],
      ['user:7', 'user'],
      ['user:7:mail', 'user'],
      ['user:admin', 'user'],
      ['user:admin:', 'admin'],
      ['user:admin:7', 'admin'],
      ['user:admin:root', 'root'],
      ['user:admin:root2', 'admin'],
      ['user:*', 'user'],
      ['user', 'all'],
      ['xuser:7', 'all'],
    ])('of which the longest that matches applies: %s belongs to %s', async (channel, family) => {
      const hub = untypedHub({
        '*': { e: named('all') },
        'user:admin:*': { e: named('admin') },
        'user:*': { e: named('user') },
        'user:admin:root': { e: named('root') },
      })
      await hub.publish(channel, 'e', 1)
      expect((await stored(hub, channel)).map(({ data }) => data)).toEqual([family])
    })

    it('that do not share events with a shorter family', async () => {
      const hub = untypedHub({ 'user:*': { note: anything }, 'user:admin': { alarm: anything }, 'user:admin:*': { alarm: anything } })
      await hub.publish('user:7', 'note', 1)
      await hub.publish('user:admin', 'alarm', 1)
      expect(await rejection(hub.publish('user:admin', 'note', 1))).toMatchObject({ code: 'SSE_INVALID_EVENT' })
      expect(await rejection(hub.publish('user:admin:7', 'note', 1))).toMatchObject({ code: 'SSE_INVALID_EVENT' })
      expect(await rejection(hub.publish('users', 'note', 1))).toMatchObject({ code: 'SSE_INVALID_CHANNEL' })
    })
  })

  describe('survives a schema', () => {
    const fault = new Error('broken')

    it.each<[string, () => unknown, string, unknown]>([
      [
        'that throws',
        () => {
          throw fault
        },
        'broken',
        fault,
      ],
      ['that rejects', () => Promise.reject(fault), 'broken', fault],
      // oxlint-disable-next-line prefer-promise-reject-errors -- a schema may do this all the same
      ['that rejects with what is no error', () => Promise.reject('text'), "'text'", 'text'],
      ['that returns nothing', () => undefined, 'validate returned undefined', expect.any(TypeError)],
      ['that resolves to no result', () => Promise.resolve(7), 'validate returned 7', expect.any(TypeError)],
    ])('%s: the publish is rejected with the cause, nothing is stored, and the hub keeps working', async (_, validate, text, cause) => {
      const hub = new Hub({ schemas: { c: { e: handMade(validate as Validate<unknown>), sound: anything } } })
      const error = await rejection(hub.publish('c', 'e', 1))
      expect(error).toBeInstanceOf(SseError)
      expect([error.code, error.message]).toEqual(['SSE_INVALID_DATA', `publish 'e' to 'c': the schema failed: ${text}`])
      expect(error.cause).toEqual(cause)
      expect(hub.channel('c').lastEventId).toBe('')
      const id = await hub.publish('c', 'sound', 1)
      expect((await stored(hub, 'c')).map((event) => event.id)).toEqual([id])
    })
  })

  describe('keeps the order', () => {
    it('of publishes without await, if the schemas are synchronous', async () => {
      const c = { zod: z.object({ n: z.number() }), valibot: v.object({ n: v.number() }), bad: refusing({ message: 'no' }) }
      const hub = new Hub({ schemas: { c } })
      const items = hub.events(['c'])
      const results = [1, 2, 3, 4, 5, 6].map((n) => hub.publish('c', n % 2 === 0 ? 'zod' : 'valibot', { n }))
      const refused = rejection(hub.publish('c', 'bad', {}))
      // The events are stored when the calls return.
      expect(hub.channel('c').lastEventId).not.toBe('')
      const ids = await Promise.all(results)
      expect(await refused).toMatchObject({ code: 'SSE_INVALID_DATA' })
      const got: unknown[] = []
      for await (const { id, data } of items) if (got.push([id, data]) === 6) break
      expect(got).toEqual(ids.map((id, index) => [id, { n: index + 1 }]))
    })

    it('in which asynchronous schemas settle, and stores nothing before', async () => {
      const settle: (() => void)[] = []
      const validate: Validate<unknown> = (value) => new Promise((resolve) => settle.push(() => resolve({ value })))
      const hub = new Hub({ schemas: { c: { e: handMade(validate) } } })
      const ids = [hub.publish('c', 'e', 'first'), hub.publish('c', 'e', 'second')]
      await turn()
      expect(hub.channel('c').lastEventId).toBe('')
      settle[1]?.()
      await ids[1]
      settle[0]?.()
      await ids[0]
      expect((await stored(hub, 'c')).map(({ data }) => data)).toEqual(['second', 'first'])
    })

    it('and rejects a payload that is validated after the hub was closed', async () => {
      let settle: () => void = () => {}
      const hub = new Hub({ schemas: { c: { e: handMade((value) => new Promise((resolve) => (settle = () => resolve({ value })))) } } })
      const published = rejection(hub.publish('c', 'e', 1))
      await hub.close()
      settle()
      expect(await published).toMatchObject({ code: 'SSE_HUB_CLOSED' })
      expect(hub.channel('c').lastEventId).toBe('')
    })
  })

  it('validates the payloads of a channel handle', async () => {
    const hub = new Hub({ schemas: { orders: { created: zodOrder } } })
    const orders = hub.channel('orders')
    await orders.publish('created', { id: ' 7 ' })
    const refused = orders.publish('created', { id: '', total: 'x' as unknown as number })
    expect(await rejection(refused)).toMatchObject({ code: 'SSE_INVALID_DATA' })
    expect((await stored(hub, 'orders')).map(({ data }) => data)).toEqual([{ id: '7', total: 0 }])
  })

  it('calls validate as a method, with the payload alone', async () => {
    const calls: unknown[][] = []
    const standard = {
      version: 1 as const,
      vendor: 'hand-made',
      validate(this: unknown, ...values: unknown[]) {
        calls.push([this === standard, ...values])
        return { value: 'x' }
      },
    }
    const hub = new Hub({ schemas: { c: { e: { '~standard': standard } } } })
    await hub.publish('c', 'e', 7)
    expect(calls).toEqual([[true, 7]])
  })
})

describe('the schemas of a hub', () => {
  const withVersion = (version: unknown) => ({ '~standard': { version, vendor: 'x', validate: () => ({ value: 1 }) } })

  it.each<[string, unknown, RegExp]>([
    ['a number', 7, /^Hub: schemas must be an object.*got 7$/],
    ['null', null, /^Hub: schemas must be an object.*got null$/],
    ['an array', [anything], /^Hub: schemas must be an object.*got \[/],
    ['a function', () => anything, /^Hub: schemas must be an object.*got \[Function/],
    ['one schema', zodOrder, /^Hub: schemas must be an object/],
    ['a channel that is a schema', { orders: zodOrder }, /^Hub: schemas\['orders'\] must be an object/],
    ['a channel that is an array', { orders: [zodOrder] }, /^Hub: schemas\['orders'\] must be an object.*got \[/],
    ['a channel that is undefined', { orders: undefined }, /^Hub: schemas\['orders'\] must be an object.*got undefined$/],
    [
      'an event that is no schema',
      { orders: { created: {} } },
      /^Hub: schemas\['orders'\]\['created'\] must be a Standard Schema.*got \{\}$/,
    ],
    ['an event that is undefined', { 'user:*': { note: undefined } }, /^Hub: schemas\['user:\*'\]\['note'\] must.*got undefined$/],
    ['an event that is a plain function', { orders: { created: () => true } }, /^Hub: schemas\['orders'\]\['created'\] must.*Function/],
    ['a schema of version 2', { orders: { created: withVersion(2) } }, /^Hub: schemas\['orders'\]\['created'\] must.*\(version 1\)/],
    [
      "a schema of version '1'",
      { orders: { created: withVersion('1') } },
      /^Hub: schemas\['orders'\]\['created'\] must be a Standard Schema/,
    ],
    ['a schema that cannot validate', { c: { e: { '~standard': { version: 1, vendor: 'x' } } } }, /^Hub: schemas\['c'\]\['e'\] must/],
    ['one bad schema among good ones', { a: { b: anything }, c: { good: anything, bad: 1 } }, /^Hub: schemas\['c'\]\['bad'\] must.*got 1$/],
  ])('are refused with a TypeError that names the schema: %s', (_, schemas, message) => {
    const make = (): unknown => new Hub({ schemas: schemas as HubSchemas })
    expect(make).toThrow(TypeError)
    expect(make).toThrow(message)
  })

  it.each<[string, HubSchemas, string, string]>([
    ['an event name of the hub', { orders: { 'stream-x': anything } }, 'SSE_INVALID_EVENT', "'stream-x'"],
    ['an empty event name', { orders: { '': anything } }, 'SSE_INVALID_EVENT', "''"],
    ['an event name with a line break', { 'user:*': { 'a\nb': anything } }, 'SSE_INVALID_EVENT', String.raw`'a\nb'`],
    ['an empty channel name', { '': { e: anything } }, 'SSE_INVALID_CHANNEL', "''"],
    ['a channel name of 257 units', { ['x'.repeat(257)]: { e: anything } }, 'SSE_INVALID_CHANNEL', 'xxx'],
    ['a channel name with a lone surrogate', { 'a\ud800': { e: anything } }, 'SSE_INVALID_CHANNEL', 'd800'],
  ])('are refused with %s, which is named', (_, schemas, code, shown) => {
    let error: unknown
    try {
      void new Hub({ schemas })
    } catch (thrown) {
      error = thrown
    }
    expect(error).toBeInstanceOf(SseError)
    expect(error).toMatchObject({ code, message: expect.stringContaining(shown) as string })
  })

  it('may be left out', async () => {
    const hub = new Hub({ schemas: undefined } as object)
    await hub.publish('any', 'thing', 1)
    expect(hub.channel('any').lastEventId).not.toBe('')
  })
})

describe('invalid schemas', () => {
  it.each<[string, HubSchemas, RegExp]>([
    ['an event name', { orders: { 'stream-x': anything } }, /schemas\['orders'\]/],
    ['a channel name', { '': { e: anything } }, /schemas/],
  ])('are refused by the name of %s', (_, schemas, message) => {
    expect(() => new Hub({ schemas })).toThrow(message)
  })

  it.each(['a:*:b', '**'])('are refused for a * in the middle of a name: %s', (name) => {
    expect(() => new Hub({ schemas: { [name]: { e: anything } } })).toThrow('a * may only be the last character of a name')
  })

  it.each(['\ud800*', `${'x'.repeat(300)}*`])('are refused for a family that no channel can belong to', (name) => {
    expect(() => new Hub({ schemas: { [name]: { e: anything } } })).toThrow(/channel name/)
  })

  it.each([[{ issues: null }], [{ issues: 'no' }], [{ issues: [{ message: 'x', path: [null] }] }], [{ issues: [null] }]])(
    'that answer %j make a publish reject with SSE_INVALID_DATA',
    async (answer) => {
      const schema = { '~standard': { version: 1, vendor: 'x', validate: () => answer } } as unknown as StandardSchema
      const hub = new Hub({ schemas: { c: { e: schema } } })
      await expect(hub.publish('c', 'e', 1)).rejects.toMatchObject({ code: 'SSE_INVALID_DATA' })
    },
  )
})
