import { setTimeout as sleep } from 'node:timers/promises'
import { type ScenarioResult, shown } from '../report/result.ts'
import { withRig } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import type { ServerName } from '../support/server.ts'
import { figure, ratio } from '../support/statistics.ts'

const SERVERS: readonly ServerName[] = ['bare-node', 'bare-express', 'express-sse-hub', 'better-sse']
const WARM_UP = 200

/** Measures the memory of an idle connection on each server. */
export async function memory(context: BenchContext): Promise<ScenarioResult> {
  const { quick, maxConnections, log } = context
  const connections = quick ? 2_000 : maxConnections
  const samples = new Samples()
  await interleave(SERVERS, 1, async (name, round) => {
    await withRig({ name, processes: 2 }, async ({ server, clients }) => {
      await clients.connect(server, { clients: WARM_UP })
      await clients.close()
      await sleep(300)
      const before = await server.report(true)
      await clients.connect(server, { clients: connections })
      await sleep(300)
      const after = await server.report(true)
      await clients.report()
      const perConnection = (of: (report: typeof after) => number): number => (of(after) - of(before)) / connections / 1_024
      samples.add(
        `${name} rss`,
        perConnection(({ rss }) => rss),
      )
      samples.add(
        `${name} heap`,
        perConnection(({ heapUsed, external }) => heapUsed + external),
      )
    })
    log(`round ${round + 1} ${name}: ${samples.of(`${name} rss`).at(-1)?.toFixed(2)} KiB`)
  })
  return {
    title: `Memory: ${connections.toLocaleString('en')} idle connections`,
    method: [
      `Growth of the server's resident memory during ${connections.toLocaleString('en')} connects, divided by their number.`,
      'Garbage is collected twice before each reading.',
      `${WARM_UP} connections are opened and closed first.`,
      'The connections of express-sse-hub are subscribed.',
      'Kernel buffers do not count, because they belong to no process.',
    ],
    tables: [
      {
        caption: 'KiB per connection',
        columns: ['server', 'resident', 'heap used and external', 'resident, against bare-express'],
        rows: SERVERS.map((name) => [
          name,
          shown(figure(samples.of(`${name} rss`))),
          shown(figure(samples.of(`${name} heap`))),
          shown(ratio(samples.of(`${name} rss`), samples.of('bare-express rss')), '×'),
        ]),
      },
    ],
    targets: [
      {
        text: 'resident memory per idle connection against bare-express',
        measured: ratio(samples.of('express-sse-hub rss'), samples.of('bare-express rss')),
        limit: 1.1,
        bound: 'most',
        unit: '×',
      },
    ],
  }
}
