import type { RedisLink } from './redis-link.ts'
import type { Script } from './scripts.ts'

/** A count is asserted again so often, and forgotten when that stops: by a process that crashed, or where Redis lost it. */
const RENEW_MS = 60_000
const EXPIRY_MS = 180_000
const BATCH = 500

/** How many streams of each key this process has, as all processes see it. */
export class Leases {
  readonly #link: RedisLink
  readonly #base: string
  readonly #processId: string
  readonly #script: Script
  readonly #counts = new Map<string, number>()
  readonly #timer: NodeJS.Timeout

  constructor(link: RedisLink, base: string, processId: string, script: Script) {
    this.#link = link
    this.#base = base
    this.#processId = processId
    this.#script = script
    this.#timer = setInterval(() => void this.renew(), RENEW_MS).unref()
  }

  async acquire(key: string, max: number): Promise<boolean> {
    const isFree = (await this.#link.run(this.#script, this.#base, () => [key, this.#processId, max, EXPIRY_MS])) === 1
    if (isFree) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
    return isFree
  }

  release(key: string): void {
    const count = (this.#counts.get(key) ?? 1) - 1
    if (count === 0) this.#counts.delete(key)
    else this.#counts.set(key, count)
    // Should it be lost, the next renewal makes good, or the count expires.
    void this.#link.use().then((redis) => (count === 0 ? redis.hdel(this.#of(key), this.#processId) : redis.hincrby(this.#of(key), this.#processId, -1))).catch(() => {})
  }

  /** Asserts all counts again. */
  async renew(): Promise<void> {
    const keys = [...this.#counts.keys()]
    try {
      for (let i = 0; i < keys.length; i += BATCH) {
        const pipeline = (await this.#link.use()).pipeline()
        for (const key of keys.slice(i, i + BATCH)) {
          const count = this.#counts.get(key)
          if (count !== undefined) pipeline.hset(this.#of(key), this.#processId, count).pexpire(this.#of(key), EXPIRY_MS)
        }
        await pipeline.exec()
      }
    } catch {
      // Redis is away, which others have said: the next time comes.
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #of(key: string): string {
    return `${this.#base}:l:${key}`
  }
}
