import express from 'express'
import type { Request, RequestHandler, Response } from 'express'
import { expectTypeOf } from 'expect-type'
import {
  type AllStats,
  type AnyHub,
  type Backplane,
  type ChannelHandle,
  channelOf,
  type DiagnosticMessages,
  encodeEvent,
  type HandlerRequest,
  Hub,
  type HubEvent,
  type HubEvents,
  type HubOptions,
  type HubStats,
  MemoryBackplane,
  type RefusalReason,
  type ResetEvent,
  type ResetReason,
  type SchemaChannels,
  type SchemaInputs,
  sseMiddleware,
  type SseHandler,
  type SseStream,
  type StandardSchema,
  type SubscribeOptions,
  type SubscriberInfo,
  type Subscription,
  type TakeSnapshot,
} from 'express-sse-hub'
import { publishScript, RedisBackplane } from 'express-sse-hub/redis'
import type { Cluster, Redis } from 'ioredis'
import type { Redis as Redis5 } from 'ioredis5'
import * as v from 'valibot'
import { z } from 'zod'

declare global {
  // oxlint-disable-next-line typescript/no-namespace -- Express is extended through its global namespace
  namespace Express {
    interface Request {
      /** Property that a middleware of the program may add to requests. */
      signedIn?: { readonly id: string }
    }
  }
}

interface Order {
  id: string
  total: number
}

interface Notice {
  text: string
}

type Channels = {
  orders: { created: Order; shipped: { id: string } }
  [user: `user:${string}`]: { notification: Notice }
}

interface Interfaced {
  news: { added: string }
}

