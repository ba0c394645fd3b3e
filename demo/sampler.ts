import os from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'

export interface Sample {
  readonly at: number
  readonly cpuPercent: number
  readonly memoryPercent: number
  /** Tasks that ran or waited to run, averaged over a minute; always 0 on Windows. */
  readonly load: number
  readonly cores: number
  /** The longest delay of a timer of this process since the last sample but one. */
  readonly loopDelayMs: number
}

const RESOLUTION_MS = 10

/** Measures this machine. Each sample covers the time since the previous one. */
export function createSampler() {
  // Two monitors take turns: a monitor sees nothing between a reset and the next firing of its timer.
  const delays = [monitorEventLoopDelay({ resolution: RESOLUTION_MS }), monitorEventLoopDelay({ resolution: RESOLUTION_MS })] as const
  let [delay, other] = delays
  for (const each of delays) each.enable()
  let before = cpuTimes()
  const sample = (): Sample => {
    const now = cpuTimes()
    const idle = (now.idle - before.idle) / Math.max(1, now.total - before.total)
    // On Linux, the count of idle time may go backwards.
    const cpuPercent = 100 * Math.min(1, Math.max(0, 1 - idle))
    const memoryPercent = 100 * (1 - os.freemem() / os.totalmem())
    // A monitor measures the time between two firings of a timer, which includes the timer's own interval.
    const loopDelayMs = Math.max(0, delay.max / 1e6 - RESOLUTION_MS)
    before = now
    delay.reset()
    ;[delay, other] = [other, delay]
    return { at: Date.now(), cpuPercent, memoryPercent, load: os.loadavg()[0] ?? 0, cores: os.cpus().length, loopDelayMs }
  }
  return { sample, stop: () => delays.forEach((each) => each.disable()) }
}

function cpuTimes() {
  const modes = os.cpus().map(({ times }) => times)
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0)
  return { idle: sum(modes.map(({ idle }) => idle)), total: sum(modes.flatMap((times) => Object.values(times))) }
}
