import { Hub } from 'express-sse-hub'
import * as fc from 'fast-check'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { anyNumber, fraction, pick, playAll, stepsOf } from '../support/histories.ts'
import { ModelClient } from '../support/model-client.ts'
import { randomFrom } from '../support/random.ts'
import { times } from '../support/scale.ts'
import { SimulatedEngine } from '../support/simulated-engine.ts'
import { SteppedBackplane } from '../support/stepped-backplane.ts'
import { subscribeTo } from '../support/subscribe.ts'

const CHANNELS = ['a', 'b', 'c']
const CLIENT_CHANNELS = [['a'], ['b'], ['a', 'b'], ['a', 'b', 'c'], ['c', 'a']]
const PROCESS_COUNT = 3

/** The failures of the engine and of the connections to it. */
interface Faults {
  readonly maxEvents: number
  readonly interruptions?: boolean
  /** Connections become deaf: they are up, and deliver nothing. */
  readonly deafness?: boolean
  /** Single calls are lost, or repeated, on the way to a process. With losses, clients stay connected. */
  readonly losses?: boolean
  readonly repeats?: boolean
  /** The log is lost, and a new epoch begins. */
  readonly flushes?: boolean
  readonly forgetting?: boolean
  /** Channels are refused for a while, to hubs that watch them or to hubs that read them. */
  readonly refusals?: boolean
}

/** One step of a history. `client` and `process` select one, by the remainder. */
type Step =
  | { readonly do: 'publish'; readonly process: number; readonly channel: string }
  | { readonly do: 'arrive'; readonly process: number; readonly choice: number }
  | { readonly do: 'toggle'; readonly client: number; readonly process: number }
  | { readonly do: 'leave'; readonly client: number }
  | { readonly do: 'fill'; readonly client: number; readonly isFull: boolean }
  | { readonly do: 'drain'; readonly client: number }
  | { readonly do: 'disconnect' | 'connect' | 'deafen'; readonly process: number }
  | { readonly do: 'lose' | 'repeat'; readonly process: number; readonly choice: number }
  | { readonly do: 'flush'; readonly isBack: boolean }
  | { readonly do: 'forget'; readonly channel: string }
  | { readonly do: 'refuse'; readonly channel: string; readonly what: 'watching' | 'reading' }
  | { readonly do: 'turn' }
  | { readonly do: 'probe' }

interface History {
  readonly steps: readonly Step[]
  /** Determines the order in which everything arrives in the end. */
  readonly seed: number
}

const process = anyNumber
const client = anyNumber
const channel = fc.constantFrom(...CHANNELS)
const choice = fraction

function historyWith(faults: Faults): fc.Arbitrary<History> {
  const on = (isOn: boolean | undefined, weight: number): number => (isOn === true ? weight : 0)
  const isLossless = faults.losses !== true
  const step = fc.oneof<fc.WeightedArbitrary<Step>[]>(
    { weight: 250, arbitrary: fc.record({ do: fc.constant('publish'), process, channel }) },
    { weight: 300, arbitrary: fc.record({ do: fc.constant('arrive'), process, choice }) },
    { weight: 130, arbitrary: fc.record({ do: fc.constant('toggle'), client, process }) },
    { weight: on(isLossless, 50), arbitrary: fc.record({ do: fc.constant('leave'), client }) },
    { weight: 30, arbitrary: fc.record({ do: fc.constant('fill'), client, isFull: fc.boolean() }) },
    { weight: 30, arbitrary: fc.record({ do: fc.constant('drain'), client }) },
    { weight: on(faults.interruptions, 20), arbitrary: fc.record({ do: fc.constant('disconnect'), process }) },
    { weight: 30, arbitrary: fc.record({ do: fc.constant('connect'), process }) },
    { weight: on(faults.losses, 40), arbitrary: fc.record({ do: fc.constant('lose'), process, choice }) },
    { weight: on(faults.deafness, 35), arbitrary: fc.record({ do: fc.constant('deafen'), process }) },
    { weight: on(faults.repeats, 30), arbitrary: fc.record({ do: fc.constant('repeat'), process, choice }) },
    { weight: on(faults.flushes, 5), arbitrary: fc.record({ do: fc.constant('flush'), isBack: fc.boolean() }) },
    { weight: on(faults.forgetting, 12), arbitrary: fc.record({ do: fc.constant('forget'), channel }) },
    {
      weight: on(faults.refusals, 17),
      arbitrary: fc.record({ do: fc.constant('refuse'), channel, what: fc.constantFrom('watching', 'reading') }),
    },
    { weight: 15, arbitrary: fc.constant({ do: 'probe' }) },
    { weight: 100, arbitrary: fc.constant({ do: 'turn' }) },
  )
  return fc.record({ steps: stepsOf(step, 250), seed: fc.nat(0x7f_ff_ff_ff) })
}

