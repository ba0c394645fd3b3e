import zlib from 'node:zlib'
import { Hub } from 'express-sse-hub'
import * as fc from 'fast-check'
import { GzipBody } from '../../lib/gzip/gzip-body.ts'
import { join } from '../../lib/hub/subscribable.ts'
import type { SubscribeOptions } from '../../lib/delivery/subscribe-options.ts'
import { FakeConnection, parse, turn } from '../support/fake-connection.ts'
import { randomFrom } from '../support/random.ts'
import { sized, times } from '../support/scale.ts'

/** A payload that has the size and the repetitions of application data. `seed` determines its content. */
interface PayloadPlan {
  readonly seed: number
  readonly items: number
}

interface Publish {
  readonly channel: string
  readonly key: string | undefined
  readonly payload: PayloadPlan
}

interface Connect {
  readonly channels: readonly string[]
  readonly kind: 'plain' | 'filter' | 'snapshot' | 'rewind'
  /** Determines the answers of the filter, the content of the snapshot, or the rewind. */
  readonly seed: number
  readonly room: number
}

/** One step of a history. `which` selects one of the connections, and `lastEventId` one of the ids seen so far. */
type Step =
  | { readonly do: 'turn' }
  | { readonly do: 'publish'; readonly events: readonly Publish[] }
  | { readonly do: 'connect'; readonly connect: Connect; readonly lastEventId: number }
  | { readonly do: 'drain'; readonly which: number; readonly room: number }
  | { readonly do: 'keepAlive'; readonly which: number }
  | { readonly do: 'writeOwn'; readonly which: number; readonly value: number; readonly times: number }
  | { readonly do: 'leave'; readonly which: number }

interface History {
  /** `maxEvents` of the channel `a`. */
  readonly maxEvents: number
  readonly steps: readonly Step[]
}

const seed = fc.nat(0x7f_ff_ff_ff)
const any = fc.nat(1_000_000)
const room = fc.integer({ min: 1, max: 60 })
const payload: fc.Arbitrary<PayloadPlan> = fc.record({
  seed,
  // Events within a segment of a page, across two segments, and larger than a segment.
  items: fc.oneof(
    { weight: 980, arbitrary: fc.nat(3) },
    { weight: 19, arbitrary: fc.nat(59) },
    { weight: 1, arbitrary: fc.integer({ min: 400, max: 2_399 }) },
  ),
})
const key = fc.option(
  fc.nat(4).map((n) => `k${n}`),
  { nil: undefined, freq: 2 },
)
const publish: fc.Arbitrary<Publish> = fc
  .record({ channel: fc.constantFrom('a', 'b', 'c', 'c', 'c', 'd'), key, payload })
  .map((event) => (event.channel === 'c' ? event : { ...event, key: undefined }))
const connect: fc.Arbitrary<Connect> = fc.record({
  channels: fc.oneof(
    {
      weight: 6,
      arbitrary: fc.constantFrom('a', 'b', 'c', 'd').map((channel) => [channel]),
    },
    { weight: 4, arbitrary: fc.subarray(['a', 'b', 'c', 'd'], { minLength: 1 }) },
  ),
  kind: fc.oneof<fc.WeightedArbitrary<Connect['kind']>[]>(
    { weight: 5, arbitrary: fc.constant('plain') },
    { weight: 2, arbitrary: fc.constant('filter') },
    { weight: 2, arbitrary: fc.constant('snapshot') },
    { weight: 1, arbitrary: fc.constant('rewind') },
  ),
  seed,
  room,
})
const step = fc.oneof<fc.WeightedArbitrary<Step>[]>(
  { weight: 25, arbitrary: fc.constant({ do: 'turn' }) },
  {
    weight: 40,
    arbitrary: fc.record({ do: fc.constant('publish'), events: fc.array(publish, { minLength: 1, maxLength: 8, size: 'max' }) }),
  },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('connect'), connect, lastEventId: any }) },
  { weight: 12, arbitrary: fc.record({ do: fc.constant('drain'), which: any, room }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('keepAlive'), which: any }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('writeOwn'), which: any, value: fc.nat(99), times: fc.integer({ min: 1, max: 40 }) }),
  },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('leave'), which: any }) },
)
const history: fc.Arbitrary<History> = fc.record({
  maxEvents: fc.integer({ min: 2, max: 5 }),
  // The average is 60 steps.
  steps: fc.array(step, { maxLength: 120, size: 'max' }),
})

/** Sums over all histories. */
interface Totals {
  connects: number
  resets: number
  /** Length of the gzip streams, length of the text in them, and number of events in the text. */
  wire: number
  read: number
  events: number
}

function payloadOf({ seed: from, items }: PayloadPlan): unknown {
  const random = randomFrom(from)
  const below = (n: number): number => Math.floor(random() * n)
  return {
    order: below(1_000_000),
    state: ['created', 'paid', 'shipped'][below(3)],
    items: Array.from({ length: items }, () => ({ article: below(5_000), quantity: below(9) })),
  }
}