/** Is never called. Only `tsc` checks its body, which uses the types of channels. */
function checked(): void {
  const hub = new Hub<Channels>()
  const user = 'u1' as string
  const res = {} as Response

  expectTypeOf(hub.publish('orders', 'created', { id: '1', total: 2 })).resolves.toEqualTypeOf<string>()
  expectTypeOf(hub.publish(`user:${user}`, 'notification', { text: 'hi' })).resolves.toEqualTypeOf<string>()
  void hub.publish('user:7', 'notification', { text: 'hi' })
  // @ts-expect-error -- there is no such channel
  void hub.publish('order', 'created', { id: '1', total: 2 })
  // @ts-expect-error -- there is no such event in the channel
  void hub.publish('orders', 'deleted', { id: '1', total: 2 })
  // @ts-expect-error -- the payload belongs to another event
  void hub.publish('orders', 'created', { id: '1' })
  // @ts-expect-error -- a family has its own events
  void hub.publish(`user:${user}`, 'created', { id: '1', total: 2 })
  const either = 'created' as 'created' | 'shipped'
  // @ts-expect-error -- the payload fits only one event of the union
  void hub.publish('orders', either, { id: '1' })
  void hub.publish('orders', either, { id: '1', total: 2 })

  const orders = hub.channel('orders')
  expectTypeOf(orders.name).toEqualTypeOf<'orders'>()
  expectTypeOf(orders.lastEventId).toEqualTypeOf<string>()
  expectTypeOf(orders.subscriberCount).toEqualTypeOf<number>()
  expectTypeOf(orders.publish('shipped', { id: '1' })).resolves.toEqualTypeOf<string>()
  // @ts-expect-error -- the payload belongs to another event
  void orders.publish('shipped', { text: 'x' })
  // @ts-expect-error -- there is no such channel
  hub.channel('order')

  expectTypeOf(res.sse).toEqualTypeOf<SseStream>()
  expectTypeOf(res.sse.subscribe(hub, ['orders', `user:${user}`])).resolves.toEqualTypeOf<Subscription>()
  // @ts-expect-error -- there is no such channel
  void res.sse.subscribe(hub, ['order'])
  expectTypeOf(res.sse.subscribe(hub, 'orders')).resolves.toEqualTypeOf<Subscription>()
  void res.sse.subscribe(hub, 'orders', {
    filter: (event) => {
      expectTypeOf(event).toEqualTypeOf<HubEvent<Channels, 'orders'>>()
      return true
    },
    snapshot: (channels, { owner }) => {
      expectTypeOf(channels).toEqualTypeOf<readonly 'orders'[]>()
      expectTypeOf(owner).toEqualTypeOf<string | undefined>()
      return { data: 1 }
    },
  })
  // @ts-expect-error -- there is no such channel
  void res.sse.subscribe(hub, 'order')
  expectTypeOf({} as Subscription).toEqualTypeOf<{
    readonly channels: readonly string[]
    readonly isClosed: boolean
    readonly ended: Promise<void>
    close(): void
  }>()
  expectTypeOf(res.sse.stream([1], { event: 'token', end: true })).resolves.toEqualTypeOf<boolean>()
  expectTypeOf(
    res.sse.stream(({} as globalThis.Response).body as ReadableStream<Uint8Array>, { event: 'token' }),
  ).resolves.toEqualTypeOf<boolean>()
  void res.sse.stream(new ReadableStream<number>(), (n) => ({ data: n.toFixed() }))
  // @ts-expect-error -- there is no such option
  void res.sse.stream([1], { name: 'token' })
  expectTypeOf(channelOf('')).toEqualTypeOf<string | undefined>()
  expectTypeOf(hub.disconnect({ channel: 'orders' }, { reconnect: false })).resolves.toEqualTypeOf<number>()
  // @ts-expect-error -- a limit needs a number
  void new Hub({ maxSubscribersPerOwner: { whenFull: 'close-oldest' } })
  void new Hub({ maxSubscribersPerOwner: { max: 5, whenFull: 'close-oldest' }, backplane: new MemoryBackplane() })

  // A function may accept any typed hub.
  const anyHub: AnyHub = hub
  expectTypeOf(anyHub.publish('any', 'event', 1)).resolves.toEqualTypeOf<string>()
  expectTypeOf(res.sse.subscribe(anyHub, ['any'])).resolves.toEqualTypeOf<Subscription>()
  anyHub.events('any', { filter: (event: HubEvent) => event.event === 'x' })
  expectTypeOf(new Hub({ schemas: { orders: { created: z.object({ id: z.string() }) } } })).toExtend<AnyHub>()
  expectTypeOf(new Hub<Interfaced>()).toExtend<AnyHub>()
  void res.sse.subscribe(hub, ['orders'], {
    filter: (event) => {
      expectTypeOf(event).toEqualTypeOf<HubEvent<Channels, 'orders'>>()
      // @ts-expect-error -- an event of a channel that was not requested
      if (event.event === 'notification') return false
      return event.event === 'created' ? event.data.total > 0 : event.data.id !== ''
    },
  })
  void res.sse.subscribe(hub, ['orders', `user:${user}`], {
    filter: (event) => (event.event === 'notification' ? event.data.text !== '' : event.channel === 'orders'),
  })
  // @ts-expect-error -- a filter is synchronous
  void res.sse.subscribe(hub, ['orders'], { filter: async () => true })

  void new Hub<Interfaced>().publish('news', 'added', 'x')
  // @ts-expect-error -- the payload belongs to a map of channels that is an interface
  void new Hub<Interfaced>().publish('news', 'added', 1)

  const untyped = new Hub()
  void untyped.publish('anything', 'goes', { at: 'all' })
  void res.sse.subscribe(untyped, ['anything'], { filter: ({ data }) => data !== null })

  expectTypeOf(sseMiddleware()).toExtend<RequestHandler>()
  express().use(sseMiddleware({ keepAliveMs: false }))
  // @ts-expect-error -- only false switches an option off
  sseMiddleware({ keepAliveMs: true })
  // @ts-expect-error -- there is no such option
  sseMiddleware({ keepAlive: 1 })
  // @ts-expect-error -- there is no such bound
  void new Hub({ replay: { max: 1 } })

  expectTypeOf(res.sse.state).toEqualTypeOf<'idle' | 'open' | 'closed'>()
  expectTypeOf(res.sse.lastEventId).toEqualTypeOf<string>()
  expectTypeOf(res.sse.signal).toEqualTypeOf<AbortSignal>()
  expectTypeOf(res.sse.open()).toEqualTypeOf<boolean>()
  expectTypeOf(res.sse.send({}, { event: 'e', id: '1', retry: 1 })).resolves.toEqualTypeOf<boolean>()
  expectTypeOf(res.sse.comment()).resolves.toEqualTypeOf<boolean>()
  expectTypeOf(res.sse.stream([1, 2], (n) => ({ data: n.toFixed() }))).resolves.toEqualTypeOf<boolean>()
  expectTypeOf(res.sse.close({ reconnect: false })).toEqualTypeOf<void>()
  expectTypeOf(res.sse.send('x', { id: 7, event: null, retry: null })).resolves.toEqualTypeOf<boolean>()
  // @ts-expect-error -- an id is a string or a number
  void res.sse.send('x', { id: true })
  // @ts-expect-error -- toEvent returns at least data
  void res.sse.stream([1], (n) => ({ event: String(n) }))
  expectTypeOf(encodeEvent({ data: 1 })).toEqualTypeOf<string>()
  // @ts-expect-error -- data is required
  encodeEvent({ event: 'x' })
}

