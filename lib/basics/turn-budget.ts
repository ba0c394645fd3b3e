/** How long direct sends and publishers may hold the event loop in one turn of it. */
const HOLD_MS = 10

/**
 * Keeps a loop that awaits promises which are always settled from holding the event loop: past about 10 ms in one
 * turn its holder waits for the next. One budget serves all who share it.
 */
export class TurnBudget {
  #startedAt = -1
  #nextTurn: Promise<void> | null = null
  #resolve: (() => void) | null = null

  /** Whether this turn is used up. The first question of a turn starts its clock. */
  isSpent(): boolean {
    const now = performance.now()
    if (this.#startedAt === -1) {
      this.#startedAt = now
      setImmediate(this.#reset)
      return false
    }
    return now - this.#startedAt > HOLD_MS
  }

  /** Settles in the next turn. Ask only when {@link isSpent}. */
  nextTurn(): Promise<void> {
    this.#nextTurn ??= new Promise((resolve) => (this.#resolve = resolve))
    return this.#nextTurn
  }

  readonly #reset = (): void => {
    this.#startedAt = -1
    this.#nextTurn = null
    this.#resolve?.()
    this.#resolve = null
  }
}
