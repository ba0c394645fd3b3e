import { Hub, type HubEvent, type ReplayOptions, type SubscribeOptions } from 'express-sse-hub'
import * as fc from 'fast-check'
import { join } from '../../lib/hub/subscribable.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { anyNumber, playAll, stepsOf } from '../support/histories.ts'
import { ModelClient, PublishedRecord } from '../support/model-client.ts'
import { times } from '../support/scale.ts'

const CHANNELS = ['a', 'b'] as const

interface Update {
  readonly channel: (typeof CHANNELS)[number]
  /** Selects the key; `undefined` for an event without one. */
  readonly key: number | undefined
  readonly fillerLength: number
}

/** One step of a history. */
type Step =
  | { readonly do: 'publish'; readonly updates: readonly Update[] }
  | { readonly do: 'turn' }
  | { readonly do: 'drain'; readonly room: number }
  | { readonly do: 'keepAlive' }
  /** Disconnects the client, or connects it and cuts the connection within its last write, after some events. */
  | { readonly do: 'toggle'; readonly room: number; readonly maxWrites: number; readonly eventsOfLastWrite: number }

interface History {
  readonly keyCount: number
  readonly isFiltered: boolean
  /** The bounds of each channel: some of them lose keys all the time, and some never do. */
  readonly a: ReplayOptions
  readonly b: ReplayOptions
  readonly steps: readonly Step[]
}

const eventBound: fc.Arbitrary<ReplayOptions> = fc.integer({ min: 2, max: 13 }).map((maxEvents) => ({ maxEvents }))
const byteBound: fc.Arbitrary<ReplayOptions> = fc.integer({ min: 300, max: 3_299 }).map((maxBytes) => ({ maxBytes }))
const update: fc.Arbitrary<Update> = fc.record({
  channel: fc.constantFrom(...CHANNELS),
  key: fc.option(anyNumber, { nil: undefined, freq: 9 }),
  fillerLength: fc.nat(99),
})
const room = fc.integer({ min: 1, max: 4 })
const step = fc.oneof<fc.WeightedArbitrary<Step>[]>(
  {
    weight: 45,
    arbitrary: fc.record({ do: fc.constant('publish'), updates: fc.array(update, { minLength: 1, maxLength: 12, size: 'max' }) }),
  },
  { weight: 15, arbitrary: fc.constant({ do: 'turn' }) },
  { weight: 15, arbitrary: fc.record({ do: fc.constant('drain'), room: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 5, arbitrary: fc.constant({ do: 'keepAlive' }) },
  {
    weight: 20,
    arbitrary: fc.record({
      do: fc.constant('toggle'),
      room,
      maxWrites: fc.oneof({ weight: 7, arbitrary: fc.integer({ min: 1, max: 5 }) }, { weight: 3, arbitrary: fc.constant(Infinity) }),
      eventsOfLastWrite: fc.nat(3),
    }),
  },
)
const history: fc.Arbitrary<History> = fc.record({
  keyCount: fc.integer({ min: 1, max: 8 }),
  isFiltered: fc.oneof({ weight: 7, arbitrary: fc.constant(false) }, { weight: 3, arbitrary: fc.constant(true) }),
  a: eventBound,
  b: fc.oneof(eventBound, byteBound),
  steps: stepsOf(step, 30),
})

/** Sums over all histories. */
interface Totals {
  resets: number
  withoutReset: number
  received: number
  published: number
  connects: number
}

/** Plays a history of one client: bursts of updates, full sockets, connections that are cut within a write, reconnects, keep-alives. */
async function play({ keyCount, isFiltered, a, b, steps }: History, totals: Totals): Promise<void> {
  const bounds: Record<string, ReplayOptions> = { a: { latestPerKey: true, ...a }, b: { latestPerKey: true, ...b } }
  const hub = new Hub({ replay: (channel) => bounds[channel] ?? {} })
  const record = new PublishedRecord()
  const client = new ModelClient(record, CHANNELS, { isWanted: isFiltered ? ({ key }) => key !== 'key 0' : undefined })
  const options: SubscribeOptions = isFiltered ? { filter: ({ data }: HubEvent) => !(data as string).includes('key 0') } : {}
  let connection = new FakeConnection()

  const connect = (socketRoom: number, maxWrites: number, eventsOfLastWrite: number): void => {
    totals.connects++
    client.connected()
    connection = new FakeConnection()
    connection.room = socketRoom
    let writes = 0
    connection.onWrite = (chunk) => {
      writes++
      if (writes <= maxWrites) client.read(chunk, writes === maxWrites ? eventsOfLastWrite : Infinity)
    }
    hub[join](CHANNELS, options, client.lastEventId).begin(connection.asConnection)
  }
  const publish = ({ channel, key: number, fillerLength }: Update): void => {
    const key = number === undefined ? undefined : `key ${number % keyCount}`
    const n = record.count + 1
    void hub.publish(channel, 'update', `${n} ${key} ${'x'.repeat(fillerLength)}`, { key })
    record.add(hub.channel(channel).lastEventId, n, key)
  }

  connect(1, Infinity, 0)
  for (const each of steps) {
    if (each.do === 'publish') for (const one of each.updates) publish(one)
    else if (each.do === 'turn') await turn()
    else if (each.do === 'drain') connection.drain(each.room)
    else if (each.do === 'keepAlive') {
      if (!connection.output.full) connection.feed?.keepAlive()
    } else if (connection.isOpen) connection.leave()
    else connect(each.room, each.maxWrites, each.eventsOfLastWrite)
  }
  if (connection.isOpen) connection.leave()
  connect(Infinity, Infinity, 0)
  // On a busy machine a time slice may end early. The rest is then delivered in later turns.
  for (let n = 0; n < 20 && client.missing !== undefined; n++) await turn()
  client.check()
  connection.leave()
  totals.resets += client.resets
  if (client.resets === 0) totals.withoutReset++
  totals.received += client.received
  totals.published += record.count
}

describe('the latest event per key in random histories', () => {
  it('reaches the client for every key unless a reset says otherwise, and neither a key nor an id goes backwards', async () => {
    const totals = { resets: 0, withoutReset: 0, received: 0, published: 0, connects: 0 }
    await playAll(history, times(3_000), (each) => play(each, totals))
    // The histories must have exercised the behaviour that the test is about.
    expect(totals.resets).toBeGreaterThan(times(1_000))
    expect(totals.withoutReset).toBeGreaterThan(times(500))
    expect(totals.received).toBeGreaterThan(times(20_000))
    expect(totals.published).toBeGreaterThan(1.5 * totals.received)
    expect(totals.connects).toBeGreaterThan(times(10_000))
  })
})