/** Is never called. Checks hubs with schemas. */
async function checkedSchemas(res: Response): Promise<void> {
  const handMade = {} as StandardSchema<string, number>
  const schemas = {
    orders: {
      created: z.object({ id: z.string(), total: z.number().default(0), note: z.string().transform((text) => text.length) }),
      shipped: v.object({ id: v.string(), weight: v.optional(v.number(), 0) }),
    },
    'user:*': { notification: z.object({ text: z.string() }) },
    numbers: { counted: handMade, called: Object.assign((value: unknown) => value, handMade) },
  }
  const hub = new Hub({ schemas, replay: { maxEvents: 5 }, onError: () => {} })
  interface Created {
    id: string
    total: number
    note: number
  }

  // `publish` accepts the input types of the schemas.
  expectTypeOf(hub.publish('orders', 'created', { id: '1', note: 'x' })).resolves.toEqualTypeOf<string>()
  void hub.publish('orders', 'created', { id: '1', total: 2, note: 'x' }, { idempotencyKey: 'k' })
  void hub.publish('orders', 'shipped', { id: '1' })
  void hub.publish('user:7', 'notification', { text: 'hi' })
  void hub.publish('numbers', 'counted', '1')
  void hub.publish('numbers', 'called', '1')
  // @ts-expect-error -- the output of the schema is not its input
  void hub.publish('orders', 'created', { id: '1', total: 2, note: 1 })
  // @ts-expect-error -- a property without a default is missing
  void hub.publish('orders', 'created', { note: 'x' })
  // @ts-expect-error -- the output of a hand-made schema is not its input
  void hub.publish('numbers', 'counted', 1)
  // @ts-expect-error -- the output of a schema that is a function is not its input
  void hub.publish('numbers', 'called', 1)
  // @ts-expect-error -- there is no such channel
  void hub.publish('order', 'created', { id: '1', note: 'x' })
  // @ts-expect-error -- the name does not begin with the prefix of the family
  void hub.publish('users', 'notification', { text: 'hi' })
  // @ts-expect-error -- there is no such event in the channel
  void hub.publish('orders', 'notification', { text: 'hi' })
  // @ts-expect-error -- a family has its own events
  void hub.publish('user:7', 'created', { id: '1', note: 'x' })
  const orders = hub.channel('orders')
  expectTypeOf(orders).toEqualTypeOf<ChannelHandle<SchemaInputs<typeof schemas>, 'orders'>>()
  void orders.publish('created', { id: '1', note: 'x' })
  // @ts-expect-error -- the input of another event
  void orders.publish('created', { id: '1' })

  // Consumers receive the output types of the schemas.
  expectTypeOf<SchemaChannels<typeof schemas>['orders']['created']>().toEqualTypeOf<Created>()
  expectTypeOf<SchemaChannels<typeof schemas>[`user:${string}`]['notification']>().toEqualTypeOf<{ text: string }>()
  expectTypeOf<SchemaInputs<typeof schemas>['numbers']['counted']>().toEqualTypeOf<string>()
  expectTypeOf<SchemaChannels<typeof schemas>['numbers']['called']>().toEqualTypeOf<number>()
  void res.sse.subscribe(hub, ['orders', 'user:7'], {
    filter: (event) => {
      if (event.event === 'created') expectTypeOf(event.data).toEqualTypeOf<Created>()
      if (event.event === 'shipped') expectTypeOf(event.data).toEqualTypeOf<{ id: string; weight: number }>()
      // @ts-expect-error -- an event of a channel that was not requested
      return event.event !== 'counted'
    },
  })
  // @ts-expect-error -- there is no such channel
  void res.sse.subscribe(hub, ['users'])
  for await (const item of hub.events(['orders', 'user:7', 'numbers'])) {
    if (item.event === 'stream-reset') expectTypeOf(item).toEqualTypeOf<ResetEvent>()
    else if (item.channel === 'orders' && item.event === 'created') expectTypeOf(item.data).toEqualTypeOf<Created>()
    else if (item.channel === 'orders') expectTypeOf(item.data).toEqualTypeOf<{ id: string; weight: number }>()
    else if (item.channel === 'numbers') expectTypeOf(item.data).toEqualTypeOf<number>()
    else expectTypeOf(item.data).toEqualTypeOf<{ text: string }>()
  }

  const wide = new Hub({ schemas: { '*': { ping: z.number() } } })
  void wide.publish('anything', 'ping', 1)
  // @ts-expect-error -- the payload belongs to the family of all channels
  void wide.publish('anything', 'ping', '1')
  // @ts-expect-error -- the types are either explicit or inferred from the schemas
  void new Hub<Channels>({ schemas })
  // @ts-expect-error -- the schemas of a channel are listed by event
  void new Hub({ schemas: { orders: z.string() } })
  // @ts-expect-error -- this is not a Standard Schema
  void new Hub({ schemas: { orders: { created: {} } } })
  void new Hub({
    // @ts-expect-error -- a Standard Schema of another version is not accepted
    schemas: { orders: { created: { '~standard': { version: 2, vendor: 'x', validate: (value: unknown) => ({ value }) } } } },
  })
  // @ts-expect-error -- there is no such option
  void new Hub({ schemas, onErorr: () => {} })
}

