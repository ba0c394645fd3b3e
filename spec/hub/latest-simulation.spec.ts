import { Hub, type ReplayOptions, type SubscribeOptions } from 'express-sse-hub'
import { parseId } from '../../lib/event/event-id.ts'
import { join } from '../../lib/hub/subscribable.ts'
import { FakeConnection, parse, turn } from '../support/fake-connection.ts'
import { randomFrom } from '../support/random.ts'
import { times } from '../support/scale.ts'

/** What one client believes that the keys of a channel are. */
interface Belief {
  readonly values: Map<string, number>
  /** The position of the newest event of the channel that came. */
  received: number
  /** Up to where a reset on this connection said that events were lost: nothing of that may follow. */
  lost: number
}

interface Update {
  readonly channel: string
  readonly key: string | undefined
  readonly n: number
  readonly position: number
}

/** An update as clients are told of it. */
interface Told {
  readonly channel: string
  readonly key?: string
  readonly n: number
}

/** What was published: the newest value of each key, and every event without one. */
class Truth {
  readonly updates: Update[] = []
  newest = 0

  /** The newest value of each key of a channel, and every event without one, of what a client wants. */
  of(channel: string, isWanted: (update: Update) => boolean): { state: Map<string, number>; others: Update[] } {
    const state = new Map<string, number>()
    const others: Update[] = []
    for (const update of this.updates) {
      if (update.channel !== channel || !isWanted(update)) continue
      if (update.key === undefined) others.push(update)
      else state.set(update.key, update.n)
    }
    return { state, others }
  }
}

/** A client that keeps the state of its channels as a page would: by events, and by a fetch after each reset. */
class ModelClient {
  lastId = ''
  resets = 0
  received = 0
  readonly #truth: Truth
  readonly #isWanted: (update: Update) => boolean
  readonly #beliefs = new Map<string, Belief>()
  readonly #others = new Set<number>()
  #idPosition = -1

  constructor(truth: Truth, channels: readonly string[], isWanted: (update: Update) => boolean) {
    this.#truth = truth
    this.#isWanted = isWanted
    for (const channel of channels) this.#beliefs.set(channel, { values: new Map(), received: -1, lost: -1 })
  }

  connected(): void {
    for (const belief of this.#beliefs.values()) belief.lost = -1
  }

  /** Takes so many of the events that one write held. */
  take(chunk: Buffer, limit: number): void {
    for (const { id = '', event, data: text } of parse(chunk.toString()).slice(0, limit)) {
      const place = parseId(id)
      if (place === undefined) throw new Error(`an event without a place: ${event} ${text}`)
      if (place.position < this.#idPosition) throw new Error(`the id went backwards: ${id}`)
      this.#idPosition = place.position
      this.lastId = id
      if (event === 'stream-reset') this.#reset((JSON.parse(text) as { channels: string[] }).channels)
      else if (event === 'update') this.#update({ ...(JSON.parse(text) as Told), position: place.position })
    }
  }

  #reset(channels: readonly string[]): void {
    this.resets++
    for (const channel of channels) {
      const belief = this.#of(channel)
      const { state, others } = this.#truth.of(channel, this.#isWanted)
      belief.lost = this.#truth.newest
      for (const [key, n] of state) belief.values.set(key, n)
      for (const { n } of others) this.#others.add(n)
    }
  }

  #update({ channel, key, n, position }: Told & { position: number }): void {
    const belief = this.#of(channel)
    if (position <= belief.received) throw new Error(`${channel} ${n} came twice or late`)
    if (position <= belief.lost) throw new Error(`${channel} ${n} is part of what was declared lost`)
    belief.received = position
    this.received++
    if (key === undefined) {
      this.#others.add(n)
      return
    }
    const before = belief.values.get(key) ?? -1
    // State that was fetched may contain what follows, but nothing newer.
    if (n < before) throw new Error(`${channel} ${key} went backwards, from ${before} to ${n}`)
    belief.values.set(key, n)
  }

  /** What is wrong with what the client believes, once it has all that is due. */
  get fault(): string | undefined {
    for (const [channel, { values }] of this.#beliefs) {
      const { state, others } = this.#truth.of(channel, this.#isWanted)
      for (const [key, n] of state) {
        if (values.get(key) !== n) return `${channel} ${key} is ${n}, and ${values.get(key)} to the client`
      }
      const missing = others.find(({ n }) => !this.#others.has(n))
      if (missing !== undefined) return `${channel} ${missing.n}, which has no key, never came`
    }
    return undefined
  }

  #of(channel: string): Belief {
    const belief = this.#beliefs.get(channel)
    if (belief === undefined) throw new Error(`there is no channel ${channel}`)
    return belief
  }
}

