import { setTimeout as sleep } from 'node:timers/promises'
import { digits, type ScenarioResult, shown } from '../report/result.ts'
import { type Rig, withRigs } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import { figure, ratio } from '../support/statistics.ts'

const MISSED = 100
const BYTES = 200
const WARM_UP = 3_000
const SERVERS = ['express-sse-hub', 'bare-express', 'better-sse'] as const
const CASES = {
  'storm: express-sse-hub': 'express-sse-hub',
  'accept: express-sse-hub': 'express-sse-hub',
  'accept: bare-express': 'bare-express',
  'accept: better-sse': 'better-sse',
} as const satisfies Record<string, (typeof SERVERS)[number]>
type Case = keyof typeof CASES

/** Measures the simultaneous reconnect of all clients after the same missed events, compared with only accepting them. */
export async function storm(context: BenchContext): Promise<ScenarioResult> {
  const { quick, log } = context
  const connections = Math.min(quick ? 2_000 : 10_000, context.maxConnections)
  const cases = Object.keys(CASES) as Case[]
  const samples = new Samples()
  await withRigs(
    SERVERS.map((name) => ({ name, processes: 2 })),
    async (rigs) => {
      const publish = async (turns: number): Promise<void> => {
        for (const { server } of rigs) await server.publish({ turns, perTurn: 1, intervalMs: 0, bytes: BYTES })
      }
      await publish(1)
      const lastIds = new Map(rigs.map(({ name, server }) => [name, server.lastId]))
      await publish(MISSED)
      const connect = async (name: Case, count: number): Promise<Connected> => {
        const rig = rigs.find((each) => each.name === CASES[name]) as Rig
        return measure(rig, count, name.startsWith('storm') ? lastIds.get(rig.name) : undefined, context)
      }
      for (const name of cases) await connect(name, quick ? 1_000 : WARM_UP)
      await interleave(cases, quick ? 1 : 5, async (name, round) => {
        const { ms, cpu, buffers } = await connect(name, connections)
        samples.add(`${name} ms`, ms)
        samples.add(`${name} cpu`, cpu)
        samples.add(`${name} buffers`, buffers)
        log(`round ${round + 1} ${name}: ${ms.toFixed(0)} ms, ${cpu.toFixed(1)} µs`)
      })
    },
  )
  const against = (what: 'ms' | 'cpu', name: Case, reference: Case) =>
    ratio(samples.of(`${name} ${what}`), samples.of(`${reference} ${what}`))
  const shared = figure(samples.of('storm: express-sse-hub buffers'))
  const separate = (connections * MISSED * BYTES) / 1_048_576
  return {
    title: `Storm: ${connections.toLocaleString('en')} clients reconnect at once, with ${MISSED} events of ${BYTES} bytes missed`,
    method: [
      'Two client processes open the connections, up to 500 each at a time.',
      'The time ends when every client has received all missed events, or the head of its answer in the cases that only accept.',
      `Each server first opens and closes ${WARM_UP.toLocaleString('en')} connections of the same kind.`,
      'The cases take turns, and collect garbage first.',
      'The clients share the cores with the server, so CPU is the more robust figure.',
    ],
    tables: [
      {
        caption: 'Time and server CPU',
        columns: [
          'case',
          'ms until all have everything',
          'CPU µs per connection',
          'time against accepting on bare-express',
          'CPU against it',
        ],
        rows: cases.map((name) => [
          name,
          shown(figure(samples.of(`${name} ms`))),
          shown(figure(samples.of(`${name} cpu`))),
          shown(against('ms', name, 'accept: bare-express'), '×'),
          shown(against('cpu', name, 'accept: bare-express'), '×'),
        ]),
      },
      {
        caption: 'One encoded buffer for all',
        columns: ['growth of the buffers outside of the heap, MiB', 'if each client had its own, MiB'],
        rows: [[shown(shared), digits(separate)]],
      },
    ],
    targets: [
      {
        text: 'time of the storm against accepting alone on bare-express',
        measured: against('ms', 'storm: express-sse-hub', 'accept: bare-express'),
        limit: 1.3,
        bound: 'most',
        unit: '×',
      },
      {
        text: 'CPU per accepted connection against bare-express',
        measured: against('cpu', 'accept: express-sse-hub', 'accept: bare-express'),
        limit: 1.15,
        bound: 'most',
        unit: '×',
      },
      {
        text: 'growth of buffers in the storm against one for each client',
        measured: figure(samples.of('storm: express-sse-hub buffers').map((each) => each / separate)),
        limit: 0.1,
        bound: 'most',
        unit: '×',
      },
    ],
  }
}

interface Connected {
  readonly ms: number
  /** Microseconds of the server's CPU per connection. */
  readonly cpu: number
  /** Growth of the buffers outside the heap, in MiB. */
  readonly buffers: number
}

/** Opens all connections at once, with `lastEventId` if there is one, and closes them again. */
async function measure(
  { server, clients }: Rig,
  connections: number,
  lastEventId: string | undefined,
  { machine }: BenchContext,
): Promise<Connected> {
  const published = server.published[0] ?? 0
  const options = lastEventId === undefined ? { from: published } : { from: published - MISSED, headers: [`Last-Event-ID: ${lastEventId}`] }
  const result = await machine.during(async () => {
    await clients.close()
    await sleep(200)
    const before = await server.report(true)
    const cpu = server.cpu()
    const start = performance.now()
    await clients.connect(server, { clients: connections, window: 500, ...options })
    if (lastEventId !== undefined) await clients.reach(server)
    const ms = performance.now() - start
    const spent = server.cpu() - cpu
    const after = await server.report()
    return { ms, cpu: (spent * 1e6) / connections, buffers: (after.arrayBuffers - before.arrayBuffers) / 1_048_576 }
  })
  await clients.report()
  await clients.close()
  return result
}