/** Is never called. Checks the consumers of channels: streams and `events()`. */
async function checkedConsumers(res: Response): Promise<void> {
  const hub = new Hub<Channels>()
  const user = 'u1' as string

  void res.sse.subscribe(hub, ['orders'], { owner: 'u1', expiresAt: new Date(), rewind: 1 })
  void res.sse.subscribe(hub, ['orders'], { owner: undefined, expiresAt: Date.now() + 1_000 })
  void res.sse.subscribe(hub, ['orders', `user:${user}`], {
    snapshot: (channels) => {
      expectTypeOf(channels).toEqualTypeOf<readonly ('orders' | `user:${string}`)[]>()
      return { event: 'state', data: channels.length }
    },
  })
  void res.sse.subscribe(hub, ['orders'], { snapshot: async () => ({ data: { any: 'thing' } }) })
  const take: TakeSnapshot<'orders'> = ([first]) => ({ data: first === 'orders' })
  expectTypeOf<SubscribeOptions<Channels, 'orders'>['snapshot']>().toEqualTypeOf<TakeSnapshot<'orders'> | undefined>()
  void res.sse.subscribe(hub, ['orders'], { snapshot: take })
  // @ts-expect-error -- an owner is a string
  void res.sse.subscribe(hub, ['orders'], { owner: 7 })
  // @ts-expect-error -- a time is a Date or a number
  void res.sse.subscribe(hub, ['orders'], { expiresAt: '2030-01-01' })
  // @ts-expect-error -- a snapshot has data
  void res.sse.subscribe(hub, ['orders'], { snapshot: () => ({ event: 'state' }) })
  // @ts-expect-error -- a snapshot has no id of its own
  void res.sse.subscribe(hub, ['orders'], { snapshot: () => ({ id: '1', data: 1 }) satisfies ReturnType<TakeSnapshot> })
  // @ts-expect-error -- a snapshot of channels that were not requested
  void res.sse.subscribe(hub, [`user:${user}`], { snapshot: take })
  // @ts-expect-error -- a signal is for events()
  void res.sse.subscribe(hub, ['orders'], { signal: res.sse.signal })

  const items = hub.events(['orders'])
  expectTypeOf(items.lastEventId).toEqualTypeOf<string>()
  expectTypeOf(items).toEqualTypeOf<HubEvents<Channels, 'orders'>>()
  for await (const item of hub.events(['orders', `user:${user}`], { lastEventId: '', rewind: 3, signal: res.sse.signal })) {
    expectTypeOf(item.id).toEqualTypeOf<string>()
    if (item.channel === '') {
      expectTypeOf(item).toEqualTypeOf<ResetEvent>()
      expectTypeOf(item.data.channels).toEqualTypeOf<readonly string[]>()
      expectTypeOf(item.data.reason).toEqualTypeOf<'expired' | 'restarted' | 'slow' | 'unknown-id'>()
    } else if (item.event === 'notification') {
      expectTypeOf(item.channel).toEqualTypeOf<`user:${string}`>()
      expectTypeOf(item.data).toEqualTypeOf<Notice>()
    } else if (item.event === 'created') {
      expectTypeOf(item.data).toEqualTypeOf<Order>()
    } else {
      expectTypeOf(item.event).toEqualTypeOf<'shipped'>()
      // @ts-expect-error -- consumers share an event, and must not change it
      item.event = 'shipped'
    }
  }
  hub.events(['orders'], {
    filter: (event) => {
      expectTypeOf(event).toEqualTypeOf<HubEvent<Channels, 'orders'>>()
      return event.event === 'created'
    },
  })
  // An item of a hub without types is a reset if its channel is ''.
  for await (const item of new Hub().events(['any'])) if (item.channel === '') expectTypeOf(item.data.reason).toEqualTypeOf<ResetReason>()
  void res.sse.stream(hub.events(['orders']), ({ id, event, data }) => ({ id, event, data }))
  // @ts-expect-error -- there is no such channel
  hub.events(['order'])
  expectTypeOf(hub.events('orders')).toEqualTypeOf(hub.events(['orders']))
  // @ts-expect-error -- a filter is synchronous
  hub.events(['orders'], { filter: async () => true })
  // @ts-expect-error -- an id is a string
  hub.events(['orders'], { lastEventId: 7 })
  // @ts-expect-error -- the signal, not its controller
  hub.events(['orders'], { signal: new AbortController() })
  // @ts-expect-error -- an owner is for streams
  hub.events(['orders'], { owner: 'u1' })
}

