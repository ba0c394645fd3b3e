import express from 'express'
import type { RequestHandler, Response } from 'express'
import { expectTypeOf } from 'expect-type'
import { encodeEvent, Hub, type HubEvent, sseMiddleware, type SseStream, type Subscription } from 'express-sse-hub'

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

/** Never called: its body is what `tsc` checks. */
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
  // @ts-expect-error -- the payload is that of another event
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
  // @ts-expect-error -- the payload is that of another event
  void orders.publish('shipped', { text: 'x' })
  // @ts-expect-error -- there is no such channel
  hub.channel('order')

  expectTypeOf(res.sse).toEqualTypeOf<SseStream>()
  expectTypeOf(res.sse.subscribe(hub, ['orders', `user:${user}`])).resolves.toEqualTypeOf<Subscription>()
  // @ts-expect-error -- there is no such channel
  void res.sse.subscribe(hub, ['order'])
  void res.sse.subscribe(hub, ['orders'], {
    filter: (event) => {
      expectTypeOf(event).toEqualTypeOf<HubEvent<Channels, 'orders'>>()
      // @ts-expect-error -- an event of a channel that was not asked for
      if (event.event === 'notification') return false
      return event.event === 'created' ? event.data.total > 0 : event.data.id !== ''
    },
  })
  void res.sse.subscribe(hub, ['orders', `user:${user}`], {
    filter: (event) => (event.event === 'notification' ? event.data.text !== '' : event.channel === 'orders'),
  })
  // @ts-expect-error -- a filter answers at once
  void res.sse.subscribe(hub, ['orders'], { filter: async () => true })

  void new Hub<Interfaced>().publish('news', 'added', 'x')
  // @ts-expect-error -- an interface is a map of channels as well
  void new Hub<Interfaced>().publish('news', 'added', 1)

  const untyped = new Hub()
  void untyped.publish('anything', 'goes', { at: 'all' })
  void res.sse.subscribe(untyped, ['anything'], { filter: ({ data }) => data !== null })

  expectTypeOf(sseMiddleware()).toExtend<RequestHandler>()
  express().use(sseMiddleware({ keepAliveMs: false }))
  // @ts-expect-error -- only false switches off
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
  // @ts-expect-error -- an id is a string
  void res.sse.send('x', { id: 7 })
  // @ts-expect-error -- toEvent gives at least data
  void res.sse.stream([1], (n) => ({ event: String(n) }))
  expectTypeOf(encodeEvent({ data: 1 })).toEqualTypeOf<string>()
  // @ts-expect-error -- data must be there
  encodeEvent({ event: 'x' })
}

describe('the types', () => {
  it('refuse a wrong channel, event and payload, and infer those of a filter', () => {
    // What is tested is that this file compiles: each expected error is one.
    expect(checked).toBeInstanceOf(Function)
  })
})
