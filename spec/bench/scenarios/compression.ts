import { setTimeout as sleep } from 'node:timers/promises'
import type { UnzipOrders } from '../client/unzip-process.ts'
import { type ScenarioResult, shown, type Target } from '../report/result.ts'
import type { ServerOptions } from '../servers/bench-server.ts'
import type { Load } from '../support/load.ts'
import { withRig } from '../support/rig.ts'
import { type BenchContext, interleave, Samples } from '../support/scenario.ts'
import type { ServerName } from '../support/server.ts'
import { type Figure, figure, ratio } from '../support/statistics.ts'
import { Worker } from '../support/worker.ts'

const CLIENTS = 500
const CHECKED = 5
const SIZES = [200, 2_000] as const

interface Case {
  readonly server: ServerName
  readonly options?: ServerOptions
}

const CASES = {
  plain: { server: 'express-sse-hub' },
  'compress: true': { server: 'express-sse-hub', options: { compress: true } },
  "compress: 'shared'": { server: 'express-sse-hub', options: { compress: 'shared' } },
  'Express with compression()': { server: 'compression' },
} as const satisfies Record<string, Case>
type CaseName = keyof typeof CASES

/** What compression saves on the wire, and what it costs. */
export async function compression(context: BenchContext): Promise<ScenarioResult> {
  const { quick, log } = context
  const names = Object.keys(CASES) as CaseName[]
  const samples = new Samples()
  await interleave(names, quick ? 1 : 2, async (name, round) => {
    for (const bytes of SIZES) {
      if (!(await measure(name, bytes, context, samples))) {
        if (round === 0) log(`${name}: not available`)
        return
      }
    }
    log(`round ${round + 1} ${name}: ${SIZES.map((bytes) => `${samples.of(`${name} ${bytes} wire`).at(-1)?.toFixed(0)} bytes, ${samples.of(`${name} ${bytes} cpu`).at(-1)?.toFixed(2)}`).join('; ')}`)
  })
  const against = (name: CaseName, bytes: number, what: 'wire' | 'cpu'): Figure | undefined => {
    const values = samples.of(`${name} ${bytes} ${what}`)
    return values.length === 0 ? undefined : ratio(values, samples.of(`plain ${bytes} ${what}`))
  }
  const limits: readonly (readonly [CaseName, number, number])[] = [
    ['compress: true', 2_000, 0.4],
    ['compress: true', 200, 0.8],
    ["compress: 'shared'", 2_000, 0.25],
    ["compress: 'shared'", 200, 0.45],
  ]
  return {
    title: `Compression: ${CLIENTS} clients that accept gzip`,
    method: [
      `JSON of orders with names, prices and times, one event a turn, and the next when that was written. The client process counts the bytes of all; ${CHECKED} more clients unzip as they come and check that every event is there.`,
      'CPU is that of the server process per million deliveries, with all its threads.',
    ],
    tables: SIZES.map((bytes) => ({
      caption: `Events of about ${bytes} bytes`,
      columns: ['', 'bytes per delivery', 'against plain', 'CPU per million', 'against plain'],
      rows: names.map((name) => {
        const available = samples.of(`${name} ${bytes} wire`).length > 0
        if (!available) return [name, 'not available', '', '', '']
        return [
          name,
          shown(figure(samples.of(`${name} ${bytes} wire`))),
          shown(against(name, bytes, 'wire'), '×'),
          shown(figure(samples.of(`${name} ${bytes} cpu`))),
          shown(against(name, bytes, 'cpu'), '×'),
        ]
      }),
    })),
    targets: limits.flatMap(([name, bytes, limit]): Target[] => [
      { text: `bytes on the wire with ${name}, events of ${bytes} bytes`, measured: against(name, bytes, 'wire'), limit, bound: 'most', unit: '×' },
      { text: `CPU with ${name}, events of ${bytes} bytes`, measured: against(name, bytes, 'cpu'), limit: 1, bound: 'most', unit: '×' },
    ]),
  }
}

/** Gives `false` when the server refuses the options. */
async function measure(name: CaseName, bytes: number, { quick, machine }: BenchContext, samples: Samples): Promise<boolean> {
  const { server: file, options }: Case = CASES[name]
  const checkers = await Worker.start<UnzipOrders>('client/unzip-process')
  try {
    await withRig(file, options === undefined ? {} : { options }, async ({ server, clients }) => {
      const encoding = await checkers.ask('open', { port: server.port, clients: CHECKED })
      if ((encoding === 'gzip') !== (name !== 'plain')) throw new Error(`${name} answered with the encoding '${encoding}'`)
      await clients.connect(server, { clients: CLIENTS, headers: ['Accept-Encoding: gzip'], opaque: true })
      await sleep(200)
      const publish = async (turns: number): Promise<void> => {
        await server.publish({ turns, perTurn: 1, intervalMs: 0, bytes, payload: 'orders' })
        await checkers.ask('reach', { published: server.published[0] ?? 0 })
      }
      await publish(quick ? 10 : 50)
      const turns = quick ? 50 : 250
      const one = await machine.during(async () => {
        const before = await silence(clients)
        const cpu = server.cpu()
        await publish(turns)
        const after = await silence(clients)
        return { wire: (after - before) / CLIENTS / turns, cpu: ((server.cpu() - cpu) * 1e6) / turns / (CLIENTS + CHECKED) }
      })
      samples.add(`${name} ${bytes} wire`, one.wire)
      samples.add(`${name} ${bytes} cpu`, one.cpu)
      await clients.report()
    })
    return true
  } catch (error) {
    if (error instanceof Error && options !== undefined && /compress/.test(error.message) && /TypeError|RangeError/.test(error.message)) return false
    throw error
  } finally {
    await checkers.stop()
  }
}

/** The bytes that have come, once no more do. */
async function silence(clients: Load): Promise<number> {
  let { bytes } = await clients.report()
  for (;;) {
    await sleep(150)
    const now = (await clients.report()).bytes
    if (now === bytes) return now
    bytes = now
  }
}
