import { channel as diagnosticsChannel } from 'node:diagnostics_channel'
import { type DiagnosticMessages, Hub, type HubEvent, type HubEvents } from 'express-sse-hub'
import * as fc from 'fast-check'
import { turn } from '../support/fake-connection.ts'
import { anyNumber, pick, playAll, stepsOf } from '../support/histories.ts'
import { isReset, numberOf } from '../support/hub-items.ts'
import { ModelClient, PublishedRecord } from '../support/model-client.ts'
import { times } from '../support/scale.ts'

interface Publish {
  readonly channel: number
  readonly isLarge: boolean
}

/** One step of a history. */
type Step =
  | { readonly do: 'publish'; readonly events: readonly Publish[] }
  | { readonly do: 'turn' }
  | { readonly do: 'pull'; readonly count: number }
  /** Leaves the iterator, and begins another one after its last id. */
  | { readonly do: 'restart' }

interface History {
  readonly channelCount: number
  /** `maxEvents` of the channels `a` and `b`. */
  readonly maxEvents: readonly [number, number]
  readonly isFiltered: boolean
  readonly steps: readonly Step[]
}

const event: fc.Arbitrary<Publish> = fc.record({
  channel: anyNumber,
  isLarge: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, { weight: 6, arbitrary: fc.constant(false) }),
})
const step = fc.oneof<fc.WeightedArbitrary<Step>[]>(
  {
    weight: 45,
    arbitrary: fc.record({ do: fc.constant('publish'), events: fc.array(event, { minLength: 1, maxLength: 6, size: 'max' }) }),
  },
  { weight: 15, arbitrary: fc.constant({ do: 'turn' }) },
  { weight: 30, arbitrary: fc.record({ do: fc.constant('pull'), count: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 10, arbitrary: fc.constant({ do: 'restart' }) },
)
const history: fc.Arbitrary<History> = fc.record({
  channelCount: fc.integer({ min: 1, max: 3 }),
  maxEvents: fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 6 })),
  isFiltered: fc.oneof({ weight: 7, arbitrary: fc.constant(false) }, { weight: 3, arbitrary: fc.constant(true) }),
  steps: stepsOf(step, 40),
})

/** Sums over all histories. */
interface Totals {
  resets: number
  received: number
  returns: number
}

/** Plays a history of a program that reads `hub.events()`: publishes, pulls, pauses, and restarts after the last id. */
async function play({ channelCount, maxEvents: [a, b], isFiltered, steps }: History, totals: Totals): Promise<void> {
  const sizes: Record<string, number> = { a, b, c: 40 }
  const hub = new Hub({ replay: (name) => ({ maxEvents: sizes[name] ?? 0 }) })
  const channels = ['a', 'b', 'c'].slice(0, channelCount)
  const isWanted = (n: number): boolean => !isFiltered || n % 3 !== 0
  const filter = isFiltered ? (item: HubEvent): boolean => isWanted(numberOf(item)) : undefined
  const record = new PublishedRecord()
  /** The log heads at which the resets were made that the program has not received. */
  const heads: number[] = []
  const client = new ModelClient(record, channels, {
    isWanted: ({ n = 0 }) => isWanted(n),
    resetHead: () => heads.shift() ?? Number.NaN,
  })
  const onReset = (message: unknown): void => {
    if ((message as DiagnosticMessages['reset']).hub === hub) heads.push(record.newest)
  }
  let items: HubEvents
  let pulls: Promise<void> = Promise.resolve()
  let pulled = 0
  let answered = 0
  const faults: unknown[] = []

  const begin = (): void => {
    client.connected()
    heads.length = 0
    items = hub.events(channels, { lastEventId: client.lastEventId, filter })
  }
  const pull = (): void => {
    pulled++
    const result = items.next()
    pulls = pulls.then(async () => {
      const { done, value } = await result
      answered++
      // A pull that was pending when the iterator was left is done.
      if (done) return
      try {
        if (isReset(value) && (value.channel as string) !== '') throw new Error(`a reset names a channel of its own`)
        client.take(value.id, value.event, value.data)
      } catch (error) {
        faults.push(error)
      }
    })
  }
  const leave = async (): Promise<void> => {
    totals.returns++
    await items.return?.()
    await pulls
  }
  const publish = ({ channel, isLarge }: Publish): void => {
    const name = pick(channels, channel)
    const n = record.count + 1
    // The iterator holds two or three of the large events.
    void hub.publish(name, 'item', `${n} ${'x'.repeat(isLarge ? 30_000 : 10)}`)
    record.add(hub.channel(name).lastEventId, n)
  }
  /** Pulls until nothing more is due. The last pull stays pending. */
  const catchUp = async (): Promise<void> => {
    if (pulled === answered) pull()
    // On a busy machine a time slice may end early. The rest is then delivered in later turns.
    for (let idleTurns = 0; idleTurns < 4 || (idleTurns < 50 && client.missing !== undefined);) {
      await turn()
      if (pulled > answered) idleTurns++
      else {
        idleTurns = 0
        pull()
      }
    }
  }

  diagnosticsChannel('express-sse-hub:reset').subscribe(onReset)
  try {
    begin()
    for (const each of steps) {
      if (faults.length > 0) break
      if (each.do === 'publish') for (const one of each.events) publish(one)
      else if (each.do === 'turn') await turn()
      else if (each.do === 'pull') for (let n = 0; n < each.count; n++) pull()
      else {
        await leave()
        begin()
      }
    }
    await catchUp()
    if (faults.length === 0) client.check()
    await leave()
    if (faults.length > 0) throw faults[0] as Error
    if (hub.channel('a').subscriberCount > 0) throw new Error('an iterator that was left is still counted')
    if (![...client.reasons].every((reason) => ['slow', 'expired'].includes(reason))) {
      throw new Error(`reset: ${[...client.reasons].join()}`)
    }
  } finally {
    diagnosticsChannel('express-sse-hub:reset').unsubscribe(onReset)
  }
  totals.resets += client.resets
  totals.received += client.received
}

describe('hub.events() in random histories', () => {
  it('loses no event without a reset', async () => {
    const totals = { resets: 0, received: 0, returns: 0 }
    await playAll(history, times(2_000), (each) => play(each, totals))
    // The histories must have exercised the behaviour that the test is about.
    expect(totals.resets).toBeGreaterThan(times(1_000))
    expect(totals.received).toBeGreaterThan(times(20_000))
    expect(totals.returns).toBeGreaterThan(times(4_000))
  })
})
