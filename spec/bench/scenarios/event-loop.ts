import { setTimeout as sleep } from 'node:timers/promises'
import type { PingOrders } from '../client/ping-process.ts'
import { type ScenarioResult, shown } from '../report/result.ts'
import { withRig } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import { figure, percentile } from '../support/statistics.ts'
import { Worker } from '../support/worker.ts'

const SERVERS = ['express-sse-hub', 'better-sse'] as const
const PING_MS = 12
const PHASES = ['idle', 'publishing'] as const

/** Measures the delay of another route of the app while events go out to very many clients. */
export async function eventLoop(context: BenchContext): Promise<ScenarioResult> {
  const { quick, maxConnections, log } = context
  const connections = quick ? 2_000 : maxConnections
  const seconds = quick ? 2 : 5
  const samples = new Samples()
  const failures: string[] = []
  await interleave(SERVERS, 1, async (name, round) => {
    try {
      await measure(name, round)
    } catch (error) {
      // A failing peer is mentioned in the report, and the scenario still has a result.
      if (name === 'express-sse-hub') throw error
      failures.push(`${name} failed: ${error instanceof Error ? error.message.split('\n', 1)[0] : String(error)}.`)
      log(failures.at(-1) ?? '')
    }
  })
  async function measure(name: (typeof SERVERS)[number], round: number): Promise<void> {
    const pinger = await Worker.start<PingOrders>('client/ping-process')
    try {
      await withRig({ name, processes: 2 }, async ({ server, clients }) => {
        await clients.connect(server, { clients: connections })
        const publish = async (turns: number): Promise<unknown> => server.publish({ turns, perTurn: 1, intervalMs: 100, bytes: 200 })
        const ping = async (during: number): Promise<number[]> =>
          pinger.ask('ping', { port: server.port, count: (during * 1_000) / PING_MS, intervalMs: PING_MS })
        // Warm up code and buffers, and collect the garbage of accepting.
        await publish(5)
        await clients.reach(server)
        await ping(1)
        await server.report(true)
        await sleep(500)
        for (const phase of PHASES) {
          const measured = await context.machine.during(async () => {
            await server.report()
            const publishing = phase === 'publishing' ? publish(seconds * 10) : undefined
            const latencies = await ping(seconds)
            const { delayP50Ms, delayP99Ms, delayMaxMs } = await server.report()
            await publishing
            if (publishing !== undefined) await clients.reach(server)
            return {
              p50: percentile(latencies, 50),
              p99: percentile(latencies, 99),
              max: Math.max(...latencies),
              loopP50: delayP50Ms,
              loopP99: delayP99Ms,
              loopMax: delayMaxMs,
            }
          })
          for (const [key, value] of Object.entries(measured)) samples.add(`${name} ${phase} ${key}`, value)
        }
        await clients.reach(server)
        await clients.report()
      })
    } finally {
      await pinger.stop()
    }
    const latest = (key: string): string => `${samples.of(`${name} ${key}`).at(-1)?.toFixed(2)} ms`
    const phases = PHASES.map((phase) => `${phase} p99 ${latest(`${phase} p99`)}, loop ${latest(`${phase} loopP99`)}`)
    log(`round ${round + 1} ${name}: ${phases.join('; ')}`)
  }
  const growth = (key: string): readonly number[] =>
    samples.of(`express-sse-hub publishing ${key}`).map((value, round) => value - (samples.of(`express-sse-hub idle ${key}`)[round] ?? NaN))
  return {
    title: `Event loop: another route while ${connections.toLocaleString('en')} clients are published to`,
    method: [
      `10 events of 200 bytes a second go to all ${connections.toLocaleString('en')} clients for ${seconds} s.`,
      `Another process requests \`/ping\` every ${PING_MS} ms.`,
      'Its latency includes waiting for the cores that it shares with the clients, which read 20,000 sockets.',
      'The server process measures the delay of its event loop with `monitorEventLoopDelay`.',
      'The values include the 1 ms of its timers.',
      ...failures,
    ],
    tables: [
      {
        caption: 'Milliseconds',
        columns: ['server', 'phase', 'latency p50', 'p99', 'most', 'event loop p50', 'p99', 'most'],
        rows: SERVERS.flatMap((name) =>
          PHASES.map((phase) => [
            name,
            phase,
            ...['p50', 'p99', 'max', 'loopP50', 'loopP99', 'loopMax'].map((key) => shown(figure(samples.of(`${name} ${phase} ${key}`)))),
          ]),
        ),
      },
    ],
    targets: [
      {
        text: 'p99 of the latency while publishing, minus the idle latency',
        measured: figure(growth('p99')),
        limit: 10,
        bound: 'most',
        unit: ' ms',
      },
      {
        text: 'the same of the event loop, as the server sees it',
        measured: figure(growth('loopP99')),
        limit: 10,
        bound: 'most',
        unit: ' ms',
      },
    ],
  }
}
