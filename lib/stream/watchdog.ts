import { TimeSlice } from '../basics/time-slice.ts'
import { SwapList, type Indexed } from '../basics/swap-list.ts'

const MIN_TICK_MS = 10
const MAX_TICK_MS = 1_000

/** An object that the watchdog visits. */
export interface Watched extends Indexed {
  /** Called about once a tick. It may remove itself or others from the watchdog. */
  watch(): void
}

/**
 * The one timer of a middleware: it counts ticks, and visits every open stream about once a tick. It runs only while a stream is open,
 * and does not keep the process alive.
 */
export class Watchdog {
  /** The number of ticks so far: the clock of silence, stalls and lifetimes. It stops while the process is suspended. */
  tick = 0
  readonly #tickMs: number
  readonly #watched = new SwapList<Watched>()
  #timer: NodeJS.Timeout | undefined
  readonly #slice = new TimeSlice()
  #at = -1

  /** @param durations the durations in ms to measure. The shortest one determines the length of a tick. */
  constructor(durations: readonly (number | false)[]) {
    const shortest = Math.min(MAX_TICK_MS * 5, ...durations.filter((ms) => ms !== false))
    this.#tickMs = Math.max(MIN_TICK_MS, Math.floor(shortest / 5))
  }

  /** The whole ticks of a duration, at least one. */
  ticksIn(ms: number): number {
    return Math.max(1, Math.floor(ms / this.#tickMs))
  }

  add(watched: Watched): void {
    this.#watched.add(watched)
    this.#timer ??= setInterval(this.#onTick, this.#tickMs).unref()
  }

  remove(watched: Watched): void {
    this.#watched.remove(watched)
    if (this.#watched.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#at = -1
  }

  readonly #onTick = (): void => {
    this.tick++
    if (this.#at >= 0) return
    this.#at = this.#watched.size - 1
    this.#sweep()
  }

  readonly #sweep = (): void => {
    this.#slice.begin()
    try {
      while (this.#at >= 0 && !this.#slice.isOver) {
        const watched = this.#watched.items[this.#at]
        this.#at--
        watched?.watch()
        this.#slice.spend()
      }
    } finally {
      if (this.#at >= 0) setImmediate(this.#sweep)
    }
  }
}