/** Is never called. Checks routes made by `hub.handler`. */
function checkedRoutes(): void {
  const hub = new Hub<Channels>()
  const app = express()

  expectTypeOf(hub.handler({ channels: ['orders'] })).toEqualTypeOf<SseHandler>()
  app.get('/list', hub.handler({ channels: ['orders', 'user:7'], maxChannels: 3 }))
  app.get('/of/:id', (_req, _res, next) => next(), hub.handler({ channels: (req) => ['orders', `user:${req.params['id']}`] }))
  app.get('/later/:id', hub.handler({ channels: async (req) => [`user:${req.params['id']}`] }))
  app.get(
    '/un-annotated',
    hub.handler({
      channels: (req) => {
        expectTypeOf(req).toEqualTypeOf<HandlerRequest>()
        expectTypeOf(req.headers.authorization).toEqualTypeOf<string | undefined>()
        expectTypeOf(req.query['q']).toEqualTypeOf<unknown>()
        // Properties that other middleware adds to requests are typed.
        expectTypeOf(req.signedIn).toEqualTypeOf<{ readonly id: string } | undefined>()
        return [`user:${req.signedIn?.id}`]
      },
      authorize: (req, channel) => {
        expectTypeOf(req).toEqualTypeOf<HandlerRequest>()
        expectTypeOf(channel).toEqualTypeOf<`user:${string}`>()
        return req.signedIn !== undefined
      },
    }),
  )
  app.get(
    '/annotated/:id',
    hub.handler({
      channels: (req: Request) => [`user:${req.get('x-user')}`],
      authorize: async (req, channel) => {
        expectTypeOf(req).toEqualTypeOf<Request>()
        return channel === `user:${req.ip}`
      },
      subscribe: (req) => ({ owner: req.ip, rewind: 1, filter: ({ data }) => data.text !== '' }),
    }),
  )
  app.get('/params/:id', hub.handler({ channels: (req: Request<{ id: string }>) => [`user:${req.params.id}`] }))
  app.get(
    '/named-by-the-client',
    hub.handler({
      authorize: (req, channel) => {
        expectTypeOf(channel).toEqualTypeOf<'orders' | `user:${string}`>()
        return channel === `user:${req.signedIn?.id}`
      },
    }),
  )
  app.get('/options', hub.handler({ channels: ['orders'], subscribe: { owner: 'k', filter: ({ event }) => event === 'created' } }))
  app.get(
    '/options/of',
    hub.handler({
      channels: ['orders'],
      subscribe: async (req) => ({ owner: req.signedIn?.id, expiresAt: 1, snapshot: () => ({ data: 1 }) }),
    }),
  )
  const bySchemas = new Hub({ schemas: { a: { e: z.number() } } })
  app.get('/schemas', bySchemas.handler({ channels: ['a'], subscribe: { filter: ({ data }) => data > 0 } }))

  // @ts-expect-error -- there is no such channel
  hub.handler({ channels: ['order'] })
  // @ts-expect-error -- there is no such channel for a request
  hub.handler({ channels: () => ['order'] })
  // @ts-expect-error -- authorize returns a boolean
  hub.handler({ authorize: () => 'yes' })
  // @ts-expect-error -- there is no such option
  hub.handler({ channel: ['orders'] })
  // @ts-expect-error -- a limit is a number
  hub.handler({ channels: ['orders'], maxChannels: false })
  // @ts-expect-error -- the options of a subscription are checked here too
  hub.handler({ channels: ['orders'], subscribe: { owner: 7 } })
  // @ts-expect-error -- a filter sees only the channels of the route
  hub.handler({ channels: ['orders'], subscribe: { filter: (event) => event.event === 'notification' } })
  // @ts-expect-error -- a route has options
  hub.handler()
}

