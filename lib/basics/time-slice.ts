/** Time after which work for many streams yields to the event loop. */
const SLICE_MS = 4
/** Units of work after which the clock is read. One unit takes a few microseconds. */
const CLOCK_EVERY = 8

/** Units of work for writing a number of bytes: one, and one more for each 8 KiB, which may have to be compressed first. */
export function unitsFor(bytes: number): number {
  return 1 + (bytes >>> 13)
}

/** A short period during which work may keep the event loop busy. */
export class TimeSlice {
  /** Whether the last call of {@link spend} found that the time was over. */
  isOver = false
  #until = 0
  #work = 0
  #isBegun = false

  begin(): void {
    this.isOver = false
    this.#until = performance.now() + SLICE_MS
    this.#work = 0
  }

  /** Begins the slice unless it has begun in this turn of the event loop. All callers of one turn share one slice. */
  beginOncePerTurn(): void {
    if (this.#isBegun) return
    this.#isBegun = true
    setImmediate(() => (this.#isBegun = false))
    this.begin()
  }

  /** Adds units of work, and returns whether the time is over. */
  spend(units = 1): boolean {
    if (this.isOver) return true
    this.#work += units
    if (this.#work < CLOCK_EVERY) return false
    this.#work = 0
    this.isOver = performance.now() > this.#until
    return this.isOver
  }
}
