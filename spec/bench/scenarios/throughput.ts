import { setTimeout as sleep } from 'node:timers/promises'
import { type ChartPoint, type ScenarioResult, shown, type Target } from '../report/result.ts'
import type { PublishOrder } from '../servers/server-process.ts'
import { hasNchan } from '../support/nginx.ts'
import { type BenchContext, Samples } from '../support/scenario.ts'
import { type Rig, withRigs } from '../support/rig.ts'
import type { ServerName } from '../support/server.ts'
import { type Figure, figure, mean, ratio } from '../support/statistics.ts'

const CLIENTS = 1_000
const BYTES = 200
const FAST: readonly ServerName[] = ['express-sse-hub', 'socket-writer', 'nchan']
const SLOW: readonly ServerName[] = ['node-buffer', 'express-tutorial', 'better-sse', 'express-sse']
/** Number of events that are published before the first client connects. */
const UNHEARD = 3_000
/** Number of measurements of a fast and of a slow server in a round. Fast servers need more, because the speed of the machine varies. */
const TIMES = { fast: 5, slow: 1 }
/** Events per turn, and the turns of each measurement of a fast and of a slow server: first to warm up, then measured. */
const LOADS = [
  { perTurn: 1, fast: [15, 40], slow: [10, 30] },
  { perTurn: 10, fast: [6, 20], slow: [2, 6] },
  { perTurn: 20, fast: [5, 15], slow: [2, 4] },
] as const

/** Measures the cost of a delivery to 1,000 clients of one channel on each server, for several numbers of events in a turn. */
export async function throughput(context: BenchContext): Promise<ScenarioResult> {
  const servers = [...FAST, ...SLOW].filter((name) => name !== 'nchan' || hasNchan())
  const rounds = context.quick ? 1 : 5
  const samples = { cost: new Samples(), load: new Samples(), times: new Samples() }
  const { cost, load, times } = samples
  for (let round = 0; round < rounds; round++) {
    const turned = [...servers.slice(round % servers.length), ...servers.slice(0, round % servers.length)]
    await measure(turned, context, samples)
    for (const name of servers) {
      context.log(`round ${round + 1} ${name}: ${LOADS.map(({ perTurn }) => cost.of(`${name} ${perTurn}`).at(-1)?.toFixed(3)).join(' / ')}`)
    }
  }
  // Servers with the same number of measurements in a round are compared measurement by measurement.
  const against = (peer: ServerName, perTurn: number): Figure => {
    const from = isFast(peer) ? times : cost
    return ratio(from.of(`express-sse-hub ${perTurn}`), from.of(`${peer} ${perTurn}`))
  }
  const targets = (peer: ServerName, limits: readonly number[]): Target[] =>
    LOADS.map(({ perTurn }, index) => ({
      text: `CPU per delivery against ${peer}, ${perTurn} per turn`,
      measured: against(peer, perTurn),
      limit: limits[index] ?? NaN,
      bound: 'most',
      unit: '×',
    }))
  return {
    title: 'Throughput: 1,000 clients of one channel, events of 200 bytes',
    method: [
      'CPU seconds of the server process per million deliveries, median of the rounds and their spread; ratios are taken round by round.',
      'A turn of the event loop publishes 1, 10 or 20 events.',
      'The next turn starts when all have been written, so that the process does not sleep in between.',
      'The cost of waking up is high, depends on the machine, and would hide the cost of delivery.',
      'Each measurement takes some tenths of a second, immediately after turns that warm the server up, and the servers take turns.',
      `The first three servers are measured ${TIMES.fast} times in a round, because the speed of the machine varies.`,
      'The table shows the mean of these, and the ratios between these servers are taken measurement by measurement.',
      'The last columns show the load of the single client process until the last publish.',
      'Below 100 %, it kept up.',
      'For nginx with nchan, the CPU of its worker and master counts, and that of the publishing process does not.',
    ],
    tables: [
      {
        caption: 'CPU seconds per million deliveries',
        columns: ['server', ...LOADS.map(({ perTurn }) => `${perTurn} per turn`), ...LOADS.map(({ perTurn }) => `client busy, ${perTurn}`)],
        rows: servers.map((name) => [
          name,
          ...LOADS.map(({ perTurn }) => shown(figure(cost.of(`${name} ${perTurn}`)))),
          ...LOADS.map(({ perTurn }) => `${Math.round(100 * figure(load.of(`${name} ${perTurn}`)).median)} %`),
        ]),
      },
      {
        caption: 'express-sse-hub against each',
        columns: ['against', ...LOADS.map(({ perTurn }) => `${perTurn} per turn`)],
        rows: servers.slice(1).map((name) => [name, ...LOADS.map(({ perTurn }) => shown(against(name, perTurn), '×'))]),
      },
    ],
    targets: [...targets('socket-writer', [1.05, 1.1, 1.1]), ...targets('better-sse', [0.31, 0.055, 0.03])],
    chart: servers.flatMap((server) =>
      LOADS.map(({ perTurn }): ChartPoint => ({ server, group: `${perTurn} per turn`, value: figure(cost.of(`${server} ${perTurn}`)) })),
    ),
  }
}

