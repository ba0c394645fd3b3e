import { setTimeout as sleep } from 'node:timers/promises'
import { type ScenarioResult, shown } from '../report/result.ts'
import { Load } from '../support/load.ts'
import { withRig } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import type { ServerName } from '../support/server.ts'
import { figure } from '../support/statistics.ts'

const PEERS: readonly ServerName[] = ['express-sse-hub', 'better-sse', 'express-sse', 'express-tutorial']
/** Longer than the measurement, so that no client is destroyed. */
const STALL_TIMEOUT_MS = 3_600_000
const BYTES = 2_000
const PEER_BYTES = 4_000
const PER_TURN = 50
const FEW = 10

/** Measures the memory that the server needs for clients that never read. */
export async function stalled({ quick, log }: BenchContext): Promise<ScenarioResult> {
  const clients = quick ? 300 : 1_000
  const megabytes = quick ? 20 : 200
  const samples = new Samples()
  for (let round = 0; round < 1; round++) {
    await withRig({ name: 'express-sse-hub', options: { stallTimeoutMs: STALL_TIMEOUT_MS } }, async ({ server, clients: load }) => {
      await load.connect(server, { clients, reads: false })
      await sleep(300)
      const before = await server.report(true)
      await server.publish({ turns: Math.ceil((megabytes * 1e6) / BYTES / PER_TURN), perTurn: PER_TURN, intervalMs: 0, bytes: BYTES })
      const after = await server.report()
      await load.report()
      samples.add('peak', (after.peakRss - before.rss) / 1_024 / clients)
      const collected = await server.report(true)
      samples.add('after', (collected.rss - before.rss) / 1_024 / clients)
    })
    log(`round ${round + 1}: ${samples.of('peak').at(-1)?.toFixed(1)} KiB per client at the peak`)
  }
  if (!quick) await interleave(PEERS, 1, async (name) => samples.add(name, await growthOf(name, megabytes, log)))
  const peers = quick
    ? []
    : [
        {
          caption: `${FEW} clients read, ${FEW} do not, ${megabytes} MB in events of ${PEER_BYTES} bytes: growth of resident memory, MiB`,
          columns: ['server', 'peak less idle', 'per client that does not read'],
          rows: PEERS.map((name) => [name, shown(figure(samples.of(name))), shown(figure(samples.of(name).map((each) => each / FEW)))]),
        },
      ]
  return {
    title: `Stalled: ${clients.toLocaleString('en')} clients that never read, ${megabytes} MB published`,
    method: [
      `Events of ${BYTES} bytes, ${PER_TURN} a turn.`,
      'The next turn starts when they are published.',
      `\`stallTimeoutMs\` is long enough that no client is destroyed.`,
      'The peak of resident memory, minus the value when all clients were connected, divided by the number of clients.',
      'It includes the log and garbage, but not the kernel buffers of the sockets.',
    ],
    tables: [
      {
        caption: 'express-sse-hub, KiB per client',
        columns: ['peak', 'afterwards, with garbage collected'],
        rows: [[shown(figure(samples.of('peak'))), shown(figure(samples.of('after')))]],
      },
      ...peers,
    ],
    targets: [
      {
        text: 'peak of resident memory per client that never reads',
        measured: figure(samples.of('peak')),
        limit: 96,
        bound: 'most',
        unit: ' KiB',
      },
    ],
  }
}

/** Measures the growth of memory in MiB, with some clients that read and check, and some that never read. */
async function growthOf(name: ServerName, megabytes: number, log: (line: string) => void): Promise<number> {
  return withRig(
    name === 'express-sse-hub' ? { name, options: { stallTimeoutMs: STALL_TIMEOUT_MS } } : { name },
    async ({ server, clients }) => {
      const silent = await Load.start()
      try {
        await clients.connect(server, { clients: FEW })
        await silent.connect(server, { clients: FEW, reads: false })
        await sleep(200)
        const before = await server.report(true)
        await server.publish({
          turns: Math.ceil((megabytes * 1e6) / PEER_BYTES / PER_TURN),
          perTurn: PER_TURN,
          intervalMs: 8,
          bytes: PEER_BYTES,
        })
        await clients.reach(server)
        const growth = ((await server.report()).peakRss - before.rss) / 1_048_576
        log(`${name}: ${growth.toFixed(0)} MiB`)
        return growth
      } finally {
        await silent.stop()
      }
    },
  )
}
