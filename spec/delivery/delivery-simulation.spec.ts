import { Hub } from 'express-sse-hub'
import { parseId } from '../../lib/event/event-id.ts'
import { join } from '../../lib/hub/subscribable.ts'
import type { SubscribeOptions, TakeSnapshot } from '../../lib/delivery/subscribe-options.ts'
import { FakeConnection, parse, turn } from '../support/fake-connection.ts'
import { randomFrom } from '../support/random.ts'
import { sized } from '../support/scale.ts'

/** What one client knows of one channel. */
interface Knowledge {
  /** Everything up to here was received, or lies before the state that was fetched after a reset. */
  complete: number
  received: number
}

interface Published {
  readonly position: number
  readonly n: number
}

const isWanted = (n: number): boolean => n % 3 !== 0

/** What a client asks for. */
type Mode = 'plain' | 'filtered' | 'snapshots'

/** A client that reads everything it is sent, checks it against what was published, and remembers its last id. */
class ModelClient {
  lastId = ''
  resets = 0
  received = 0
  /** Events of a channel that may not be sent on this connection any more. */
  readonly forbidden = new Map<string, number>()
  readonly known = new Map<string, Knowledge>()
  /** Channels whose snapshot has to come before anything else does. */
  readonly awaited = new Set<string>()
  snapshots = 0
  readonly #published: Map<string, Published[]>
  readonly #mode: Mode
  #idPosition = -1
  /** The beginning of an event whose end is not there yet. */
  #partial = ''

  constructor(published: Map<string, Published[]>, mode: Mode) {
    this.#published = published
    this.#mode = mode
  }

  /** A connection was made: what the last one was waiting for does not come any more. */
  connected(channels: readonly string[]): void {
    this.#partial = ''
    this.forbidden.clear()
    this.awaited.clear()
    if (this.#mode === 'snapshots' && this.lastId === '') for (const channel of channels) this.awaited.add(channel)
  }

  take(chunk: Buffer, newest: number): void {
    const text = this.#partial + chunk.toString()
    // What is cut within an event never came.
    const end = text.lastIndexOf('\n\n') + 2
    this.#partial = text.slice(end === 1 ? 0 : end)
    for (const { id, event, data } of parse(text.slice(0, end === 1 ? 0 : end))) {
      if (this.#mode === 'snapshots' && event === 'stream-reset') {
        if (id !== undefined) throw new Error('a reset that a snapshot follows carries an id')
        this.resets++
        for (const channel of (JSON.parse(data) as { channels: string[] }).channels) this.awaited.add(channel)
        continue
      }
      if (event === 'snapshot') this.#snapshot(data)
      if (this.awaited.size > 0) throw new Error(`${event} came before the snapshot of ${[...this.awaited].join()}`)
      const place = parseId(id ?? '')
      if (id === undefined || place === undefined) throw new Error(`an event without a place: ${event} ${data}`)
      if (place.position < this.#idPosition) throw new Error(`the id went backwards: ${id}`)
      this.#idPosition = place.position
      this.lastId = id
      if (event === 'stream-reset') this.#reset(data, newest)
      else if (event === 'item') this.#item(id.slice(id.indexOf('/') + 1), place.position, JSON.parse(data) as number)
    }
  }

  #snapshot(data: string): void {
    this.snapshots++
    for (const [channel, position] of Object.entries(JSON.parse(data) as Record<string, number>)) {
      if (!this.awaited.delete(channel)) throw new Error(`a snapshot of ${channel} came and was not due`)
      this.#of(channel).complete = Math.max(this.#of(channel).complete, position)
    }
  }

  #reset(data: string, newest: number): void {
    this.resets++
    for (const channel of (JSON.parse(data) as { channels: string[] }).channels) {
      this.#of(channel).complete = Math.max(this.#of(channel).complete, newest)
      this.forbidden.set(channel, newest)
    }
  }

  #item(channel: string, position: number, n: number): void {
    const known = this.#of(channel)
    if (position <= known.received) throw new Error(`${channel} ${n} came twice or late`)
    if (position <= (this.forbidden.get(channel) ?? -1)) throw new Error(`${channel} ${n} is part of what was declared lost`)
    if (this.#mode === 'filtered' && !isWanted(n)) throw new Error(`${channel} ${n} was not wanted`)
    const hole = this.holeBefore(channel, position)
    if (hole !== undefined) throw new Error(`silent hole: ${channel} ${hole.n} is missing before ${n}`)
    known.received = position
    known.complete = Math.max(known.complete, position)
    this.received++
  }

