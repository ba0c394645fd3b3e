import { type ScenarioResult, shown, type Table } from '../report/result.ts'
import { costOf } from '../support/cost.ts'
import type { LoadOptions } from '../support/load.ts'
import { withRigs } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import { type Figure, figure, percentile, ratio } from '../support/statistics.ts'
import type { PublishOrder } from '../servers/server-process.ts'

const SERVERS = ['express-sse-hub', 'socket-writer'] as const
const PER_TURN = 10
const BYTES = 200
const CLIENTS = 1_000
const CHANNELS = [1, 100, 10_000]
const ROUNDS = 3
/** A smaller ratio is attributed to the machine, and a larger one to growth. */
const FLAT = 1.25

/** Checks that the cost of a delivery does not depend on the number of clients and channels. */
export async function growth(context: BenchContext): Promise<ScenarioResult> {
  const { quick, maxConnections, log } = context
  const counts = quick ? [100, 1_000] : [100, 1_000, maxConnections]
  const channelCounts = quick ? [1, 100] : CHANNELS
  const samples = new Samples()
  /** @param connections are opened one after the other. */
  const measure = async (
    key: string,
    connections: readonly LoadOptions[],
    order: Pick<PublishOrder, 'turns' | 'perTurn' | 'channels'>,
  ): Promise<void> => {
    await withRigs(
      SERVERS.map((name) => ({ name, processes: 2 })),
      async (rigs) => {
        for (const { server, clients } of rigs) {
          for (const load of connections) await clients.connect(server, load)
          // Every channel has an event.
          const channels = connections.reduce((most, load) => Math.max(most, ...(load.channels ?? [[0]]).flat()), 0) + 1
          await server.publish({ turns: 1, perTurn: channels, channels, intervalMs: 0, bytes: BYTES })
        }
        await interleave(rigs, quick ? 1 : ROUNDS, async (rig) => {
          const perMillion = await costOf(rig, context, { ...order, bytes: BYTES, intervalMs: 0 }, Math.ceil(order.turns / 3))
          samples.add(`${rig.name} ${key}`, perMillion)
        })
        for (const { clients } of rigs) await clients.report()
      },
    )
    log(`${key}: ${SERVERS.map((name) => `${name} ${percentile(samples.of(`${name} ${key}`), 50).toFixed(3)}`).join(', ')}`)
  }
  for (const count of counts) await measure(`clients ${count}`, [{ clients: count }], { perTurn: PER_TURN, turns: turnsFor(count) })
  for (const count of channelCounts) {
    const others = spread(count)
      .map((channels) => channels.filter((channel) => channel !== 0))
      .filter(({ length }) => length > 0)
    await measure(`channels ${count}`, [{ clients: CLIENTS }, { channels: others, named: true }], {
      perTurn: PER_TURN,
      turns: turnsFor(CLIENTS),
    })
  }
  for (const count of channelCounts) {
    const perTurn = PER_TURN * Math.min(count, CLIENTS)
    await measure(`used ${count}`, [{ channels: spread(count), named: true }], {
      perTurn,
      turns: count >= 1_000 ? 12 : 50,
      channels: count,
    })
  }
  const growthOf = (what: string, few: number, many: number): Figure => {
    const costs = (count: number): readonly number[] => samples.of(`express-sse-hub ${what} ${count}`)
    return ratio(costs(many), costs(few))
  }
  const [fewestChannels = 0, mostChannels = 0] = [channelCounts[0], channelCounts.at(-1)]
  const mostClients = counts.at(-1) ?? 0
  return {
    title: 'Growth: cost per delivery by the number of clients and of channels',
    method: [
      `Server CPU seconds per million deliveries of ${BYTES} bytes, ten per client and turn.`,
      'The server socket-writer does little more than call the kernel.',
      'Its growth is therefore that of the kernel and the caches of the processor.',
      `In the case of existing channels, one channel has the ${CLIENTS.toLocaleString('en')} clients that receive the events.`,
      'Each of the others has one event and other clients.',
      `In the case of used channels, events go to all channels, and ${CLIENTS.toLocaleString('en')} clients are spread over them.`,
      'Fewer clients then share the fixed cost of an event, which is made, encoded and stored once.',
      'From 1,000 channels on, each event has one client, and a delivery costs a whole publish.',
      'With 10,000 channels, each client is on ten of them.',
    ],
    tables: [
      tableOf('clients', 'clients', counts, samples),
      tableOf('existing channels', 'channels', channelCounts, samples),
      tableOf('used channels', 'used', channelCounts, samples),
    ],
    targets: [
      {
        text: `CPU per delivery to ${mostClients.toLocaleString('en')} clients against 1,000, as many times that of socket-writer`,
        measured: quotient(
          growthOf('clients', 1_000, mostClients),
          ratio(samples.of(`socket-writer clients ${mostClients}`), samples.of('socket-writer clients 1000')),
        ),
        limit: FLAT,
        bound: 'most',
        unit: '×',
      },
      {
        text: `CPU per delivery with ${mostChannels.toLocaleString('en')} channels against ${fewestChannels}`,
        measured: growthOf('channels', fewestChannels, mostChannels),
        limit: FLAT,
        bound: 'most',
        unit: '×',
      },
    ],
  }
}

function quotient(one: Figure, other: Figure): Figure {
  return figure([one.median / other.median])
}

function tableOf(caption: string, key: string, counts: readonly number[], samples: Samples): Table {
  const flatness = SERVERS.map((name) => {
    const medians = counts.map((count) => percentile(samples.of(`${name} ${key} ${count}`), 50))
    return `${(Math.max(...medians) / Math.min(...medians)).toFixed(2)}×`
  })
  return {
    caption: `CPU seconds per million deliveries, by ${caption}`,
    columns: [caption, ...SERVERS, 'ratio'],
    rows: [
      ...counts.map((count) => {
        const of = (name: string): readonly number[] => samples.of(`${name} ${key} ${count}`)
        return [
          count.toLocaleString('en'),
          ...SERVERS.map((name) => shown(figure(of(name)))),
          shown(ratio(of('express-sse-hub'), of('socket-writer')), '×'),
        ]
      }),
      ['maximum against minimum', ...flatness, ''],
    ],
  }
}

/** Number of turns that keeps the number of deliveries roughly constant. */
function turnsFor(clients: number): number {
  return Math.min(Math.max(Math.round(100_000 / clients), 12), 400)
}

function spread(channels: number): number[][] {
  const each = Math.max(channels / CLIENTS, 1)
  return Array.from({ length: CLIENTS }, (_, client) => Array.from({ length: each }, (__, n) => (client * each + n) % channels))
}
