import type { Acquired } from '../backplanes/backplane.ts'
import type { RedisLink } from './redis-link.ts'
import type { Script } from './scripts.ts'

/** A count is asserted again so often, and forgotten when that stops: by a process that crashed, or where Redis lost it. */
const RENEW_MS = 60_000
const EXPIRY_MS = 180_000
const BATCH = 500

/** The scripts that count, and that assert counts. */
export interface OwnerScripts {
  readonly count: Script
  readonly assert: Script
}

/** How many streams of each owner this process has, as all processes see it. */
export class OwnerCounts {
  readonly #link: RedisLink
  readonly #base: string
  readonly #processId: string
  readonly #aliveMs: number
  readonly #scripts: OwnerScripts
  readonly #counts = new Map<string, number>()
  /** The owners of which Redis may have another count. */
  readonly #doubtful = new Set<string>()
  /** How often counts were asserted, whatever was under way. */
  #asserted = 0
  readonly #timer: NodeJS.Timeout

  /** @param aliveMs for how long this process counts as there after it was heard of, in milliseconds. */
  constructor(link: RedisLink, base: string, processId: string, aliveMs: number, scripts: OwnerScripts) {
    this.#link = link
    this.#base = base
    this.#processId = processId
    this.#aliveMs = aliveMs
    this.#scripts = scripts
    this.#timer = setInterval(() => void this.assertAll(), RENEW_MS).unref()
  }

  /** Counts one more. Where it rejects it is counted as well, and asserted when Redis is back. */
  async acquire(owner: string, max: number): Promise<Acquired> {
    let isCounted = false
    const count = (): void => {
      if (!isCounted) this.#add(owner, 1)
      isCounted = true
    }
    const asserted = this.#asserted
    let answer: unknown
    try {
      answer = await this.#link.run(this.#scripts.count, this.#base, () => {
        count()
        return [owner, this.#processId, EXPIRY_MS, max, this.#aliveMs]
      })
      if (answer === 1) return 'counted'
    } catch (error) {
      count()
      this.#doubtful.add(owner)
      throw error
    }
    this.#add(owner, -1)
    // Asserted meanwhile, it was counted there.
    if (asserted !== this.#asserted) await this.#assert([owner])
    return answer === 0 ? 'full' : 'maybe-full'
  }

  release(owner: string): void {
    this.#add(owner, -1)
    this.#doubtful.add(owner)
    // Otherwise it is asserted when Redis is back.
    if (!this.#link.isReady) return
    const answered = (): unknown => this.#doubtful.delete(owner)
    this.#link.run(this.#scripts.count, this.#base, () => [owner, this.#processId, EXPIRY_MS, -1]).then(answered, () => {})
  }

  /** Redis is back: asserts the counts of which it may have others. */
  async assertDoubtful(): Promise<void> {
    await this.#assert([...this.#doubtful])
  }

  /** Asserts all counts again. */
  async assertAll(): Promise<void> {
    await this.#assert([...new Set([...this.#counts.keys(), ...this.#doubtful])])
  }

  close(): void {
    clearInterval(this.#timer)
  }

  async #assert(owners: readonly string[]): Promise<void> {
    this.#asserted++
    for (let i = 0; i < owners.length && this.#link.isReady; i += BATCH) {
      const some = owners.slice(i, i + BATCH)
      for (const owner of some) this.#doubtful.delete(owner)
      try {
        await this.#link.run(this.#scripts.assert, this.#base, () => {
          const counts = some.flatMap((owner) => [owner, this.#counts.get(owner) ?? 0])
          return [this.#processId, EXPIRY_MS, this.#aliveMs, ...counts]
        })
      } catch {
        // Redis is away again, which others have said.
        for (const owner of some) this.#doubtful.add(owner)
      }
    }
  }

  #add(owner: string, difference: number): void {
    const count = (this.#counts.get(owner) ?? 0) + difference
    if (count > 0) this.#counts.set(owner, count)
    else this.#counts.delete(owner)
  }
}