  /** An event that should have come before the position, and did not. */
  holeBefore(channel: string, position: number): Published | undefined {
    const { complete } = this.#of(channel)
    return this.#published
      .get(channel)
      ?.find((event) => event.position > complete && event.position < position && !(this.#mode === 'filtered' && !isWanted(event.n)))
  }

  #of(channel: string): Knowledge {
    let known = this.known.get(channel)
    if (known === undefined) this.known.set(channel, (known = { complete: 0, received: 0 }))
    return known
  }
}

interface Outcome {
  readonly resets: number
  readonly snapshots: number
  readonly received: number
  readonly connects: number
}

/** One random life of a client: publishing, full sockets, cuts at any write, reconnects, keep-alives. */
async function run(seed: number, hasSnapshots: boolean): Promise<Outcome> {
  const random = randomFrom(seed)
  const below = (n: number): number => Math.floor(random() * n)
  const sizes: Record<string, number> = { a: 1 + below(4), b: 1 + below(4), c: 50 }
  const hub = new Hub({ replay: (channel) => ({ maxEvents: sizes[channel] ?? 5 }), onError: () => {} })
  const channels = ['a', 'b', 'c'].slice(0, 1 + below(3))
  const published = new Map<string, Published[]>(channels.map((name) => [name, []]))
  const mode = hasSnapshots ? 'snapshots' : random() < 0.3 ? 'filtered' : 'plain'
  const client = new ModelClient(published, mode)
  /** The snapshots that are being taken: each ends when its function is called, after events that its position does not have. */
  let pending: ((fails: boolean) => void)[] = []
  const snapshot: TakeSnapshot = (names) =>
    new Promise((resolve, reject) => {
      pending.push((fails) => {
        const state = names.map((name) => [name, published.get(name)?.at(-1)?.position ?? 0])
        if (fails) reject(new Error('the database is away'))
        else resolve({ data: Object.fromEntries(state) as unknown })
      })
    })
  const settle = (mayFail: boolean): void => {
    for (const end of pending.splice(0)) end(mayFail && random() < 0.1)
  }
  const options: SubscribeOptions = {
    filter: mode === 'filtered' ? ({ data }) => isWanted(data as number) : undefined,
    snapshot: mode === 'snapshots' ? snapshot : undefined,
  }
  let newest = 0
  let n = 0
  let connects = 0
  let connection: FakeConnection | null = null

  const connect = (cutAfter: number): void => {
    const opened = new FakeConnection()
    connects++
    client.connected(channels)
    opened.room = 1 + below(4)
    let writes = 0
    opened.onWrite = (chunk) => {
      // A client that is cut does not get what is written after that.
      if (++writes <= cutAfter) client.take(chunk, newest)
    }
    hub[join](channels, options, client.lastId).begin(opened.asConnection)
    connection = opened
  }
  const cut = (): void => {
    connection?.leave()
    connection = null
  }
  const publish = (): void => {
    const channel = channels[below(channels.length)] as string
    n++
    void hub.publish(channel, 'item', n)
    newest = parseId(hub.channel(channel).lastEventId)?.position ?? 0
    published.get(channel)?.push({ position: newest, n })
  }

  connect(Infinity)
  for (let step = 0; step < 30; step++) {
    const dice = random()
    if (dice < 0.45) for (let i = below(6); i >= 0; i--) publish()
    else if (dice < 0.6) await turn()
    else if (dice < 0.65 && hasSnapshots) settle(true)
    else if (dice < 0.75) (connection as FakeConnection | null)?.drain(1 + below(5))
    else if (dice < 0.8) {
      if (!(connection as FakeConnection | null)?.output.full) (connection as FakeConnection | null)?.feed?.keepAlive()
    } else if (!(connection as FakeConnection | null)?.isOpen) connect(random() < 0.7 ? below(5) : Infinity)
    else cut()
  }
  cut()
  connect(Infinity)
  ;(connection as FakeConnection | null)?.drain()
  // A slice may be over early on a busy machine: the rest comes in later turns.
  const isBehind = (): boolean => client.awaited.size > 0 || channels.some((name) => client.holeBefore(name, Infinity) !== undefined)
  for (let turns = 0; turns < 20 && isBehind(); turns++) {
    settle(false)
    await turn()
    // One that failed may have been shared.
    if (!(connection as FakeConnection | null)?.isOpen) connect(Infinity)
    ;(connection as FakeConnection | null)?.drain()
  }
  if (client.awaited.size > 0) throw new Error(`the snapshot of ${[...client.awaited].join()} never came`)
  for (const channel of channels) {
    const hole = client.holeBefore(channel, Infinity)
    if (hole !== undefined) throw new Error(`silent hole: ${channel} ${hole.n} never came`)
  }
  cut()
  return { resets: client.resets, snapshots: client.snapshots, received: client.received, connects }
}

/** The same for many seeds, with what happened in all of them. */
async function runAll(runs: number, hasSnapshots: boolean): Promise<Outcome> {
  const total = { resets: 0, snapshots: 0, received: 0, connects: 0 }
  for (let seed = 1; seed <= runs; seed++) {
    try {
      const outcome = await run(seed, hasSnapshots)
      for (const name of Object.keys(total) as (keyof Outcome)[]) total[name] += outcome[name]
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    }
  }
  return total
}

/** All lives in the long run, one of twenty at every change: these take longest. */
const lives = (all: number): number => sized(all, all / 20)

// Each also asserts that the runs have reached what they are about.
describe('delivery, simulated', () => {
  it('leaves no silent hole in random lives of a client', async () => {
    const { resets, received, connects } = await runAll(lives(20_000), false)
    expect(resets).toBeGreaterThan(lives(10_000))
    expect(received).toBeGreaterThan(lives(200_000))
    expect(connects).toBeGreaterThan(lives(60_000))
  })

  it('joins snapshots and events without a hole in more of them', async () => {
    const { resets, snapshots, received, connects } = await runAll(lives(10_000), true)
    expect(resets).toBeGreaterThan(lives(2_500))
    expect(snapshots).toBeGreaterThan(lives(10_000))
    expect(received).toBeGreaterThan(lives(12_000))
    expect(connects).toBeGreaterThan(lives(30_000))
  })
})