/** Runs one round. Every server starts anew, and the servers take turns of some tenths of a second. */
async function measure(
  names: readonly ServerName[],
  { quick, machine }: BenchContext,
  samples: Readonly<Record<'cost' | 'load' | 'times', Samples>>,
): Promise<void> {
  await withRigs(
    names.map((name) => ({ name })),
    async (rigs) => {
      for (const { name, server, clients } of rigs) {
        // V8 compiles the code of a publish now. Later publishes are too few for that, because a thousand writes follow each.
        if (name !== 'nchan') await server.publish({ turns: UNHEARD / 10, perTurn: 10, intervalMs: 0, bytes: BYTES })
        await clients.connect(server, { clients: CLIENTS, from: name === 'nchan' ? 0 : UNHEARD })
      }
      await sleep(200)
      for (const { perTurn, fast, slow } of LOADS) {
        const round = new Samples()
        for (let time = 0; time < (quick ? 1 : TIMES.fast); time++) {
          for (const rig of time < TIMES.slow ? rigs : rigs.filter(({ name }) => isFast(name))) {
            const [warmUp, turns] = isFast(rig.name) ? fast : slow
            const order = { turns: quick ? Math.ceil(turns / 2) : turns, perTurn, intervalMs: 0, bytes: BYTES }
            const { perMillion, clientBusy } = await machine.during(async () => publishTo(rig, warmUp, order))
            round.add(`${rig.name} cost`, perMillion)
            round.add(`${rig.name} load`, clientBusy)
            samples.times.add(`${rig.name} ${perTurn}`, perMillion)
          }
        }
        for (const { name } of rigs) {
          samples.cost.add(`${name} ${perTurn}`, mean(round.of(`${name} cost`)))
          samples.load.add(`${name} ${perTurn}`, mean(round.of(`${name} load`)))
        }
      }
      for (const { clients } of rigs) await clients.report()
    },
  )
}

interface Spent {
  /** CPU seconds of the server per million deliveries. */
  readonly perMillion: number
  /** CPU seconds of the clients per second. Above 1, the clients have not kept up. */
  readonly clientBusy: number
}

/** Publishes turns that warm the server up, and immediately afterwards the measured turns. */
async function publishTo({ server, clients }: Rig, warmUp: number, order: PublishOrder): Promise<Spent> {
  const before = await clients.report()
  const start = performance.now()
  await server.publish({ ...order, turns: warmUp })
  const cpu = server.cpu()
  await server.publish(order)
  const spent = server.cpu() - cpu
  const seconds = (performance.now() - start) / 1_000
  const after = await clients.reach(server)
  return { perMillion: (spent * 1e6) / (order.turns * order.perTurn * CLIENTS), clientBusy: (after.cpu - before.cpu) / seconds }
}

function isFast(name: ServerName): boolean {
  return FAST.includes(name)
}
