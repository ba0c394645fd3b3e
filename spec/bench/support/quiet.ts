import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { cpuSeconds, ticksPerSecond, withChildren } from './cpu.ts'
import { runningPids } from './worker.ts'

/** CPU time that other processes may use during a measurement, in seconds per second. */
const MAX_FOREIGN = 0.12
const SAMPLE_MS = 100
const MAX_TRIES = 3

/** Makes measurements while the machine is otherwise idle, and repeats a measurement that other processes disturbed. */
export class QuietMachine {
  /** Counts of measurements, of those disturbed in their last try too, and of repetitions. */
  measured = 0
  disturbed = 0
  repeated = 0
  readonly #maxWaitMs: number
  #waitedMs = 0

  /** @param maxWaitMs limit of the total time that it waits for a quiet machine. */
  constructor(maxWaitMs: number) {
    this.#maxWaitMs = maxWaitMs
  }

  /** @param action may be called several times. It must not start or end processes. */
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

/** Measures the CPU time of the processes outside the bench, from the construction on. */
class ForeignLoad {
  readonly #start = performance.now()
  readonly #machine = machineSeconds()
  readonly #ours = benchSeconds()

  /** CPU time in seconds per second. */
  share(): number {
    return (machineSeconds() - this.#machine - (benchSeconds() - this.#ours)) / ((performance.now() - this.#start) / 1_000)
  }
}

function benchSeconds(): number {
  return cpuSeconds([...new Set(runningPids().flatMap(withChildren))])
}

/**
 * Time of all cores in user, nice, system, interrupts and soft interrupts. Soft interrupts also count in the time of the
 * processes, because a send to the loopback network runs the work of the receiver within the send.
 */
function machineSeconds(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] =
    readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/\s+/).slice(1).map(Number) ?? []
  return (user + nice + system + irq + softirq) / ticksPerSecond()
}
