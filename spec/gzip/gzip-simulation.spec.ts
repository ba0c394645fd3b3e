import zlib from 'node:zlib'
import { Hub } from 'express-sse-hub'
import { GzipBody } from '../../lib/gzip/gzip-body.ts'
import { join } from '../../lib/stream/subscribable.ts'
import type { SubscribeOptions } from '../../lib/stream/subscription.ts'
import { FakeConnection, parse, turn } from '../support/fake-connection.ts'
import { randomFrom } from '../support/random.ts'
import { sized, times } from '../support/scale.ts'

interface Outcome {
  readonly connects: number
  readonly resets: number
  /** Bytes of all gzip streams, and of what was read from them, and how many events that was. */
  readonly wire: number
  readonly read: number
  readonly events: number
}

/** What an application sends: much of it the same in all events, and all that is left no noise. */
function payload(random: () => number): unknown {
  const below = (n: number): number => Math.floor(random() * n)
  const dice = random()
  // Within a segment of a page, across one, and larger than one.
  const items = dice < 0.98 ? below(4) : dice < 0.999 ? below(60) : 400 + below(2_000)
  return {
    order: below(1_000_000),
    state: ['created', 'paid', 'shipped'][below(3)],
    items: Array.from({ length: items }, () => ({ article: below(5_000), quantity: below(9) })),
  }
}

/**
 * A random life of a hub and of clients that take gzip: bursts, full sockets, keep-alives, snapshots, filters, and clients
 * that leave and come back. Whatever a client was given, gunzip takes it, checksum and all, and each event is what was
 * published with its id, after those before it.
 */
async function run(seed: number, keepsWindow: boolean): Promise<Outcome> {
  const random = randomFrom(seed)
  const below = (n: number): number => Math.floor(random() * n)
  const hub = new Hub({
    replay: (name) => ({
      maxEvents: name === 'a' ? 2 + below(4) : 1_000,
      maxBytes: name === 'b' ? 3_000 : 1_048_576,
      latestPerKey: name === 'c',
    }),
    onError: () => {},
  })
  const connections: FakeConnection[] = []
  const total = { connects: 0, resets: 0, wire: 0, read: 0, events: 0 }
  const published = new Map<string, string>()
  const publishing: Promise<void>[] = []
  const publish = async (channel: string, data: unknown, key: string | undefined): Promise<void> => {
    published.set(await hub.publish(channel, 'order', data, { key }), JSON.stringify(data))
  }
  const left: FakeConnection[] = []
  const ids: string[] = ['']
  const connect = (): void => {
    const channels = random() < 0.6 ? ['abcd'.charAt(below(4))] : ['a', 'b', 'c', 'd'].filter(() => random() < 0.5)
    if (channels.length === 0) return
    const options: SubscribeOptions = {}
    const dice = random()
    if (dice < 0.2) Object.assign(options, { filter: () => random() < 0.6 })
    else if (dice < 0.4) Object.assign(options, { snapshot: () => ({ data: payload(random) }) })
    else if (dice < 0.5) Object.assign(options, { rewind: below(50) })
    const connection = new FakeConnection(new GzipBody(keepsWindow))
    connection.room = 1 + below(60)
    hub[join](channels, options).start(connection.asConnection, ids[below(ids.length)] as string)
    connections.push(connection)
    total.connects++
  }
  const leave = (index: number): void => {
    const [connection] = connections.splice(index, 1) as [FakeConnection]
    connection.leave()
    left.push(connection)
    for (const { id } of connection.events.slice(-2)) if (id !== undefined) ids.push(id)
  }
  const check = (connection: FakeConnection): void => {
    const { text } = connection
    total.wire += Buffer.concat(connection.writes).length
    total.read += text.length
    const seen = new Set<string>()
    for (const { event, id = '', data } of parse(text)) {
      if (event === 'stream-reset') total.resets++
      if (event !== 'order' || !published.has(id)) continue
      if (data !== published.get(id)) throw new Error(`${id} is ${data}, and was ${published.get(id)}`)
      if (seen.has(id)) throw new Error(`${id} came twice`)
      seen.add(id)
      total.events++
    }
  }

  for (let step = 0; step < 60; step++) {
    const dice = random()
    const connection = connections[below(connections.length)]
    if (dice < 0.4) {
      for (let i = below(8); i >= 0; i--) {
        const channel = 'abcccd'.charAt(below(6))
        const key = channel === 'c' && random() < 0.7 ? `k${below(5)}` : undefined
        publishing.push(publish(channel, payload(random), key))
      }
    } else if (dice < 0.65) await turn()
    else if (dice < 0.75) connect()
    else if (dice < 0.87) connection?.drain(1 + below(60))
    else if (dice < 0.89 && connection?.output.full === false) connection.feed?.keepAlive()
    else if (dice < 0.9 && connection?.output.full === false) {
      connection.output.writeOwn(Buffer.from(`data: ${below(100)}\n\n`.repeat(1 + below(40))))
    } else if (connections.length > 2) leave(below(connections.length))
  }
  while (connections.length > 0) leave(0)
  await Promise.all(publishing)
  for (const connection of left) check(connection)
  void hub.close()
  return total
}

/** The same for many seeds, with what happened in all of them. */
async function runAll(runs: number, keepsWindow: boolean): Promise<Outcome> {
  const total = { connects: 0, resets: 0, wire: 0, read: 0, events: 0 }
  for (let seed = 1; seed <= runs; seed++) {
    try {
      const outcome = await run(seed, keepsWindow)
      for (const name of Object.keys(total) as (keyof Outcome)[]) total[name] += outcome[name]
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    }
  }
  return total
}

// Each also asserts that the runs have reached what they are about.
describe('gzip streams, simulated', () => {
  it('are made of blocks that stand alone in random lives', async () => {
    const { connects, resets, wire, read, events } = await runAll(times(300), false)
    expect(connects).toBeGreaterThan(times(900))
    expect(resets).toBeGreaterThan(times(50))
    expect(read).toBeGreaterThan(times(1_000_000))
    expect(events).toBeGreaterThan(times(5_000))
    // Of few lives, one with much noise makes more of a difference.
    expect(wire / read).toBeLessThan(sized(0.6, 0.7))
  })

  it('are made of blocks that refer only to what the client had', async () => {
    const deflate = jest.spyOn(zlib, 'deflateRawSync')
    const { connects, resets } = await runAll(times(300), true)
    expect(connects).toBeGreaterThan(times(900))
    expect(resets).toBeGreaterThan(times(50))
    expect(deflate.mock.calls.filter(([, options]) => options?.dictionary !== undefined).length).toBeGreaterThan(times(100))
    deflate.mockRestore()
  })
})
