import type { Acquired } from '../backplanes/backplane.ts'
import type { RedisLink } from './redis-link.ts'
import type { ScriptCalls } from './script-calls.ts'
import { OWNER_COUNT_KEPT_MS } from './scripts/prelude.ts'

/** The interval at which all counts are asserted. Redis forgets counts that no process asserts, such as those of a process that crashed. */
const RENEW_MS = OWNER_COUNT_KEPT_MS / 3
const BATCH = 500

/**
 * The number of streams that each owner has in this process. Redis has a copy of each number, and adds up those of all processes. To
 * *assert* a number is to write it to Redis again.
 */
export class OwnerCounts {
  readonly #link: RedisLink
  readonly #calls: ScriptCalls
  readonly #counts = new Map<string, number>()
  /** The owners whose count in Redis may differ. */
  readonly #doubtful = new Set<string>()
  /** The number of assertions that have begun. */
  #assertions = 0
  readonly #timer: NodeJS.Timeout

  constructor(link: RedisLink, calls: ScriptCalls) {
    this.#link = link
    this.#calls = calls
    this.#timer = setInterval(() => void this.assertAll(), RENEW_MS).unref()
  }

  /** Counts one more stream. If it rejects, the stream is counted here all the same, and asserted when Redis is back. */
  async acquire(owner: string, max: number): Promise<Acquired> {
    let isCounted = false
    const count = (): void => {
      if (!isCounted) this.#add(owner, 1)
      isCounted = true
    }
    const assertions = this.#assertions
    let acquired: Acquired
    try {
      // The stream counts here as soon as the command is sent, so that an assertion that follows does not undo it in Redis.
      acquired = await this.#calls.countStream(owner, max, count)
    } catch (error) {
      count()
      this.#doubtful.add(owner)
      throw error
    }
    if (acquired === 'counted') return acquired
    this.#add(owner, -1)
    // An assertion meanwhile may have counted it in Redis.
    if (assertions !== this.#assertions) await this.#assert([owner])
    return acquired
  }

  release(owner: string): void {
    this.#add(owner, -1)
    this.#doubtful.add(owner)
    // Without a connection, the count is asserted when Redis is back.
    if (!this.#link.isReady) return
    const answered = (): unknown => this.#doubtful.delete(owner)
    this.#calls.uncountStream(owner).then(answered, () => {})
  }

  /** Asserts the counts that Redis may have wrong. Called when Redis is back. */
  async assertDoubtful(): Promise<void> {
    await this.#assert([...this.#doubtful])
  }

  /** Asserts all counts. */
  async assertAll(): Promise<void> {
    await this.#assert([...new Set([...this.#counts.keys(), ...this.#doubtful])])
  }

  close(): void {
    clearInterval(this.#timer)
  }

  async #assert(owners: readonly string[]): Promise<void> {
    this.#assertions++
    for (let i = 0; i < owners.length && this.#link.isReady; i += BATCH) {
      const batch = owners.slice(i, i + BATCH)
      for (const owner of batch) this.#doubtful.delete(owner)
      try {
        await this.#calls.assertOwnerCounts(batch, (owner) => this.#counts.get(owner) ?? 0)
      } catch {
        // Redis is away again. Its links report that.
        for (const owner of batch) this.#doubtful.add(owner)
      }
    }
  }

  #add(owner: string, difference: number): void {
    const count = (this.#counts.get(owner) ?? 0) + difference
    if (count > 0) this.#counts.set(owner, count)
    else this.#counts.delete(owner)
  }
}
