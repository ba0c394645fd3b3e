import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { cpuSeconds, ticksPerSecond, withChildren } from './cpu.ts'
import { runningPids } from './worker.ts'

/** What other processes of the machine may use meanwhile, in CPU seconds per second. */
const MAX_FOREIGN = 0.12
const SAMPLE_MS = 100
const MAX_TRIES = 3

/** Does what is measured when nobody else uses the machine, and again when somebody turned out to. */
export class QuietMachine {
  /** How often something was measured, and how often somebody else used the machine at the last try too. */
  measured = 0
  disturbed = 0
  repeated = 0
  readonly #maxWaitMs: number
  #waitedMs = 0

  /** @param maxWaitMs how long it waits in all for the machine to be quiet. */
  constructor(maxWaitMs: number) {
    this.#maxWaitMs = maxWaitMs
  }

  /** @param action may be called several times; it starts and ends no process. */
  async during<T>(action: () => Promise<T>): Promise<T> {
    this.measured++
    for (let tries = 1; ; tries++) {
      await this.#wait()
      const start = performance.now()
      const watch = new ForeignLoad()
      const result = await action()
      if (watch.share() <= MAX_FOREIGN) return result
      if (tries === MAX_TRIES || this.#waitedMs > this.#maxWaitMs) {
        this.disturbed++
        return result
      }
      this.repeated++
      this.#waitedMs += performance.now() - start
    }
  }

  async #wait(): Promise<void> {
    for (;;) {
      const watch = new ForeignLoad()
      await sleep(SAMPLE_MS)
      if (watch.share() <= MAX_FOREIGN || this.#waitedMs > this.#maxWaitMs) return
      this.#waitedMs += SAMPLE_MS
    }
  }
}

/** What processes that are not of the bench use from now on. */
class ForeignLoad {
  readonly #start = performance.now()
  readonly #machine = machineSeconds()
  readonly #ours = benchSeconds()

  /** In CPU seconds per second. */
  share(): number {
    return (machineSeconds() - this.#machine - (benchSeconds() - this.#ours)) / ((performance.now() - this.#start) / 1_000)
  }
}

function benchSeconds(): number {
  return cpuSeconds([...new Set(runningPids().flatMap(withChildren))])
}

/**
 * What all cores did in user, nice, system, interrupts and soft interrupts. The latter are in the time of the processes
 * too: what a send to the loopback network causes runs within it.
 */
function machineSeconds(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] =
    readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/\s+/).slice(1).map(Number) ?? []
  return (user + nice + system + irq + softirq) / ticksPerSecond()
}
