import os from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'

export interface Sample {
  readonly at: number
  readonly cpuPercent: number
  readonly memoryPercent: number
  /** How many tasks ran or waited to run, averaged over a minute; always 0 on Windows. */
  readonly load: number
  readonly cores: number
  /** The longest that a timer of this process was late since the last sample but one. */
  readonly loopDelayMs: number
}

const RESOLUTION_MS = 10

/** Measures this machine since the sample before. */
export function createSampler() {
  // Two, in turn: after a reset a monitor is blind until its timer has fired again, and the other one sees that time.
  const delays = [monitorEventLoopDelay({ resolution: RESOLUTION_MS }), monitorEventLoopDelay({ resolution: RESOLUTION_MS })] as const
  let [delay, other] = delays
  for (const each of delays) each.enable()
  let before = cpuTimes()
  const sample = (): Sample => {
    const now = cpuTimes()
    const idle = (now.idle - before.idle) / Math.max(1, now.total - before.total)
    // Linux may count idle time backwards.
    const cpuPercent = 100 * Math.min(1, Math.max(0, 1 - idle))
    const memoryPercent = 100 * (1 - os.freemem() / os.totalmem())
    // What is measured is the time between two firings of a timer, so the timer's own interval is in it.
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
