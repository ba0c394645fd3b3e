import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import type { AnswerMessage, Orders } from './orders.ts'
import { compiled } from './compiled.ts'

/** Time limit for one order. */
const ORDER_TIMEOUT_MS = 180_000

interface Pending {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

/** Running processes, each with the signal that ends it. A killed nginx would leave its worker running. */
const running = new Map<ChildProcess, NodeJS.Signals>()

/** Spawns a process that {@link killAll} ends. */
export function spawnTracked(
  command: string,
  args: readonly string[],
  { ipc, endBy }: { readonly ipc: boolean; readonly endBy: NodeJS.Signals },
): ChildProcess {
  const child = spawn(command, args, { stdio: ipc ? ['ignore', 'inherit', 'inherit', 'ipc'] : ['ignore', 'inherit', 'inherit'] })
  running.set(child, endBy)
  child.once('exit', () => running.delete(child))
  return child
}

/** Ends every process that is still running. */
export function killAll(): void {
  for (const [child, signal] of running) child.kill(signal)
}

/** Ids of the running processes of the bench, including this one. */
export function runningPids(): number[] {
  return [process.pid, ...[...running.keys()].map(({ pid }) => pid ?? 0).filter((pid) => pid > 0)]
}

/** A process of the bench that executes orders. It runs compiled files in plain Node, without a transpiler. */
export class Worker<O extends Orders> {
  readonly pid: number
  readonly #child: ChildProcess
  readonly #file: string
  readonly #pending = new Map<number, Pending>()
  #count = 0

  private constructor(child: ChildProcess, file: string) {
    this.#child = child
    this.#file = file
    this.pid = child.pid ?? 0
    child.on('message', (message: AnswerMessage) => this.#settle(message))
    child.on('error', (error) => this.#failAll(error))
    child.on('exit', (code, signal) => this.#failAll(new Error(`${file} ended with ${signal ?? code}`)))
  }

  /** @param file path in the folder of the bench, without the extension. */
  static async start<O extends Orders>(file: string, args: readonly string[] = [], flags: readonly string[] = []): Promise<Worker<O>> {
    const child = spawnTracked(process.execPath, [...flags, path.join(compiled(), 'bench', `${file}.js`), ...args], {
      ipc: true,
      endBy: 'SIGKILL',
    })
    const worker = new Worker<O>(child, file)
    await worker.#answer(0, `${file} to start`)
    return worker
  }

  async ask<N extends keyof O & string>(name: N, input: Parameters<O[N]>[0]): Promise<Awaited<ReturnType<O[N]>>> {
    const number = ++this.#count
    const answer = this.#answer(number, `${this.#file} to execute ${name}`)
    this.#child.send({ number, name, input })
    return (await answer) as Awaited<ReturnType<O[N]>>
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const over = new Promise((resolve) => this.#child.once('exit', resolve))
    this.#child.kill('SIGKILL')
    await over
  }

  async #answer(number: number, what: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`timed out waiting for ${what}`)), ORDER_TIMEOUT_MS)
      this.#pending.set(number, { resolve, reject, timer })
    })
  }

  #settle(message: AnswerMessage): void {
    const pending = this.#pending.get(message.number)
    if (pending === undefined) return
    this.#pending.delete(message.number)
    clearTimeout(pending.timer)
    if ('error' in message) pending.reject(new Error(message.error))
    else pending.resolve(message.result)
  }

  #failAll(error: Error): void {
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer)
      reject(error)
    }
    this.#pending.clear()
  }
}
