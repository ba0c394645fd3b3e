import { detachString } from '../basics/names.ts'

/** More keys than this are not remembered: the oldest is forgotten first. */
const MAX_KEYS = 100_000

interface Remembered {
  readonly position: number
  /** Monotonic, in ms. */
  readonly until: number
}

/**
 * The keys of events that a publisher may publish again because it does not know that it did: what was published with
 * them, for as long as the channel's log reaches back.
 */
export class IdempotencyKeys {
  readonly #known = new Map<string, Remembered>()

  /** The position of the event that was published with this key; `undefined` where none was, or it is forgotten. */
  find(channel: string, key: string): number | undefined {
    const known = this.#known.get(nameOf(channel, key))
    return known !== undefined && performance.now() < known.until ? known.position : undefined
  }

  /** Remembers a key for so long. */
  remember(channel: string, key: string, position: number, forMs: number): void {
    const now = performance.now()
    const name = nameOf(channel, key)
    this.#known.delete(name)
    this.#known.set(name, { position, until: now + forMs })
    // Two for one, so that what is past goes sooner than more of it comes.
    this.#forgetFirst(now)
    this.#forgetFirst(now)
  }

  clear(): void {
    this.#known.clear()
  }

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
