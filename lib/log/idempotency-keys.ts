import { detachString } from '../basics/names.ts'

/** Number of keys that are remembered. Past it, the oldest key is forgotten. */
const MAX_KEYS = 100_000

interface Remembered {
  readonly position: number
  /** Time at which the key is forgotten, monotonic, in ms. */
  readonly until: number
}

/**
 * The idempotency keys of published events, and the position of the event with each key. A publisher that does not know
 * whether a publish succeeded repeats it with the same key, and the event is not published twice.
 */
export class IdempotencyKeys {
  /** Oldest key first. */
  readonly #known = new Map<string, Remembered>()

  /** Position of the event that was published with this key, or `undefined` if there is none or it is forgotten. */
  find(channel: string, key: string): number | undefined {
    const known = this.#known.get(nameOf(channel, key))
    return known !== undefined && performance.now() < known.until ? known.position : undefined
  }

  /** Remembers a key for `forMs` milliseconds. */
  remember(channel: string, key: string, position: number, forMs: number): void {
    const now = performance.now()
    const name = nameOf(channel, key)
    this.#known.delete(name)
    this.#known.set(name, { position, until: now + forMs })
    // Two attempts per new key remove expired keys faster than new ones are added.
    this.#forgetFirst(now)
    this.#forgetFirst(now)
  }

  clear(): void {
    this.#known.clear()
  }

  /** Forgets the oldest key if it has expired or there are too many. */
  #forgetFirst(now: number): void {
    for (const [name, { until }] of this.#known) {
      if (now >= until || this.#known.size > MAX_KEYS) this.#known.delete(name)
      return
    }
  }
}

function nameOf(channel: string, key: string): string {
  return detachString(`${channel.length}:${channel}${key}`)
}
