/** After this long, work for many streams yields to the event loop. */
const SLICE_MS = 4
/** The clock is read once per so many units of work: one unit is a few microseconds. */
const CLOCK_EVERY = 8

/** What giving so many bytes counts as: many may have to be compressed first. */
export function unitsFor(bytes: number): number {
  return 1 + (bytes >>> 13)
}

/** A short stretch of time in which work may hold the event loop. */
export class TimeSlice {
  /** Whether the last {@link spend} found the time to be over. */
  isOver = false
  #until = 0
  #work = 0
  #isBegun = false

  begin(): void {
    this.isOver = false
    this.#until = performance.now() + SLICE_MS
    this.#work = 0
  }

  /** The same, unless it was begun in this turn of the event loop: one slice for all who ask in a turn. */
  beginOncePerTurn(): void {
    if (this.#isBegun) return
    this.#isBegun = true
    setImmediate(() => (this.#isBegun = false))
    this.begin()
  }

  /** Adds units of work done, and tells whether the time is over. */
  spend(units = 1): boolean {
    if (this.isOver) return true
    this.#work += units
    if (this.#work < CLOCK_EVERY) return false
    this.#work = 0
    this.isOver = performance.now() > this.#until
    return this.isOver
  }
}