interface Outcome {
  readonly resets: number
  readonly received: number
  readonly published: number
  readonly connects: number
}

/** One random life of a client: updates in bursts, full sockets, cuts within a write, reconnects, keep-alives. */
async function run(seed: number): Promise<Outcome> {
  const random = randomFrom(seed)
  const below = (n: number): number => Math.floor(random() * n)
  const channels = ['a', 'b'] as const
  // Some lose keys all the time, and some never do.
  const bounds: Record<string, ReplayOptions> = {
    a: { latestPerKey: true, maxEvents: 2 + below(12) },
    b: { latestPerKey: true, ...(random() < 0.5 ? { maxEvents: 2 + below(12) } : { maxBytes: 300 + below(3_000) }) },
  }
  const hub = new Hub({ replay: (channel) => bounds[channel] ?? {} })
  const truth = new Truth()
  const keys = 1 + below(8)
  const isFiltered = random() < 0.3
  const isWanted = ({ key }: { key?: string | undefined }): boolean => !isFiltered || key !== 'key 0'
  const options: SubscribeOptions = isFiltered ? { filter: (event) => isWanted(event.data as Update) } : {}
  const client = new ModelClient(truth, channels, isWanted)
  let n = 0
  let connects = 0
  let connection: FakeConnection | null = null

  const connect = (cutAfter: number): FakeConnection => {
    const made = new FakeConnection()
    connects++
    made.room = 1 + below(4)
    client.connected()
    let writes = 0
    made.onWrite = (chunk) => {
      // A client that is cut has a part of what was written last, and nothing of what is written then.
      writes++
      if (writes <= cutAfter) client.take(chunk, writes === cutAfter ? below(4) : Infinity)
    }
    hub[join](channels, options, client.lastId).begin(made.asConnection)
    connection = made
    return made
  }
  const cut = (): void => {
    connection?.leave()
    connection = null
  }
  const publish = (): void => {
    const channel = channels[below(2)] as string
    const key = random() < 0.9 ? `key ${below(keys)}` : undefined
    n++
    void hub.publish(channel, 'update', { channel, key, n, filler: 'x'.repeat(below(100)) }, { key })
    const position = parseId(hub.channel(channel).lastEventId)?.position ?? 0
    truth.newest = position
    truth.updates.push({ channel, key, n, position })
  }

  connect(Infinity)
  for (let step = 0; step < 30; step++) {
    const dice = random()
    const now = connection as FakeConnection | null
    if (dice < 0.45) for (let i = below(12); i >= 0; i--) publish()
    else if (dice < 0.6) await turn()
    else if (dice < 0.75) now?.drain(1 + below(5))
    else if (dice < 0.8) {
      if (now !== null && !now.output.full) now.feed?.keepAlive()
    } else if (now === null) connect(random() < 0.7 ? 1 + below(5) : Infinity)
    else cut()
  }
  cut()
  connect(Infinity).drain()
  // A slice may be over early on a busy machine: the rest comes in later turns.
  for (let turns = 0; turns < 20 && client.fault !== undefined; turns++) await turn()
  if (client.fault !== undefined) throw new Error(client.fault)
  cut()
  return { resets: client.resets, received: client.received, published: n, connects }
}

describe('the latest per key, simulated', () => {
  it('is what a client has of every key in the end, unless it is told, in random lives; no key and no id goes backwards', async () => {
    const total = { resets: 0, received: 0, published: 0, connects: 0, withoutReset: 0 }
    for (let seed = 1; seed <= times(3_000); seed++) {
      try {
        const { resets: told, received, published, connects } = await run(seed)
        total.resets += told
        total.received += received
        total.published += published
        total.connects += connects
        if (told === 0) total.withoutReset++
      } catch (error) {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
      }
    }
    // The runs must have reached what they are about.
    expect(total.resets).toBeGreaterThan(times(1_000))
    expect(total.withoutReset).toBeGreaterThan(times(500))
    expect(total.received).toBeGreaterThan(times(20_000))
    expect(total.published).toBeGreaterThan(1.5 * total.received)
    expect(total.connects).toBeGreaterThan(times(10_000))
  })
})
