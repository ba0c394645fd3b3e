import { Hub } from 'express-sse-hub'
import { parseId } from '../lib/event-id.ts'
import { join } from '../lib/subscribable.ts'
import type { SubscribeOptions } from '../lib/subscription.ts'
import { FakeConnection, parse, randomFrom, turn } from './support/fake-connection.ts'

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

/** A client that reads everything it is sent, checks it against what was published, and remembers its last id. */
class ModelClient {
  lastId = ''
  resets = 0
  received = 0
  /** Events of a channel that may not be sent on this connection any more. */
  readonly forbidden = new Map<string, number>()
  readonly known = new Map<string, Knowledge>()
  readonly #published: Map<string, Published[]>
  readonly #isFiltered: boolean
  #idPosition = -1

  constructor(published: Map<string, Published[]>, isFiltered: boolean) {
    this.#published = published
    this.#isFiltered = isFiltered
  }

  take(chunk: Buffer, newest: number): void {
    for (const { id, event, data } of parse(chunk.toString())) {
      const place = parseId(id ?? '')
      if (id === undefined || place === undefined) throw new Error(`an event without a place: ${event} ${data}`)
      if (place.position < this.#idPosition) throw new Error(`the id went backwards: ${id}`)
      this.#idPosition = place.position
      this.lastId = id
      if (event === 'stream-reset') this.#reset(data, newest)
      else if (event === 'item') this.#item(id.slice(id.indexOf('/') + 1), place.position, JSON.parse(data) as number)
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
    if (this.#isFiltered && !isWanted(n)) throw new Error(`${channel} ${n} was not wanted`)
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
      ?.find((event) => event.position > complete && event.position < position && !(this.#isFiltered && !isWanted(event.n)))
  }

  #of(channel: string): Knowledge {
    let known = this.known.get(channel)
    if (known === undefined) this.known.set(channel, (known = { complete: 0, received: 0 }))
    return known
  }
}

interface Outcome {
  readonly resets: number
  readonly received: number
  readonly connects: number
}

/** One random life of a client: publishing, full sockets, cuts at any write, reconnects, keep-alives. */
async function run(seed: number): Promise<Outcome> {
  const random = randomFrom(seed)
  const below = (n: number): number => Math.floor(random() * n)
  const sizes: Record<string, number> = { a: 1 + below(4), b: 1 + below(4), c: 50 }
  const hub = new Hub({ replay: (channel) => ({ maxEvents: sizes[channel] ?? 5 }) })
  const channels = ['a', 'b', 'c'].slice(0, 1 + below(3))
  const published = new Map<string, Published[]>(channels.map((name) => [name, []]))
  const isFiltered = random() < 0.3
  const options: SubscribeOptions = isFiltered ? { filter: ({ data }) => isWanted(data as number) } : {}
  const client = new ModelClient(published, isFiltered)
  let newest = 0
  let n = 0
  let connects = 0
  let connection: FakeConnection | null = null

  const connect = (cutAfter: number): void => {
    const opened = new FakeConnection()
    connects++
    client.forbidden.clear()
    opened.room = 1 + below(4)
    let writes = 0
    opened.onWrite = (chunk) => {
      // A client that is cut does not get what is written after that.
      if (++writes <= cutAfter) client.take(chunk, newest)
    }
    hub[join](channels, options).start(opened.asConnection, client.lastId)
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
    else if (dice < 0.75) (connection as FakeConnection | null)?.drain(1 + below(5))
    else if (dice < 0.8) {
      if (!(connection as FakeConnection | null)?.output.full) (connection as FakeConnection | null)?.feed?.keepAlive()
    } else if (connection === null) connect(random() < 0.7 ? below(5) : Infinity)
    else cut()
  }
  cut()
  connect(Infinity)
  ;(connection as FakeConnection | null)?.drain()
  // A slice may be over early on a busy machine: the rest comes in later turns.
  for (let turns = 0; turns < 20 && channels.some((name) => client.holeBefore(name, Infinity)); turns++) await turn()
  for (const channel of channels) {
    const hole = client.holeBefore(channel, Infinity)
    if (hole !== undefined) throw new Error(`silent hole: ${channel} ${hole.n} never came`)
  }
  cut()
  return { resets: client.resets, received: client.received, connects }
}

describe('delivery, simulated', () => {
  it('leaves no silent hole in 20,000 random lives of a client', async () => {
    const total = { resets: 0, received: 0, connects: 0 }
    for (let seed = 1; seed <= 20_000; seed++) {
      try {
        const { resets, received, connects } = await run(seed)
        total.resets += resets
        total.received += received
        total.connects += connects
      } catch (error) {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
      }
    }
    // The runs must have reached what they are about.
    expect(total.resets).toBeGreaterThan(10_000)
    expect(total.received).toBeGreaterThan(200_000)
    expect(total.connects).toBeGreaterThan(60_000)
  }, 60_000)
})
