import { Hub, type HubOptions, type SseStream, type StandardSchema } from 'express-sse-hub'
import { silentBackplane } from './silent-backplane.ts'

/** Objects that the calls use. */
export interface CallParts {
  readonly onError: NonNullable<HubOptions['onError']>
  /** An open stream. */
  readonly stream: SseStream
}

/** A call that rejects because of a fault of the program or an unreachable engine. */
export interface RejectingCall {
  readonly name: string
  /** `where` of the report to `onError`. */
  readonly where: string
  /** Code of the error, or its message if it has no code. */
  readonly error: string
  /** Prepares the call, and returns a function that makes it. */
  readonly prepare: (parts: CallParts) => (() => Promise<unknown>) | Promise<() => Promise<unknown>>
}

type HubParts = Pick<HubOptions, 'serialize' | 'backplane'> & { readonly schemas?: never }

const schema = (validate: StandardSchema['~standard']['validate']): StandardSchema => ({
  '~standard': { version: 1, vendor: 'hand-made', validate },
})

const broken = (): never => {
  throw new Error('it broke')
}

const later = async (): Promise<never> => broken()

const brokenIterable = (end: () => unknown): Iterable<unknown> => ({
  [Symbol.iterator]: () => ({ next: () => ({ done: false, value: later() }), return: end as () => IteratorResult<unknown> }),
})

const schemas = {
  a: {
    refused: schema(() => ({ issues: [{ message: 'refused' }] })),
    refusedLater: schema(async () => ({ issues: [{ message: 'refused' }] })),
    broken: schema(broken),
    brokenLater: schema(async () => broken()),
    good: schema((value) => ({ value })),
  },
}

const onHub =
  (use: (hub: Hub) => Promise<unknown>, options: HubParts = {}): RejectingCall['prepare'] =>
  ({ onError }) => {
    const hub = new Hub({ ...options, onError })
    return () => use(hub)
  }

const validated =
  (event: keyof typeof schemas.a, data?: unknown): RejectingCall['prepare'] =>
  ({ onError }) => {
    const hub = new Hub({ schemas, onError })
    return () => hub.publish('a', event, data)
  }

const onStream =
  (use: (stream: SseStream) => Promise<unknown>): RejectingCall['prepare'] =>
  ({ stream }) =>
  () =>
    use(stream)

