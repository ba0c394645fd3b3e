import { setTimeout as sleep } from 'node:timers/promises'
import type { UnzipOrders } from '../client/unzip-process.ts'
import { type ScenarioResult, shown, type Target } from '../report/result.ts'
import type { Load } from '../support/load.ts'
import { type Rig, type RigOrder, withRigs } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import { type Figure, figure, ratio } from '../support/statistics.ts'
import { Worker } from '../support/worker.ts'

const CLIENTS = 500
const CHECKED = 5
const SIZES = [200, 2_000] as const

const CASES = {
  plain: { name: 'express-sse-hub' },
  'compress: true': { name: 'express-sse-hub', options: { compress: true } },
  "compress: 'shared'": { name: 'express-sse-hub', options: { compress: 'shared' } },
  'Express with compression()': { name: 'compression' },
} as const satisfies Record<string, RigOrder>
type CaseName = keyof typeof CASES
const SLOW: CaseName = 'Express with compression()'

/** Measures the bytes that compression saves, and its CPU cost. */
export async function compression(context: BenchContext): Promise<ScenarioResult> {
  const { quick, log } = context
  const names = Object.keys(CASES) as CaseName[]
  const samples = new Samples()
  await withRigs(
    names.map((name) => CASES[name]),
    async (rigs) => {
      const tests = new Map<CaseName, Test>()
      try {
        for (const [index, name] of names.entries()) {
          tests.set(name, { name, rig: rigs[index] as Rig, checkers: await Worker.start('client/unzip-process') })
        }
        for (const test of tests.values()) await begin(test)
        await interleave(names, quick ? 1 : 5, async (name, round) => {
          for (const bytes of SIZES) {
            const { wire, cpu } = await measure(tests.get(name) as Test, bytes, context)
            samples.add(`${name} ${bytes} wire`, wire)
            samples.add(`${name} ${bytes} cpu`, cpu)
            log(`round ${round + 1} ${name}, ${bytes}: ${wire.toFixed(0)} bytes, ${cpu.toFixed(2)}`)
          }
        })
      } finally {
        for (const { checkers } of tests.values()) await checkers.stop()
      }
    },
  )
  const against = (name: CaseName, bytes: number, what: 'wire' | 'cpu'): Figure =>
    ratio(samples.of(`${name} ${bytes} ${what}`), samples.of(`plain ${bytes} ${what}`))
  const limits: readonly (readonly [CaseName, number, number])[] = [
    ['compress: true', 2_000, 0.4],
    ['compress: true', 200, 0.8],
    ["compress: 'shared'", 2_000, 0.25],
    ["compress: 'shared'", 200, 0.45],
  ]
  return {
    title: `Compression: ${CLIENTS} clients that accept gzip`,
    method: [
      'Events are JSON of orders with names, prices and times.',
      'A turn publishes one event, and the next turn starts when it has been written.',
      'The client process counts the bytes of all clients.',
      `${CHECKED} more clients unzip their streams and check that every event arrives.`,
      'CPU is the time of the server process with all its threads, per million deliveries.',
    ],
    tables: SIZES.map((bytes) => ({
      caption: `Events of about ${bytes} bytes`,
      columns: ['', 'bytes per delivery', 'against plain', 'CPU per million', 'against plain'],
      rows: names.map((name) => [
        name,
        shown(figure(samples.of(`${name} ${bytes} wire`))),
        shown(against(name, bytes, 'wire'), '×'),
        shown(figure(samples.of(`${name} ${bytes} cpu`))),
        shown(against(name, bytes, 'cpu'), '×'),
      ]),
    })),
    targets: limits.flatMap(([name, bytes, limit]): Target[] => [
      {
        text: `bytes on the wire with ${name}, events of ${bytes} bytes`,
        measured: against(name, bytes, 'wire'),
        limit,
        bound: 'most',
        unit: '×',
      },
      { text: `CPU with ${name}, events of ${bytes} bytes`, measured: against(name, bytes, 'cpu'), limit: 1, bound: 'most', unit: '×' },
    ]),
  }
}

/** A case, with clients that unzip while they read. */
interface Test {
  readonly name: CaseName
  readonly rig: Rig
  readonly checkers: Worker<UnzipOrders>
}

async function begin({ name, rig: { server, clients }, checkers }: Test): Promise<void> {
  const encoding = await checkers.ask('open', { port: server.port, clients: CHECKED })
  if ((encoding === 'gzip') !== (name !== 'plain')) throw new Error(`${name} answered with the encoding '${encoding}'`)
  await clients.connect(server, { clients: CLIENTS, headers: ['Accept-Encoding: gzip'], opaque: true })
}

/** Measures the bytes on the wire per delivery, and the CPU seconds of the server per million deliveries. */
async function measure(
  { name, rig: { server, clients }, checkers }: Test,
  bytes: number,
  { machine }: BenchContext,
): Promise<{ wire: number; cpu: number }> {
  const turns = name === SLOW ? 15 : 100
  const publish = async (count: number): Promise<unknown> =>
    server.publish({ turns: count, perTurn: 1, intervalMs: 0, bytes, payload: 'orders' })
  const result = await machine.during(async () => {
    const before = await silence(clients)
    await publish(turns / 5)
    const cpu = server.cpu()
    await publish(turns)
    const spent = server.cpu() - cpu
    await checkers.ask('reach', { published: server.published[0] ?? 0 })
    const after = await silence(clients)
    return { wire: (after - before) / CLIENTS / (turns * 1.2), cpu: (spent * 1e6) / turns / (CLIENTS + CHECKED) }
  })
  await clients.report()
  return result
}

/** Waits until no more bytes arrive, and returns their total. */
async function silence(clients: Load): Promise<number> {
  let { bytes } = await clients.report()
  for (;;) {
    await sleep(150)
    const now = (await clients.report()).bytes
    if (now === bytes) return now
    bytes = now
  }
}
