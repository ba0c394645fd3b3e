import { type ScenarioResult, shown, type Table } from '../report/result.ts'
import { costOf } from '../support/cost.ts'
import type { LoadOptions } from '../support/load.ts'
import { withRig } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import { figure, percentile, ratio } from '../support/statistics.ts'
import type { PublishOrder } from '../servers/server-process.ts'

const SERVERS = ['express-sse-hub', 'socket-writer'] as const
const PER_TURN = 10
const CLIENTS = 1_000
/** Each client has ten events a turn: from one channel, or at 10,000 one from each of ten. */
const CHANNELS = [1, 100, 1_000, 10_000]

/** Whether a delivery costs the same however many clients and channels there are. */
export async function growth(context: BenchContext): Promise<ScenarioResult> {
  const { quick, maxConnections, log } = context
  const counts = quick ? [1_000] : [100, 1_000, 5_000, maxConnections]
  const channelCounts = quick ? [100] : CHANNELS
  const rounds = 1
  const samples = new Samples()
  const measure = async (key: string, name: (typeof SERVERS)[number], load: LoadOptions, order: PublishOrder): Promise<void> => {
    await withRig(name, { processes: 2 }, async (rig) => {
      samples.add(`${name} ${key}`, (await costOf(rig, context, load, order, Math.ceil(order.turns / 3))).perMillion)
    })
    log(`${name} ${key}: ${samples.of(`${name} ${key}`).at(-1)?.toFixed(3)}`)
  }
  for (const clients of counts) {
    const order = { perTurn: PER_TURN, bytes: 200, intervalMs: 0, turns: turnsFor(clients) }
    await interleave(SERVERS, rounds, async (name) => measure(`clients ${clients}`, name, { clients }, order))
  }
  for (const channels of channelCounts) {
    const order = { perTurn: Math.max(PER_TURN * Math.min(channels, CLIENTS), PER_TURN), bytes: 200, intervalMs: 0, turns: channels >= 1_000 ? 12 : 50, channels }
    await interleave(SERVERS, rounds, async (name) => measure(`channels ${channels}`, name, { channels: spread(channels), named: true }, order))
  }
  return {
    title: 'Growth: cost per delivery by the number of clients and of channels',
    method: [
      'Server CPU seconds per million deliveries of 200 bytes, ten per client and turn. Where socket-writer, which is little more than the calls of the kernel, grows too, it is the kernel and the caches of the processor that do.',
      'With many channels the 1,000 clients are spread over them, so fewer share what an event costs once, to be made, encoded and kept: with 1,000 channels and more each event has one client, and a delivery is a whole publish. At 10,000 channels each client is on ten of them.',
    ],
    tables: [tableOf('clients', counts, samples), tableOf('channels', channelCounts, samples)],
    targets: [],
  }
}

function tableOf(what: 'clients' | 'channels', counts: readonly number[], samples: Samples): Table {
  const flatness = SERVERS.map((name) => {
    const medians = counts.map((count) => percentile(samples.of(`${name} ${what} ${count}`), 50))
    return `${(Math.max(...medians) / Math.min(...medians)).toFixed(2)}×`
  })
  return {
    caption: `CPU seconds per million deliveries, by ${what}`,
    columns: [what, ...SERVERS, 'ratio'],
    rows: [
      ...counts.map((count) => {
        const of = (name: string): readonly number[] => samples.of(`${name} ${what} ${count}`)
        return [count.toLocaleString('en'), ...SERVERS.map((name) => shown(figure(of(name)))), shown(ratio(of('express-sse-hub'), of('socket-writer')), '×')]
      }),
      ['the most against the least', ...flatness, ''],
    ],
  }
}

/** About as many deliveries whatever the number of clients is. */
function turnsFor(clients: number): number {
  return Math.min(Math.max(Math.round(100_000 / clients), 12), 400)
}

function spread(channels: number): number[][] {
  const each = Math.max(channels / CLIENTS, 1)
  return Array.from({ length: CLIENTS }, (_, client) => Array.from({ length: each }, (__, n) => (client * each + n) % channels))
}
