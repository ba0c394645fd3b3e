import { setTimeout as sleep } from 'node:timers/promises'
import { digits, type ScenarioResult, shown } from '../report/result.ts'
import { withRig } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import { figure, ratio } from '../support/statistics.ts'

const MISSED = 100
const BYTES = 200
const WARM_UP = 3_000
const CASES = { 'storm: express-sse-hub': 'express-sse-hub', 'accept: express-sse-hub': 'express-sse-hub', 'accept: bare-express': 'bare-express', 'accept: better-sse': 'better-sse' } as const
type Case = keyof typeof CASES

/** All clients come back at once and have missed the same events, against accepting them alone. */
export async function storm(context: BenchContext): Promise<ScenarioResult> {
  const { quick, log } = context
  const connections = Math.min(quick ? 2_000 : 10_000, context.maxConnections)
  const cases = Object.keys(CASES) as Case[]
  const samples = new Samples()
  await interleave(cases, quick ? 1 : 2, async (name, round) => {
    await measure(name, connections, context, samples)
    log(`round ${round + 1} ${name}: ${samples.of(`${name} ms`).at(-1)?.toFixed(0)} ms, ${samples.of(`${name} cpu`).at(-1)?.toFixed(1)} µs`)
  })
  const against = (what: 'ms' | 'cpu', name: Case, reference: Case) => ratio(samples.of(`${name} ${what}`), samples.of(`${reference} ${what}`))
  const shared = figure(samples.of('storm: express-sse-hub buffers'))
  const separate = (connections * MISSED * BYTES) / 1_048_576
  return {
    title: `Storm: ${connections.toLocaleString('en')} clients reconnect at once, with ${MISSED} events of ${BYTES} bytes missed`,
    method: [
      'Two client processes open the connections, up to 500 each at a time. The time ends when every client has all it missed, in the cases of accepting alone when it has the head of its answer.',
      `Before it, ${WARM_UP.toLocaleString('en')} connections of the same kind were opened and closed. The clients share the cores with the server, so CPU is the more robust figure.`,
    ],
    tables: [
      {
        caption: 'Time and server CPU',
        columns: ['case', 'ms until all have everything', 'CPU µs per connection', 'time against accepting on bare-express', 'CPU against it'],
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
      { text: 'time of the storm against accepting alone on bare-express', measured: against('ms', 'storm: express-sse-hub', 'accept: bare-express'), limit: 1.3, bound: 'most', unit: '×' },
      { text: 'CPU per accepted connection against bare-express', measured: against('cpu', 'accept: express-sse-hub', 'accept: bare-express'), limit: 1.15, bound: 'most', unit: '×' },
      { text: 'growth of buffers in the storm against one for each client', measured: figure(samples.of('storm: express-sse-hub buffers').map((each) => each / separate)), limit: 0.1, bound: 'most', unit: '×' },
    ],
  }
}

async function measure(name: Case, connections: number, { machine }: BenchContext, samples: Samples): Promise<void> {
  await withRig(CASES[name], { processes: 2 }, async ({ server, clients }) => {
    const isStorm = name.startsWith('storm')
    const publish = async (turns: number): Promise<unknown> => server.publish({ turns, perTurn: 1, intervalMs: 0, bytes: BYTES })
    await publish(1)
    const options = isStorm ? { headers: [`Last-Event-ID: ${server.lastId}`], from: 1 } : {}
    await publish(MISSED)
    const connect = async (count: number): Promise<number> => {
      const start = performance.now()
      await clients.connect(server, { clients: count, window: 500, ...options })
      if (isStorm) await clients.reach(server)
      return performance.now() - start
    }
    await connect(WARM_UP)
    await clients.close()
    await sleep(300)
    const one = await machine.during(async () => {
      await clients.close()
      await sleep(200)
      const before = await server.report(true)
      const cpu = server.cpu()
      const ms = await connect(connections)
      const spent = server.cpu() - cpu
      const after = await server.report()
      return { ms, cpu: (spent * 1e6) / connections, buffers: (after.arrayBuffers - before.arrayBuffers) / 1_048_576 }
    })
    samples.add(`${name} ms`, one.ms)
    samples.add(`${name} cpu`, one.cpu)
    samples.add(`${name} buffers`, one.buffers)
    await clients.report()
  })
}
