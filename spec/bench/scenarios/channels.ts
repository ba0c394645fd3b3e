import { type ScenarioResult, shown } from '../report/result.ts'
import { randomFrom } from '../../support/random.ts'
import { costOf } from '../support/cost.ts'
import { type Rig, withRigs } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import { figure, ratio } from '../support/statistics.ts'
import type { PublishOrder } from '../servers/server-process.ts'

const CLIENTS = 1_000
const CHANNELS = 100
const PER_CLIENT = 5

type Order = Pick<PublishOrder, 'turns' | 'perTurn' | 'intervalMs' | 'channels' | 'spread'>
interface Case {
  readonly text: string
  readonly many: boolean
  readonly order: Order
}

const CASES = {
  'one, 10': {
    text: 'one channel, 10 events a turn: 10 per client and turn',
    many: false,
    order: { turns: 50, perTurn: 10, intervalMs: 0 },
  },
  'one, 1': { text: 'one channel, 1 event a turn: 1 per client and turn', many: false, order: { turns: 60, perTurn: 1, intervalMs: 0 } },
  equal: {
    text: '5 of 100 channels, 2 events a turn to each channel: 10 per client and turn',
    many: true,
    order: { turns: 30, perTurn: 200, intervalMs: 0, channels: CHANNELS },
  },
  random: {
    text: '5 of 100 channels, 10 events a turn to any of them: 0.5 per client and turn',
    many: true,
    order: { turns: 100, perTurn: 10, intervalMs: 0, channels: CHANNELS, spread: 'random' },
  },
} as const satisfies Record<string, Case>
type CaseName = keyof typeof CASES

/** Measures the cost of several channels on a stream, compared with one. */
export async function channels(context: BenchContext): Promise<ScenarioResult> {
  const { quick, log } = context
  const names = Object.keys(CASES) as CaseName[]
  const samples = new Samples()
  await withRigs([{ name: 'express-sse-hub' }, { name: 'express-sse-hub' }], async (rigs) => {
    const [one, many] = rigs as [Rig, Rig]
    await one.clients.connect(one.server, { clients: CLIENTS })
    await many.clients.connect(many.server, { channels: picks(), named: true })
    for (const name of names) await costOf(CASES[name].many ? many : one, context, { ...CASES[name].order, bytes: 200 }, 0)
    await interleave(names, quick ? 1 : 5, async (name, round) => {
      const { many: isMany, order } = CASES[name]
      const perMillion = await costOf(isMany ? many : one, context, { ...order, bytes: 200 }, Math.ceil(order.turns / 4))
      samples.add(name, perMillion)
      log(`round ${round + 1} ${name}: ${perMillion.toFixed(3)}`)
    })
    for (const { clients } of rigs) await clients.report()
  })
  return {
    title: 'Channels: each of 1,000 clients on 5 of 100',
    method: [
      'Server CPU seconds of express-sse-hub per million deliveries of 200 bytes.',
      'A turn starts when the previous turn has been written.',
      'The cost of a delivery depends on the number of events in one write.',
      'Ten events in a turn cost one write, and so does a single event.',
      'The target therefore compares cases in which each client receives ten events in a turn, from one channel or from five.',
      'If events go to random channels, a client receives one event in every second turn, and each delivery is a write of its own.',
      'This case compares with one event a turn on one channel.',
    ],
    tables: [
      {
        caption: 'CPU seconds per million deliveries',
        columns: ['case', 'CPU', 'against one channel, 10 a turn', 'against one channel, 1 a turn'],
        rows: names.map((name) => [
          CASES[name].text,
          shown(figure(samples.of(name))),
          shown(ratio(samples.of(name), samples.of('one, 10')), '×'),
          shown(ratio(samples.of(name), samples.of('one, 1')), '×'),
        ]),
      },
    ],
    targets: [
      {
        text: 'CPU per delivery on 5 of 100 channels against one channel, ten events per client and turn',
        measured: ratio(samples.of('equal'), samples.of('one, 10')),
        limit: 2,
        bound: 'most',
        unit: '×',
      },
    ],
  }
}

/** Five different channels for each client, the same in every benchmark. */
function picks(): number[][] {
  const random = randomFrom(5)
  return Array.from({ length: CLIENTS }, () => {
    const picked = new Set<number>()
    while (picked.size < PER_CLIENT) picked.add(Math.floor(random() * CHANNELS))
    return [...picked]
  })
}
