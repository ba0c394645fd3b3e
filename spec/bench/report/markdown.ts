import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { digits, isMet, type ScenarioResult, shown, type Table, type Target } from './result.ts'

const PACKAGES = ['express', 'better-sse', 'express-sse', 'compression', 'ioredis']

/** Facts about the benchmark itself, for the report. */
export interface RunInfo {
  readonly quick: boolean
  readonly seconds: number
  readonly measured: number
  readonly repeated: number
  readonly disturbed: number
}

/** Writes the report: the machine, the targets, and the tables of every scenario. */
export function markdown(results: readonly ScenarioResult[], run: RunInfo): string {
  const sections = [
    '# Results of the benchmark',
    `Written by \`npm run bench\`${run.quick ? ' with `--quick`, so fewer rounds and smaller counts' : ''}. Do not edit: run it.`,
    tableText(machineTable(run)),
    '## Targets',
    tableText({ caption: '', columns: ['scenario', 'target', 'at', 'measured', ''], rows: results.flatMap(targetRows) }),
    ...results.flatMap(({ title, method, tables }) => [
      `## ${title}`,
      method.join('\n'),
      ...tables.flatMap((table) => [`**${table.caption}**`, tableText(table)]),
    ]),
  ]
  return `${sections.join('\n\n')}\n`
}

function targetRows({ title, targets }: ScenarioResult): string[][] {
  return targets.map((target) => [
    title.split(':', 1)[0] ?? '',
    target.text,
    limitText(target),
    shown(target.measured, target.unit),
    verdict(target),
  ])
}

function limitText({ bound, limit, unit }: Target): string {
  return `${bound === 'most' ? '≤' : '≥'} ${digits(limit)}${unit}`
}

/** Result of a target, for the report and the terminal. */
export function verdict(target: Target): string {
  if (target.measured === undefined) return 'not measured'
  return isMet(target) ? 'met' : '**not met**'
}

function tableText({ columns, rows }: Table): string {
  return [columns, columns.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

function machineTable({ seconds, measured, repeated, disturbed }: RunInfo): Table {
  const [cpu] = os.cpus()
  const peers = PACKAGES.map((name) => `${name} ${versionOf(name)}`)
  const rows = [
    ['date', new Date().toISOString().slice(0, 10)],
    ['processor', `${cpu?.model.trim() ?? 'unknown'}, ${os.cpus().length} cores`],
    ['memory', `${Math.round(os.totalmem() / 1_073_741_824)} GiB`],
    ['kernel', `${os.type()} ${os.release()}`],
    ['Node.js', process.version],
    ['packages', [`express-sse-hub ${ownVersion()}`, ...peers].join(', ')],
    ['nginx', nginxVersion()],
    ['length', `${(seconds / 60).toFixed(1)} minutes`],
    [
      'other load',
      `in ${disturbed} of ${measured} measurements, more than an eighth of a core, after ${repeated} repetitions for this reason`,
    ],
  ]
  return { caption: '', columns: ['', ''], rows }
}

function versionOf(name: string): string {
  return readVersion(path.join(__dirname, '../../../node_modules', name, 'package.json'))
}

function ownVersion(): string {
  return readVersion(path.join(__dirname, '../../../package.json'))
}

function readVersion(file: string): string {
  return (JSON.parse(readFileSync(file, 'utf8')) as { readonly version: string }).version
}

function nginxVersion(): string {
  try {
    return execFileSync('sh', ['-c', '/usr/sbin/nginx -v 2>&1'], { encoding: 'utf8' }).replace('nginx version: nginx/', '').trim()
  } catch {
    return 'not installed'
  }
}
