import { type ChildProcess, fork } from 'node:child_process'
import path from 'node:path'
import { TYPESCRIPT } from '../typescript.ts'
import type { Answer, Orders, Progress } from './hub-process.ts'

interface Asked {
  readonly resolve: (answer: never) => void
  readonly reject: (error: Error) => void
}

const NO_PROGRESS: Progress = { accepted: 0, rejected: 0, isHealthy: false }

/** A process with a hub, as the test sees it. */
export class HubProcess {
  progress = NO_PROGRESS
  readonly #child: ChildProcess
  readonly #asked = new Map<number, Asked>()
  readonly ready: Promise<unknown>
  #lastId = 0
  #exit: string | null = null

  constructor() {
    this.#child = fork(path.join(__dirname, 'hub-process.ts'), { execArgv: [...TYPESCRIPT] })
    this.ready = new Promise((resolve, reject) => this.#asked.set(0, { resolve, reject }))
    this.ready.catch(() => {})
    this.#child.on('message', (answer: Answer) => this.#heard(answer))
    this.#child.once('exit', (code, signal) => {
      this.#exit = `the process of a hub has ended: ${code ?? signal}`
      for (const { reject } of this.#asked.values()) reject(new Error(this.#exit))
      this.#asked.clear()
    })
  }

  async ask<K extends keyof Orders>(name: K, order: Parameters<Orders[K]>[0]): Promise<ReturnType<Orders[K]>> {
    await this.ready
    if (this.#exit !== null) throw new Error(this.#exit)
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject })
      this.#child.send({ id, name, order })
    })
  }

  /** Kills the process, as a crash does. */
  async kill(): Promise<void> {
    if (this.#exit !== null) return
    const exited = new Promise((resolve) => this.#child.once('exit', resolve))
    this.#child.kill('SIGKILL')
    await exited
  }

  #heard(answer: Answer): void {
    if ('progress' in answer) {
      this.progress = answer.progress
      return
    }
    const asked = this.#asked.get(answer.id)
    this.#asked.delete(answer.id)
    if ('failure' in answer) asked?.reject(new Error(answer.failure))
    else asked?.resolve(answer.answer as never)
  }

  /** Forgets the progress of the previous hub. */
  reset(): void {
    this.progress = NO_PROGRESS
  }
}

/** Processes of a test file. The tests reuse them for one hub after another. */
export class HubProcesses {
  readonly #all = new Set<HubProcess>()

  /** Returns `count` processes, and starts new ones if there are too few. */
  async take(count: number): Promise<HubProcess[]> {
    while (this.#all.size < count) this.add()
    const some = [...this.#all].slice(0, count)
    await Promise.all(some.map(({ ready }) => ready))
    for (const one of some) one.reset()
    return some
  }

  /** Starts another process. */
  add(): HubProcess {
    const one = new HubProcess()
    this.#all.add(one)
    return one
  }

  async kill(...some: readonly HubProcess[]): Promise<void> {
    for (const one of some) this.#all.delete(one)
    await Promise.all(some.map((one) => one.kill()))
  }

  async stop(): Promise<void> {
    await this.kill(...this.#all)
  }
}
