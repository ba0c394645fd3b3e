import { Hub } from '../../lib/index.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { subscribeTo } from '../support/subscribe.ts'
import { randomFrom } from '../support/random.ts'
import { times } from '../support/scale.ts'
import { SimulatedBackplane, SimulatedEngine } from '../support/simulated-engine.ts'
import { Witness } from '../support/witness.ts'

const CHANNELS = ['a', 'b', 'c']

/** What may happen to the engine and the ways to it. */
interface Faults {
  readonly maxEvents: number
  readonly interruptions?: boolean
  /** Connections become deaf. */
  readonly deafness?: boolean
  /** Single events are lost, or come twice, on the way to a process whose clients stay there. */
  readonly losses?: boolean
  readonly doubles?: boolean
  readonly flushes?: boolean
  readonly forgetting?: boolean
  /** Channels are refused for a while, to those who watch them or to those who read them. */
  readonly refusals?: boolean
}

class Client {
  readonly channels: readonly string[]
  readonly witness: Witness
  connection: FakeConnection | null = null
  #isPreparing = false

  constructor(engine: SimulatedEngine, channels: readonly string[]) {
    this.channels = channels
    this.witness = new Witness(engine, channels)
  }

  get isBusy(): boolean {
    if (this.connection?.isOpen === false) this.connection = null
    return this.connection !== null || this.#isPreparing
  }

  get isPreparing(): boolean {
    return this.#isPreparing
  }

  async connect(hub: Hub): Promise<void> {
    this.#isPreparing = true
    this.witness.begin()
    const connection = new FakeConnection()
    connection.onWrite = (chunk) => this.witness.take(chunk)
    const refusal = await subscribeTo(hub, this.channels, connection, this.witness.lastEventId)
    this.#isPreparing = false
    if (refusal === undefined) this.connection = connection
  }

  leave(): void {
    this.connection?.leave()
    this.connection = null
  }
}

/** One life of three processes and their clients, from a seed. */
async function live(seed: number, faults: Faults): Promise<{ resets: number; reasons: Set<string> }> {
  const random = randomFrom(seed)
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T
  const engine = new SimulatedEngine()
  const backplanes = [0, 1, 2].map(() => new SimulatedBackplane(engine))
  const errors: unknown[] = []
  const hubs = backplanes.map(
    (backplane) => new Hub({ backplane, replay: { maxEvents: faults.maxEvents }, onError: (error) => errors.push(error) }),
  )
  const clients = [['a'], ['b'], ['a', 'b'], ['a', 'b', 'c'], ['c', 'a']].map((channels) => new Client(engine, channels))
  for (const backplane of backplanes) backplane.connect()
  const step = async (): Promise<void> => {
    const at = random()
    const client = pick(clients)
    const backplane = pick(backplanes)
    if (at < 0.25) await pick(hubs).publish(pick(CHANNELS), 'e', '')
    else if (at < 0.55) backplane.arrive(random())
    else if (at < 0.68 && !client.isBusy) void client.connect(pick(hubs))
    else if (at < 0.73 && !faults.losses) client.leave()
    else if (at < 0.76 && client.connection) client.connection.output.full = random() < 0.5
    else if (at < 0.79) client.connection?.drain()
    else if (at < 0.81 && faults.interruptions) backplane.disconnect()
    else if (at < 0.84 && !backplane.isConnected) backplane.connect()
    else if (at < 0.85 && faults.losses) backplane.disturb(random(), false)
    else if (at < 0.855 && faults.deafness) backplane.deafen()
    else if (at < 0.87 && faults.doubles) backplane.disturb(random(), true)
    else if (at < 0.875 && faults.flushes) engine.flush(random() < 0.5 ? engine.last + 5 : Math.max(1_000, engine.last - 20))
    else if (at < 0.885 && faults.forgetting) engine.forget(pick(CHANNELS))
    else if (at < 0.887 && faults.refusals) toggle(pick([engine.unwatchable, engine.unreadable]), pick(CHANNELS))
    else if (at < 0.89) await jest.advanceTimersByTimeAsync(500)
    else if (at < 0.97) await turn()
  }
  for (let i = 0; i < 250; i++) await step()
  engine.unwatchable.clear()
  engine.unreadable.clear()
  // Everything that is under way arrives, and what was lost on the way is noticed by the next probes.
  for (let round = 0; round < 9; round++) {
    for (const backplane of backplanes) if (!backplane.isConnected) backplane.connect()
    for (const client of clients) {
      client.connection?.drain()
      if (!client.isBusy) void client.connect(pick(hubs))
    }
    if (round < 8) await jest.advanceTimersByTimeAsync(600)
    for (let quiet = 0, steps = 0; quiet < 3; steps++) {
      if (steps > 10_000) throw new Error('it does not come to rest')
      const isMoving = backplanes.filter((backplane) => backplane.arrive(random())).length > 0
      await turn()
      quiet = isMoving ? 0 : quiet + 1
    }
  }
  for (const client of clients) {
    if (client.connection === null) throw new Error('a client is not connected at the end')
    client.witness.check()
  }
  for (const client of clients) client.leave()
  const closed = hubs.map((hub) => hub.close())
  await jest.advanceTimersByTimeAsync(6_000)
  await Promise.all(closed)
  const reasons = new Set(clients.flatMap(({ witness }) => [...witness.reasons]))
  return { resets: clients.reduce((sum, { witness }) => sum + witness.resets, 0), reasons }
}

