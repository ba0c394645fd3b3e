import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import { until } from './client.ts'
import { TYPESCRIPT } from './typescript.ts'

const ROOT = path.join(__dirname, '../..')
const running = new Set<DemoProcess>()

/** A process that runs a TypeScript file until {@link stopDemoProcesses}. */
export class DemoProcess {
  output = ''
  readonly #file: string
  readonly #child: ChildProcess

  constructor(file: string, { env = {}, args = [] }: { readonly env?: NodeJS.ProcessEnv; readonly args?: readonly string[] }) {
    const child = spawn(process.execPath, [...TYPESCRIPT, file, ...args], {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (this.output += chunk.toString()))
    this.#file = file
    this.#child = child
    running.add(this)
  }

  get isOver(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  get exitCode(): number | null {
    return this.#child.exitCode
  }

  send(message: unknown): void {
    this.#child.send(message as string)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async prints(pattern: RegExp): Promise<RegExpExecArray> {
    await until(() => pattern.test(this.output) || this.isOver, `${this.#file} prints ${pattern}`)
    const found = pattern.exec(this.output)
    if (found === null) throw new Error(`the process has ended, and printed: ${this.output}`)
    return found
  }

  async over(): Promise<void> {
    await until(() => this.isOver, `${this.#file} has ended`)
  }
}

/** Kills every process that a spec has started. Call it in `afterEach` or `afterAll`. */
export async function stopDemoProcesses(): Promise<void> {
  const all = [...running]
  running.clear()
  for (const each of all) each.signal('SIGKILL')
  for (const each of all) await each.over()
}