function subscribeOptions({ kind, seed: from }: Connect): SubscribeOptions {
  const random = randomFrom(from)
  if (kind === 'filter') return { filter: () => random() < 0.6 }
  if (kind === 'snapshot') return { snapshot: () => ({ data: payloadOf({ seed: from, items: Math.floor(random() * 4) }) }) }
  return kind === 'rewind' ? { rewind: Math.floor(random() * 50) } : {}
}

/**
 * Plays a history of a hub and of clients that accept gzip: bursts, full sockets, keep-alives, snapshots, filters, and clients
 * that leave and reconnect. Checks that gunzip accepts every stream, checksum included, and that each event in it is the one
 * that was published with its id and occurs only once.
 */
async function play({ maxEvents, steps }: History, keepsWindow: boolean, totals: Totals): Promise<void> {
  const hub = new Hub({
    replay: (name) => ({
      maxEvents: name === 'a' ? maxEvents : 1_000,
      maxBytes: name === 'b' ? 3_000 : 1_048_576,
      latestPerKey: name === 'c',
    }),
    onError: () => {},
  })
  const connections: FakeConnection[] = []
  const departed: FakeConnection[] = []
  const published = new Map<string, string>()
  const publishes: Promise<void>[] = []
  const ids: string[] = ['']

  const publishOne = async (event: Publish): Promise<void> => {
    const data = payloadOf(event.payload)
    published.set(await hub.publish(event.channel, 'order', data, { key: event.key }), JSON.stringify(data))
  }
  const open = (options: Connect, lastEventId: string): void => {
    const connection = new FakeConnection(new GzipBody(keepsWindow))
    connection.room = options.room
    hub[join](options.channels, subscribeOptions(options), lastEventId).begin(connection.asConnection)
    connections.push(connection)
    totals.connects++
  }
  const leave = (index: number): void => {
    const [connection] = connections.splice(index, 1) as [FakeConnection]
    connection.leave()
    departed.push(connection)
    for (const { id } of connection.events.slice(-2)) if (id !== undefined) ids.push(id)
  }
  const check = (connection: FakeConnection): void => {
    const { text } = connection
    totals.wire += Buffer.concat(connection.writes).length
    totals.read += text.length
    const seen = new Set<string>()
    for (const { event, id = '', data } of parse(text)) {
      if (event === 'stream-reset') totals.resets++
      if (event !== 'order' || !published.has(id)) continue
      if (data !== published.get(id)) throw new Error(`event ${id} has the data ${data}, but was published with ${published.get(id)}`)
      if (seen.has(id)) throw new Error(`event ${id} occurs twice`)
      seen.add(id)
      totals.events++
    }
  }

  for (const each of steps) {
    if (each.do === 'turn') await turn()
    else if (each.do === 'publish') publishes.push(...each.events.map(publishOne))
    else if (each.do === 'connect') open(each.connect, ids[each.lastEventId % ids.length] as string)
    else if (each.do === 'leave') {
      if (connections.length > 2) leave(each.which % connections.length)
    } else {
      const connection = connections[each.which % connections.length]
      if (each.do === 'drain') connection?.drain(each.room)
      else if (connection?.output.full !== false) continue
      else if (each.do === 'keepAlive') connection.feed?.keepAlive()
      else connection.output.writeOwn(Buffer.from(`data: ${each.value}\n\n`.repeat(each.times)))
    }
  }
  while (connections.length > 0) leave(0)
  await Promise.all(publishes)
  for (const connection of departed) check(connection)
  void hub.close()
}

async function playAll(numRuns: number, keepsWindow: boolean): Promise<Totals> {
  const totals = { connects: 0, resets: 0, wire: 0, read: 0, events: 0 }
  // Shrinking is limited, so that a failure is reported before the test times out.
  const isSound = fc.asyncProperty(fc.limitShrink(history, 500), async (each) => play(each, keepsWindow, totals))
  await fc.assert(isSound, { seed: 1, numRuns, plugins: [fc.unbiased()] })
  return totals
}

// Each test also asserts that its histories exercised the behaviour that it is about.
describe('gzip streams in random histories', () => {
  it('consist of blocks that can stand alone', async () => {
    const { connects, resets, wire, read, events } = await playAll(times(300), false)
    expect(connects).toBeGreaterThan(times(900))
    expect(resets).toBeGreaterThan(times(50))
    expect(read).toBeGreaterThan(times(1_000_000))
    expect(events).toBeGreaterThan(times(5_000))
    // In few histories, one with incompressible events makes more of a difference.
    expect(wire / read).toBeLessThan(sized(0.6, 0.7))
  })

  it('consist of blocks that refer only to what the client received', async () => {
    const deflate = jest.spyOn(zlib, 'deflateRawSync')
    const { connects, resets } = await playAll(times(300), true)
    expect(connects).toBeGreaterThan(times(900))
    expect(resets).toBeGreaterThan(times(50))
    expect(deflate.mock.calls.filter(([, options]) => options?.dictionary !== undefined).length).toBeGreaterThan(times(100))
    deflate.mockRestore()
  })
})
