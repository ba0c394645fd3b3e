import { Hub } from 'express-sse-hub'
import * as fc from 'fast-check'
import type { SubscribeOptions, TakeSnapshot } from '../../lib/delivery/subscribe-options.ts'
import { join } from '../../lib/hub/subscribable.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { anyNumber, pick, playAll, stepsOf } from '../support/histories.ts'
import { ModelClient, PublishedRecord } from '../support/model-client.ts'
import { sized } from '../support/scale.ts'

type Mode = 'plain' | 'filtered' | 'snapshots'

/** One step of a history. `channels` selects the channel of each event. */
type Step =
  | { readonly do: 'publish'; readonly channels: readonly number[] }
  | { readonly do: 'turn' }
  | { readonly do: 'endSnapshots'; readonly fails: boolean }
  | { readonly do: 'drain'; readonly room: number }
  | { readonly do: 'keepAlive' }
  /** Disconnects the client, or connects it and cuts the connection after some writes. */
  | { readonly do: 'toggle'; readonly room: number; readonly maxWrites: number }

interface History {
  readonly channelCount: number
  /** `maxEvents` of the channels `a` and `b`. */
  readonly maxEvents: readonly [number, number]
  readonly mode: Mode
  readonly steps: readonly Step[]
}

const isWanted = (n: number): boolean => n % 3 !== 0

const maxEvents = fc.integer({ min: 1, max: 4 })
const room = fc.integer({ min: 1, max: 4 })
const publishStep = fc.record({ do: fc.constant('publish'), channels: fc.array(anyNumber, { minLength: 1, maxLength: 6, size: 'max' }) })
const endSnapshots = fc.record({
  do: fc.constant('endSnapshots'),
  fails: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
})
const toggle = fc.record({
  do: fc.constant('toggle'),
  room,
  maxWrites: fc.oneof({ weight: 7, arbitrary: fc.nat(4) }, { weight: 3, arbitrary: fc.constant(Infinity) }),
})

/** Histories with or without snapshots. */
function historyWith(hasSnapshots: boolean): fc.Arbitrary<History> {
  const step = fc.oneof<fc.WeightedArbitrary<Step>[]>(
    { weight: 45, arbitrary: publishStep },
    { weight: 15, arbitrary: fc.constant({ do: 'turn' }) },
    { weight: hasSnapshots ? 5 : 0, arbitrary: endSnapshots },
    { weight: hasSnapshots ? 10 : 15, arbitrary: fc.record({ do: fc.constant('drain'), room: fc.integer({ min: 1, max: 5 }) }) },
    { weight: 5, arbitrary: fc.constant({ do: 'keepAlive' }) },
    { weight: 20, arbitrary: toggle },
  )
  const mode: fc.Arbitrary<Mode> = hasSnapshots
    ? fc.constant('snapshots')
    : fc.oneof<fc.WeightedArbitrary<Mode>[]>(
        { weight: 7, arbitrary: fc.constant('plain') },
        { weight: 3, arbitrary: fc.constant('filtered') },
      )
  return fc.record({
    channelCount: fc.integer({ min: 1, max: 3 }),
    maxEvents: fc.tuple(maxEvents, maxEvents),
    mode,
    steps: stepsOf(step, 31),
  })
}

/** Sums over all histories. */
interface Totals {
  resets: number
  snapshots: number
  received: number
  connects: number
}