/** Is never called. Checks the options and methods of a hub. */
function checkedHub(): void {
  const hub = new Hub<Channels>({ maxSubscribers: 10_000, maxSubscribersPerOwner: 6, replay: { latestPerKey: true } })
  void new Hub<Channels>({ maxSubscribers: false, maxSubscribersPerOwner: undefined, replay: () => ({ latestPerKey: false }) })
  expectTypeOf<HubOptions['maxSubscribers']>().toEqualTypeOf<number | false | undefined>()
  // @ts-expect-error -- only false switches an option off
  void new Hub({ maxSubscribers: true })
  // @ts-expect-error -- a limit is a number
  void new Hub({ maxSubscribersPerOwner: '6' })
  // @ts-expect-error -- latestPerKey is a boolean
  void new Hub({ replay: { latestPerKey: 'id' } })

  const order = { id: '1', total: 2 }
  expectTypeOf(hub.publish('orders', 'created', order, { idempotencyKey: 'a', key: undefined })).resolves.toEqualTypeOf<string>()
  expectTypeOf(hub.channel('orders').publish('created', order, { key: order.id })).resolves.toEqualTypeOf<string>()
  // @ts-expect-error -- a key is a string
  void hub.publish('orders', 'created', order, { idempotencyKey: 7 })
  // @ts-expect-error -- a key is a string
  void hub.channel('orders').publish('created', order, { key: 7 })
  // @ts-expect-error -- the hub assigns the ids
  void hub.publish('orders', 'created', order, { id: '7' })

  expectTypeOf(hub.disconnect('u1')).resolves.toEqualTypeOf<number>()
  expectTypeOf(
    hub.disconnect((subscriber) => {
      expectTypeOf(subscriber).toEqualTypeOf<SubscriberInfo>()
      expectTypeOf(subscriber.owner).toEqualTypeOf<string | undefined>()
      return subscriber.channels.includes('orders')
    }),
  ).resolves.toEqualTypeOf<number>()
  // @ts-expect-error -- a predicate is synchronous
  void hub.disconnect(async () => true)
  // @ts-expect-error -- the target is required
  void hub.disconnect()

  expectTypeOf(hub.stats()).toEqualTypeOf<HubStats>()
  expectTypeOf<HubStats>().toEqualTypeOf<Readonly<Record<keyof HubStats, number>>>()
  expectTypeOf<keyof HubStats>().toEqualTypeOf<
    'channels' | 'subscribers' | 'logBytes' | 'published' | 'delivered' | 'resets' | 'stalls' | 'refusals'
  >()
  // @ts-expect-error -- the property is read-only
  hub.stats().published = 0

  expectTypeOf(hub.close()).resolves.toEqualTypeOf<void>()
  void hub.close({ drainMs: 5_000 })
  // @ts-expect-error -- there is no such option
  void hub.close({ drain: 5_000 })
  // @ts-expect-error -- a duration is a number
  void hub.close({ drainMs: '5s' })

  expectTypeOf<keyof DiagnosticMessages>().toEqualTypeOf<'publish' | 'subscribe' | 'reset' | 'stall' | 'refuse' | 'close'>()
  expectTypeOf<DiagnosticMessages['publish']>().toEqualTypeOf<{
    readonly hub: object
    readonly channel: string
    readonly event: string
    readonly id: string
  }>()
  expectTypeOf<DiagnosticMessages['subscribe']['lastEventId']>().toEqualTypeOf<string>()
  expectTypeOf<DiagnosticMessages['reset']['lost']>().toEqualTypeOf<readonly string[]>()
  expectTypeOf<DiagnosticMessages['reset']['reason']>().toEqualTypeOf<ResetReason>()
  expectTypeOf<DiagnosticMessages['refuse']['reason']>().toEqualTypeOf<RefusalReason>()
  expectTypeOf<RefusalReason>().toEqualTypeOf<
    'maxSubscribers' | 'maxSubscribersPerOwner' | 'closing' | 'fault' | 'backplane' | 'disconnected'
  >()
  expectTypeOf<DiagnosticMessages['stall']>().toEqualTypeOf<DiagnosticMessages['close']>()
  expectTypeOf<DiagnosticMessages['close']>().toEqualTypeOf<{
    readonly hub: object
    readonly channels: readonly string[]
    readonly owner: string | undefined
  }>()
}