function toggle<T>(set: Set<T>, item: T): void {
  if (!set.delete(item)) set.add(item)
}

/** Lives from many seeds; which resets there were. */
async function liveMany(lives: number, faults: Faults): Promise<{ resets: number; reasons: string[] }> {
  let resets = 0
  const reasons = new Set<string>()
  for (let seed = 1; seed <= lives; seed++) {
    try {
      const life = await live(seed, faults)
      resets += life.resets
      for (const reason of life.reasons) reasons.add(reason)
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error })
    }
  }
  return { resets, reasons: [...reasons].toSorted() }
}

describe('clients of three processes that share a log', () => {
  beforeEach(() => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'queueMicrotask', 'nextTick', 'performance', 'Date'] })
  })

  afterEach(() => {
    jest.useRealTimers()
  })

  it('are given everything once and in order, and nobody is reset, whatever arrives when and however often', async () => {
    expect(await liveMany(times(400), { maxEvents: 10_000, doubles: true })).toEqual({ resets: 0, reasons: [] })
  })

  it('are given everything once and in order, and nobody is reset, when connections break', async () => {
    expect(await liveMany(times(600), { maxEvents: 10_000, doubles: true, interruptions: true })).toEqual({ resets: 0, reasons: [] })
  })

  it('are given everything once and in order, and nobody is reset, when connections become deaf', async () => {
    expect(await liveMany(times(600), { maxEvents: 10_000, doubles: true, interruptions: true, deafness: true })).toEqual({
      resets: 0,
      reasons: [],
    })
  })

  it('are given everything once and in order, and nobody is reset, when channels are refused for a while', async () => {
    expect(await liveMany(times(700), { maxEvents: 10_000, doubles: true, interruptions: true, refusals: true })).toEqual({
      resets: 0,
      reasons: [],
    })
  })

  it('are given everything once and in order, or told, when single events are lost on the way to them', async () => {
    const { resets, reasons } = await liveMany(times(600), { maxEvents: 10_000, interruptions: true, losses: true, doubles: true })
    expect(resets).toBeGreaterThan(0)
    expect(reasons).toEqual(['expired'])
  })

  it('are given everything once and in order, or told, when the log is trimmed and channels are forgotten', async () => {
    const { resets, reasons } = await liveMany(times(600), { maxEvents: 4, interruptions: true, forgetting: true })
    expect(resets).toBeGreaterThan(0)
    expect(reasons).toContain('expired')
    expect(['expired', 'slow']).toEqual(expect.arrayContaining(reasons))
  })

  it('are given everything once and in order, or told, when the log is lost and its clock goes back', async () => {
    const { resets, reasons } = await liveMany(times(700), {
      maxEvents: 6,
      interruptions: true,
      deafness: true,
      doubles: true,
      flushes: true,
      forgetting: true,
    })
    expect(resets).toBeGreaterThan(0)
    expect(reasons).toContain('restarted')
  })
})