/** A client that moves between the processes. */
class Client {
  readonly model: ModelClient
  connection: FakeConnection | null = null
  readonly #channels: readonly string[]
  #isPreparing = false

  constructor(engine: SimulatedEngine, channels: readonly string[]) {
    this.#channels = channels
    // A hub may reset its clients before or after it has received the events that the engine has stored.
    this.model = new ModelClient(engine, channels, { resetHead: () => undefined })
  }

  /** Whether it is connected, or about to be. */
  get isBusy(): boolean {
    if (this.connection?.isOpen === false) this.connection = null
    return this.connection !== null || this.#isPreparing
  }

  async connect(hub: Hub): Promise<void> {
    this.#isPreparing = true
    this.model.connected()
    const connection = new FakeConnection()
    connection.onWrite = (chunk) => this.model.read(chunk)
    const refusal = await subscribeTo(hub, this.#channels, connection, this.model.lastEventId)
    this.#isPreparing = false
    if (refusal === undefined) this.connection = connection
  }

  leave(): void {
    this.connection?.leave()
    this.connection = null
  }
}

/** Plays a history of three processes and their clients. */
async function play({ steps, seed }: History, faults: Faults, totals: Totals): Promise<void> {
  // A clock that stands still, so that positions follow each other and go back when the log is lost.
  const engine = new SimulatedEngine({ clock: () => 1_000 })
  const backplanes = Array.from({ length: PROCESS_COUNT }, () => new SteppedBackplane(engine))
  const hubs = backplanes.map((backplane) => new Hub({ backplane, replay: { maxEvents: faults.maxEvents }, onError: () => {} }))
  const clients = CLIENT_CHANNELS.map((channels) => new Client(engine, channels))
  for (const backplane of backplanes) backplane.connect()

  const act = async (step: Step): Promise<void> => {
    if (step.do === 'turn') return turn()
    if (step.do === 'probe') {
      await jest.advanceTimersByTimeAsync(500)
      return
    }
    if (step.do === 'publish') return void (await pick(hubs, step.process).publish(step.channel, 'e', ''))
    if (step.do === 'flush') return engine.flush(step.isBack ? Math.max(1_000, engine.newest - 20) : engine.newest + 5)
    if (step.do === 'forget') return engine.forget(step.channel)
    if (step.do === 'refuse') return toggle(step.what === 'watching' ? engine.unwatchable : engine.unreadable, step.channel)
    if ('client' in step) {
      const one = pick(clients, step.client)
      if (step.do === 'toggle') {
        if (!one.isBusy) void one.connect(pick(hubs, step.process))
        else if (faults.losses !== true) one.leave()
      } else if (step.do === 'leave') one.leave()
      else if (step.do === 'drain') one.connection?.drain()
      else if (one.connection !== null) one.connection.output.full = step.isFull
      return
    }
    const backplane = pick(backplanes, step.process)
    if (step.do === 'arrive') backplane.arrive(step.choice)
    else if (step.do === 'disconnect') backplane.disconnect()
    else if (step.do === 'deafen') backplane.deafen()
    else if (step.do === 'lose') backplane.lose(step.choice)
    else if (step.do === 'repeat') backplane.repeat(step.choice)
    else if (!backplane.isConnected) backplane.connect()
  }
  for (const step of steps) await act(step)

  engine.unwatchable.clear()
  engine.unreadable.clear()
  // Everything that is on its way arrives, and the next probes notice what was lost.
  const random = randomFrom(seed)
  for (let round = 0; round < 9; round++) {
    for (const backplane of backplanes) if (!backplane.isConnected) backplane.connect()
    for (const one of clients) {
      one.connection?.drain()
      if (!one.isBusy) void one.connect(hubs[Math.floor(random() * PROCESS_COUNT)] as Hub)
    }
    if (round < 8) await jest.advanceTimersByTimeAsync(600)
    for (let quietTurns = 0, count = 0; quietTurns < 3; count++) {
      if (count > 10_000) throw new Error('calls and answers keep arriving without end')
      const hasArrived = backplanes.filter((backplane) => backplane.arrive(random())).length > 0
      await turn()
      quietTurns = hasArrived ? 0 : quietTurns + 1
    }
  }
  for (const { connection, model } of clients) {
    if (connection === null) throw new Error('a client is not connected in the end')
    model.check()
    totals.resets += model.resets
    for (const reason of model.reasons) totals.reasons.add(reason)
  }
  for (const one of clients) one.leave()
  const closed = hubs.map((hub) => hub.close())
  await jest.advanceTimersByTimeAsync(6_000)
  await Promise.all(closed)
}

function toggle<T>(set: Set<T>, item: T): void {
  if (!set.delete(item)) set.add(item)
}

/** Sums over all histories. */
interface Totals {
  resets: number
  readonly reasons: Set<string>
}

async function playWith(numRuns: number, faults: Faults): Promise<{ resets: number; reasons: string[] }> {
  const totals: Totals = { resets: 0, reasons: new Set() }
  await playAll(historyWith(faults), numRuns, (history) => play(history, faults, totals))
  return { resets: totals.resets, reasons: [...totals.reasons].toSorted() }
}

const NO_RESET = { resets: 0, reasons: [] }

describe('clients of three processes that share a log, in random histories,', () => {
  beforeEach(() => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'queueMicrotask', 'nextTick', 'performance', 'Date'] })
  })

  afterEach(() => {
    jest.useRealTimers()
  })

  describe('receive every event once and in order, without a reset,', () => {
    it('if calls arrive late and repeatedly', async () => {
      expect(await playWith(times(400), { maxEvents: 10_000, repeats: true })).toEqual(NO_RESET)
    })

    it('if connections break', async () => {
      expect(await playWith(times(600), { maxEvents: 10_000, repeats: true, interruptions: true })).toEqual(NO_RESET)
    })

    it('if connections become deaf', async () => {
      expect(await playWith(times(600), { maxEvents: 10_000, repeats: true, interruptions: true, deafness: true })).toEqual(NO_RESET)
    })

    it('if channels are refused for a while', async () => {
      expect(await playWith(times(700), { maxEvents: 10_000, repeats: true, interruptions: true, refusals: true })).toEqual(NO_RESET)
    })
  })

  describe('receive every event once and in order, or a reset,', () => {
    it('if single events are lost on the way to a process', async () => {
      const { resets, reasons } = await playWith(times(600), { maxEvents: 10_000, interruptions: true, losses: true, repeats: true })
      expect(resets).toBeGreaterThan(0)
      expect(reasons).toEqual(['expired'])
    })

    it('if the log is trimmed and channels are forgotten', async () => {
      const { resets, reasons } = await playWith(times(600), { maxEvents: 4, interruptions: true, forgetting: true })
      expect(resets).toBeGreaterThan(0)
      expect(reasons).toContain('expired')
      expect(['expired', 'slow']).toEqual(expect.arrayContaining(reasons))
    })

    it('if the log is lost and its clock goes back', async () => {
      const faults = { maxEvents: 6, interruptions: true, deafness: true, repeats: true, flushes: true, forgetting: true }
      const { resets, reasons } = await playWith(times(700), faults)
      expect(resets).toBeGreaterThan(0)
      expect(reasons).toContain('restarted')
    })
  })
})
