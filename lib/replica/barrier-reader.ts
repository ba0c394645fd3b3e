import type { BackplaneLog, History, ChannelPosition } from '../backplanes/backplane.ts'
import { SseError } from '../basics/errors.ts'
import type { Timeline } from '../event/timeline.ts'

/** Reads the log of a backplane, each time up to a moment before which everything was told. */
export class BarrierReader {
  readonly #log: BackplaneLog
  readonly #timeline: Timeline
  /** The reads whose moment was not reached yet. */
  readonly #awaited = new Map<string, { readonly reached: () => void; readonly failed: (error: unknown) => void }>()
  #lastToken = 0
  #now: Promise<History> | null = null
  /** The read of no place that is under way, and the one that comes after it. */
  #telling: Promise<History> | null = null
  #tellingNext: Promise<History> | null = null
  #deadline: Promise<never> | null = null

  constructor(log: BackplaneLog, timeline: Timeline) {
    this.#log = log
    this.#timeline = timeline
  }

  /**
   * Reads places of channels that are watched. When it resolves, everything before its moment was told.
   *
   * @throws {SseError} (as a rejection) `SSE_BACKPLANE_UNAVAILABLE`, within twice the time that the backplane may take.
   */
  async read(positions: readonly ChannelPosition[]): Promise<History> {
    const token = String(++this.#lastToken)
    const reached = new Promise<void>((resolve, reject) => this.#awaited.set(token, { reached: resolve, failed: reject }))
    // It may be rejected before anybody waits for it.
    reached.catch(() => {})
    let timer: NodeJS.Timeout | undefined
    try {
      const history = await this.#log.read(token, this.#timeline.epoch, positions)
      timer = setTimeout(() => this.#awaited.get(token)?.failed(silent()), this.#log.timeoutMs).unref()
      await reached
      return history
    } finally {
      clearTimeout(timer)
      this.#awaited.delete(token)
    }
  }

  /** The moment now; what comes before it may not have been told yet. All who ask in a turn of the event loop share it. */
  now(): Promise<History> {
    if (this.#now === null) {
      this.#now = this.#log.read('', this.#timeline.epoch, [])
      setImmediate(() => (this.#now = null))
    }
    return this.#now
  }

  /**
   * The moment now; everything before it was told. All who ask while one is asked for share the one after it.
   *
   * @throws {SseError} as {@link read}.
   */
  told(): Promise<History> {
    if (this.#telling === null) return this.#tell()
    this.#tellingNext ??= this.#telling.then(
      () => this.#tell(),
      () => this.#tell(),
    )
    return this.#tellingNext
  }

  /** Rejects when the backplane has had the time that it may take. All who ask in a turn of the event loop share it. */
  deadline(): Promise<never> {
    if (this.#deadline === null) {
      this.#deadline = new Promise((_, reject) => setTimeout(() => reject(silent()), this.#log.timeoutMs).unref())
      this.#deadline.catch(() => {})
      setImmediate(() => (this.#deadline = null))
    }
    return this.#deadline
  }

  reached(token: string): void {
    this.#awaited.get(token)?.reached()
  }

  /** No moment is reached any more of those that are waited for. */
  interrupted(): void {
    for (const { failed } of this.#awaited.values()) {
      failed(new SseError('SSE_BACKPLANE_UNAVAILABLE', 'Hub: the connection to the backplane broke'))
    }
  }

  #tell(): Promise<History> {
    const telling = this.read([])
    this.#telling = telling
    this.#tellingNext = null
    return telling.finally(() => {
      if (this.#telling === telling) this.#telling = null
    })
  }
}

function silent(): SseError {
  return new SseError('SSE_BACKPLANE_UNAVAILABLE', 'Hub: the backplane does not tell of what is published')
}
