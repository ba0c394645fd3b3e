import { type Deferred, deferred } from './promises.ts'

/** Time for which direct sends and publishers may keep the event loop busy in one turn. */
const HOLD_MS = 10

/**
 * Stops a loop that awaits already settled promises from blocking the event loop. Such a loop runs entirely in microtasks.
 * After about 10 ms in one turn, the caller should wait for the next turn. All callers that share a budget share its time.
 */
export class TurnBudget {
  #startedAt = -1
  #nextTurn: Deferred<void> | null = null

  /** Whether the time of this turn is used up. The first call of a turn starts the clock. */
  isSpent(): boolean {
    const now = performance.now()
    if (this.#startedAt === -1) {
      this.#startedAt = now
      setImmediate(this.#reset)
      return false
    }
    return now - this.#startedAt > HOLD_MS
  }

  /** Resolves in the next turn. Call it only if {@link isSpent} returned `true`. */
  nextTurn(): Promise<void> {
    this.#nextTurn ??= deferred()
    return this.#nextTurn.promise
  }

  readonly #reset = (): void => {
    this.#startedAt = -1
    this.#nextTurn?.resolve()
    this.#nextTurn = null
  }
}
