import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { charts } from './report/chart.ts'
import { markdown, verdict } from './report/markdown.ts'
import { type ScenarioResult, shown } from './report/result.ts'
import { channels } from './scenarios/channels.ts'
import { compression } from './scenarios/compression.ts'
import { eventLoop } from './scenarios/event-loop.ts'
import { growth } from './scenarios/growth.ts'
import { memory } from './scenarios/memory.ts'
import { redis } from './scenarios/redis.ts'
import { stalled } from './scenarios/stalled.ts'
import { storm } from './scenarios/storm.ts'
import { throughput } from './scenarios/throughput.ts'
import { compile, removeCompiled } from './support/compiled.ts'
import { hasNchan } from './support/nginx.ts'
import type { Scenario } from './support/scenario.ts'
import { QuietMachine } from './support/quiet.ts'
import { killAll } from './support/worker.ts'

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  throughput,
  memory,
  storm,
  'event-loop': eventLoop,
  stalled,
  channels,
  growth,
  redis,
  compression,
}
/** Open files that a process needs in addition to its connections. */
const OTHER_FILES = 100

interface Arguments {
  readonly quick: boolean
  readonly write: boolean
  readonly names: readonly string[]
}

function parseArguments(args: readonly string[]): Arguments {
  let names = Object.keys(SCENARIOS)
  let isPart = false
  const flags = new Set<string>()
  const rest = [...args]
  for (let each = rest.shift(); each !== undefined; each = rest.shift()) {
    if (each === '--only') {
      names = (rest.shift() ?? '').split(',')
      isPart = true
    } else if (each === '--quick' || each === '--write') {
      flags.add(each)
    } else {
      throw new TypeError(`unknown argument ${each}: use --quick, --write or --only <scenario>[,<scenario>]`)
    }
  }
  const unknown = names.find((name) => SCENARIOS[name] === undefined)
  if (unknown !== undefined) throw new TypeError(`unknown scenario ${unknown}: use ${Object.keys(SCENARIOS).join(', ')}`)
  const quick = flags.has('--quick')
  return { quick, names, write: flags.has('--write') || (!quick && !isPart) }
}

async function run({ quick, write, names }: Arguments): Promise<void> {
  const openFiles = Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }))
  const maxConnections = Math.min(20_000, (Number.isNaN(openFiles) ? Infinity : openFiles) - OTHER_FILES)
  if (!hasNchan()) console.log('nginx with the module nchan is not installed, and is omitted')
  compile()
  const results: ScenarioResult[] = []
  const machine = new QuietMachine(quick ? 3_000 : 120_000)
  const start = performance.now()
  for (const name of names) {
    const began = performance.now()
    const log = (line: string): void => console.log(`  [${((performance.now() - began) / 1_000).toFixed(1)} s] ${line}`)
    console.log(`\n${name}`)
    try {
      const result = await SCENARIOS[name]?.({ quick, maxConnections, machine, log })
      if (result === undefined) continue
      results.push(result)
      print(result)
    } catch (error) {
      process.exitCode = 1
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
      console.error(`FAILED: ${name}: ${message}`)
      results.push({ title: name, method: [`**It failed:** ${message.split('\n', 1)[0]}`], tables: [], targets: [] })
    }
  }
  const seconds = (performance.now() - start) / 1_000
  console.log(`\n${seconds.toFixed(0)} s; ${machine.measured} measurements, ${machine.repeated} repeated, ${machine.disturbed} disturbed`)
  if (!write) return
  writeFileSync(
    path.join(__dirname, 'results.md'),
    markdown(results, { quick, seconds, measured: machine.measured, repeated: machine.repeated, disturbed: machine.disturbed }),
  )
  const points = results.flatMap(({ chart: some }) => some ?? [])
  for (const [file, svg] of charts(points)) writeFileSync(path.join(__dirname, file), svg)
}

function print({ tables, targets }: ScenarioResult): void {
  for (const { caption, columns, rows } of tables) {
    console.log(`\n${caption}`)
    const widths = columns.map((column, index) => Math.max(column.length, ...rows.map((row) => row[index]?.length ?? 0)))
    for (const row of [columns, ...rows]) console.log(row.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join('  '))
  }
  for (const target of targets) {
    console.log(
      `${verdict(target)}: ${target.text}: ${shown(target.measured, target.unit)}, at ${target.bound} ${target.limit}${target.unit}`,
    )
  }
}

function leave(): void {
  killAll()
  removeCompiled()
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // The handler stays registered, because a terminal and the parent may both send the signal, and the second must not interrupt the first.
  process.on(signal, () => {
    leave()
    process.exit(1)
  })
}
void run(parseArguments(process.argv.slice(2))).finally(leave)