/** Plays a history of one client: publishes, full sockets, connections that are cut after any write, reconnects, keep-alives. */
async function play({ channelCount, maxEvents: [a, b], mode, steps }: History, totals: Totals): Promise<void> {
  const sizes: Record<string, number> = { a, b, c: 50 }
  const hub = new Hub({ replay: (channel) => ({ maxEvents: sizes[channel] ?? 5 }), onError: () => {} })
  const channels = ['a', 'b', 'c'].slice(0, channelCount)
  const record = new PublishedRecord()
  const client = new ModelClient(record, channels, {
    isWanted: mode === 'filtered' ? ({ n = 0 }) => isWanted(n) : undefined,
    hasSnapshots: mode === 'snapshots',
  })
  /** The snapshots in progress. Each has the state of the time at which its function is called. */
  const pending: ((fails: boolean) => void)[] = []
  const snapshot: TakeSnapshot = (names) =>
    new Promise((resolve, reject) => {
      pending.push((fails) => {
        const state = names.map((name) => [name, record.publishedTo(name).at(-1)?.position ?? 0])
        if (fails) reject(new Error('the database is away'))
        else resolve({ data: Object.fromEntries(state) as unknown })
      })
    })
  const endSnapshotsInProgress = (fails: boolean): void => {
    for (const end of pending.splice(0)) end(fails)
  }
  const options: SubscribeOptions = {
    filter: mode === 'filtered' ? ({ data }) => isWanted(data as number) : undefined,
    snapshot: mode === 'snapshots' ? snapshot : undefined,
  }
  let connection = new FakeConnection()

  const connect = (socketRoom: number, maxWrites: number): void => {
    totals.connects++
    client.connected()
    connection = new FakeConnection()
    connection.room = socketRoom
    let writes = 0
    connection.onWrite = (chunk) => {
      if (++writes <= maxWrites) client.read(chunk)
    }
    hub[join](channels, options, client.lastEventId).begin(connection.asConnection)
  }
  const publish = (channel: string): void => {
    const n = record.count + 1
    void hub.publish(channel, 'item', n)
    record.add(hub.channel(channel).lastEventId, n)
  }

  connect(1, Infinity)
  for (const step of steps) {
    if (step.do === 'publish') for (const number of step.channels) publish(pick(channels, number))
    else if (step.do === 'turn') await turn()
    else if (step.do === 'endSnapshots') endSnapshotsInProgress(step.fails)
    else if (step.do === 'drain') connection.drain(step.room)
    else if (step.do === 'keepAlive') {
      if (!connection.output.full) connection.feed?.keepAlive()
    } else if (connection.isOpen) connection.leave()
    else connect(step.room, step.maxWrites)
  }
  if (connection.isOpen) connection.leave()
  connect(Infinity, Infinity)
  // On a busy machine a time slice may end early. The rest is then delivered in later turns.
  for (let n = 0; n < 20 && client.missing !== undefined; n++) {
    endSnapshotsInProgress(false)
    await turn()
    // The snapshot may have been shared with an earlier connection, for which it failed.
    if (!connection.isOpen) connect(Infinity, Infinity)
  }
  client.check()
  connection.leave()
  totals.resets += client.resets
  totals.snapshots += client.snapshots
  totals.received += client.received
}

/** All histories in the long run, and a twentieth of them at every change: these take longest. */
const scaled = (all: number): number => sized(all, all / 20)

// Each test also asserts that its histories exercised the behaviour that it is about.
describe('delivery in random histories', () => {
  it('loses no event without a reset', async () => {
    const totals = { resets: 0, snapshots: 0, received: 0, connects: 0 }
    await playAll(historyWith(false), scaled(20_000), (history) => play(history, totals))
    expect(totals.resets).toBeGreaterThan(scaled(10_000))
    expect(totals.received).toBeGreaterThan(scaled(200_000))
    expect(totals.connects).toBeGreaterThan(scaled(60_000))
  })

  it('loses no event between a snapshot and the events that follow it', async () => {
    const totals = { resets: 0, snapshots: 0, received: 0, connects: 0 }
    await playAll(historyWith(true), scaled(10_000), (history) => play(history, totals))
    expect(totals.resets).toBeGreaterThan(scaled(2_500))
    expect(totals.snapshots).toBeGreaterThan(scaled(10_000))
    expect(totals.received).toBeGreaterThan(scaled(12_000))
    expect(totals.connects).toBeGreaterThan(scaled(30_000))
  })
})