/** Is never called. Checks backplanes. */
function checkedBackplane(): void {
  const backplane: Backplane = new RedisBackplane(
    { url: 'redis://127.0.0.1:6379' },
    { prefix: 'p', timeoutMs: 1_000, probeMs: 500, durable: true },
  )
  const hub = new Hub<Channels>({ backplane })
  expectTypeOf(hub.stats()).toEqualTypeOf<HubStats>()
  expectTypeOf(hub.stats({ all: true })).resolves.toEqualTypeOf<AllStats>()
  expectTypeOf(hub.health()).toEqualTypeOf<boolean>()
  expectTypeOf(publishScript).toEqualTypeOf<string>()
  // @ts-expect-error -- a backplane is not a URL
  void new Hub({ backplane: 'redis://127.0.0.1:6379' })
  // @ts-expect-error -- a URL and a client exclude each other
  void new RedisBackplane({ url: 'redis://127.0.0.1:6379', client: {} as Redis })
  void new RedisBackplane({ client: {} as Redis })
  void new RedisBackplane({ client: {} as Redis5 })
  // @ts-expect-error -- a cluster is not a client
  void new RedisBackplane({ client: {} as Cluster })
  // @ts-expect-error -- there is no such option
  void new RedisBackplane({ client: {} as Redis }, { prefixes: 'p' })
}

describe('the types', () => {
  it.each([
    ['of a backplane accept a URL or a client', checkedBackplane],
    ['refuse a wrong channel, event and payload, and infer those of a filter', checked],
    ['are inferred from schemas: inputs for publish, outputs for consumers', checkedSchemas],
    ['of consumers are those of the requested channels', checkedConsumers],
    ['of routes fit Express with and without an annotated request', checkedRoutes],
    ['of options, results and diagnostics are as narrow as possible', checkedHub],
  ])('%s', (_, body) => {
    // The test is that this file compiles. Every expected error must be an error.
    expect(body).toBeInstanceOf(Function)
  })
})