export const REJECTING_CALLS: readonly RejectingCall[] = [
  { name: 'publish, refused by a schema', where: 'publish', error: 'SSE_INVALID_DATA', prepare: validated('refused') },
  { name: 'publish, refused by an asynchronous schema', where: 'publish', error: 'SSE_INVALID_DATA', prepare: validated('refusedLater') },
  { name: 'publish, whose schema throws', where: 'publish', error: 'SSE_INVALID_DATA', prepare: validated('broken') },
  { name: 'publish, whose asynchronous schema throws', where: 'publish', error: 'SSE_INVALID_DATA', prepare: validated('brokenLater') },
  {
    name: 'publish of data that passes its schema but cannot be serialized',
    where: 'publish',
    error: 'SSE_INVALID_DATA',
    prepare: validated('good', new Map()),
  },
  {
    name: 'publish of a rejecting promise',
    where: 'publish',
    error: 'SSE_INVALID_DATA',
    prepare: onHub((hub) => hub.publish('a', 'item', later())),
  },
  {
    name: 'publish with a serialize that returns a rejecting promise',
    where: 'publish',
    error: 'SSE_INVALID_DATA',
    prepare: onHub((hub) => hub.publish('a', 'item', 1), { serialize: later as never }),
  },
  {
    name: 'publish of an invalid event',
    where: 'publish',
    error: 'SSE_INVALID_EVENT',
    prepare: onHub((hub) => hub.publish('a', 'stream-open', 1)),
  },
  {
    name: 'publish to an invalid channel',
    where: 'publish',
    error: 'SSE_INVALID_CHANNEL',
    prepare: onHub((hub) => hub.publish('', 'item', 1)),
  },
  {
    name: 'publish through a handle',
    where: 'publish',
    error: 'SSE_INVALID_EVENT',
    prepare: onHub((hub) => hub.channel('a').publish('a\nb', 1)),
  },
  {
    name: 'publish with an unknown option',
    where: 'publish',
    error: "publish: there is no option 'id'; the options are key, idempotencyKey",
    prepare: onHub((hub) => hub.publish('a', 'item', 1, { id: '1' } as never)),
  },
  {
    name: 'publish to a closed hub',
    where: 'publish',
    error: 'SSE_HUB_CLOSED',
    prepare: async ({ onError }) => {
      const hub = new Hub({ onError })
      await hub.close()
      return () => hub.publish('a', 'item', 1)
    },
  },
  {
    name: 'publish over an unreachable backplane',
    where: 'publish',
    error: 'SSE_BACKPLANE_UNAVAILABLE',
    prepare: onHub((hub) => hub.publish('a', 'item', 1), { backplane: silentBackplane() }),
  },
  {
    name: 'disconnect of an invalid owner',
    where: 'disconnect',
    error: 'SSE_INVALID_OWNER',
    prepare: onHub((hub) => hub.disconnect('')),
  },
  {
    name: 'disconnect, whose predicate throws',
    where: 'disconnect',
    error: 'it broke',
    prepare: async ({ onError, stream }) => {
      const hub = new Hub({ onError })
      await stream.subscribe(hub, 'a')
      return () => hub.disconnect(broken)
    },
  },
  {
    name: 'disconnect over an unreachable backplane',
    where: 'disconnect',
    error: 'SSE_BACKPLANE_UNAVAILABLE',
    prepare: onHub((hub) => hub.disconnect('me'), { backplane: silentBackplane() }),
  },
  {
    name: 'stats of all processes over an unreachable backplane',
    where: 'stats',
    error: 'SSE_BACKPLANE_UNAVAILABLE',
    prepare: onHub((hub) => hub.stats({ all: true }), { backplane: silentBackplane() }),
  },
  {
    name: 'send of an invalid event',
    where: 'send',
    error: 'SSE_INVALID_EVENT',
    prepare: onStream((stream) => stream.send('x', { event: 'a\nb' })),
  },
  { name: 'send of undefined', where: 'send', error: 'SSE_INVALID_DATA', prepare: onStream((stream) => stream.send(undefined)) },
  { name: 'send of a rejecting promise', where: 'send', error: 'SSE_INVALID_DATA', prepare: onStream((stream) => stream.send(later())) },
  {
    name: 'comment of a number',
    where: 'comment',
    error: 'comment: text must be a string, got 5',
    prepare: onStream((stream) => stream.comment(5 as never)),
  },
  { name: 'stream of a string', where: 'stream', error: 'SSE_INVALID_EVENT', prepare: onStream((stream) => stream.stream('text')) },
  {
    name: 'stream of undefined',
    where: 'stream',
    error: 'SSE_INVALID_DATA',
    prepare: onStream((stream) => stream.stream(['x', undefined])),
  },
  {
    name: 'stream of a failing source',
    where: 'stream',
    error: 'it broke',
    prepare: onStream((stream) =>
      stream.stream(
        (async function* () {
          yield broken()
        })(),
      ),
    ),
  },
  { name: 'stream whose toEvent throws', where: 'stream', error: 'it broke', prepare: onStream((stream) => stream.stream(['x'], broken)) },
  {
    name: 'stream whose toEvent returns a rejecting promise',
    where: 'stream',
    error: 'SSE_INVALID_EVENT',
    prepare: onStream((stream) => stream.stream(['x'], later as never)),
  },
  {
    name: 'stream whose toEvent returns a rejecting promise as data',
    where: 'stream',
    error: 'SSE_INVALID_DATA',
    prepare: onStream((stream) => stream.stream(['x'], () => ({ data: later() }))),
  },
  {
    name: 'stream of an iterator whose item rejects, and whose return() throws',
    where: 'stream',
    error: 'it broke',
    prepare: onStream((stream) =>
      stream.stream(
        brokenIterable(() => {
          throw new Error('return() broke')
        }),
      ),
    ),
  },
  {
    name: 'stream of an iterator whose item rejects, and whose return() rejects',
    where: 'stream',
    error: 'it broke',
    prepare: onStream((stream) => stream.stream(brokenIterable(() => Promise.reject(new Error('return() broke'))))),
  },
  {
    name: 'subscribe to an object that is not a hub',
    where: 'subscribe',
    error: 'subscribe: hub must be a Hub, as in subscribe(hub, channels), got {}',
    prepare: onStream((stream) => stream.subscribe({} as never, 'a')),
  },
  {
    name: 'subscribe with an option out of its range',
    where: 'subscribe',
    error: 'subscribe: rewind must be an integer, 0 or more, got -1',
    prepare: onStream((stream) => stream.subscribe(new Hub(), 'a', { rewind: -1 })),
  },
  {
    name: 'subscribe for the second time',
    where: 'subscribe',
    error: 'SSE_ALREADY_SUBSCRIBED',
    prepare: async ({ onError, stream }) => {
      const hub = new Hub({ onError })
      await stream.subscribe(hub, 'a')
      return () => stream.subscribe(hub, 'b')
    },
  },
]
