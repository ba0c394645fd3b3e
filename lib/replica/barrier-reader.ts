import type { BackplaneLog, ChannelPosition, History } from '../backplanes/backplane.ts'
import { type Deferred, deferred } from '../basics/promises.ts'
import { SseError } from '../basics/errors.ts'
import type { Timeline } from '../event/timeline.ts'

/**
 * Reads the log of a backplane. A read is a barrier in the order of events: it resolves when every event before it has arrived here. So the
 * events that were read and those that have arrived join without a gap.
 */
export class BarrierReader {
  readonly #log: BackplaneLog
  readonly #timeline: Timeline
  /** The reads that wait for earlier events to arrive, by token. */
  readonly #awaited = new Map<string, Deferred<void>>()
  #lastToken = 0
  #head: Promise<History> | null = null
  /** The barrier in progress, and the one after it. */
  #barrier: Promise<History> | null = null
  #nextBarrier: Promise<History> | null = null
  #deadline: Promise<never> | null = null

  constructor(log: BackplaneLog, timeline: Timeline) {
    this.#log = log
    this.#timeline = timeline
  }

  /**
   * Reads the events that the log keeps of watched channels after these positions. When it resolves, every event before the read has
   * arrived.
   *
   * @throws {SseError} as a rejection: `SSE_BACKPLANE_UNAVAILABLE`, within twice the backplane's timeout.
   */
  async read(positions: readonly ChannelPosition[]): Promise<History> {
    const token = String(++this.#lastToken)
    const reached = deferred<void>()
    // Handled here, because the promise may be rejected before it is awaited.
    reached.promise.catch(() => {})
    this.#awaited.set(token, reached)
    let timer: NodeJS.Timeout | undefined
    try {
      const history = await this.#log.read(token, this.#timeline.epoch, positions)
      timer = setTimeout(() => reached.reject(silent()), this.#log.timeoutMs).unref()
      await reached.promise
      return history
    } finally {
      clearTimeout(timer)
      this.#awaited.delete(token)
    }
  }

  /** The head of the log now. Earlier events may not have arrived. All callers of one turn of the event loop share a read. */
  head(): Promise<History> {
    if (this.#head === null) {
      this.#head = this.#log.read('', this.#timeline.epoch, [])
      setImmediate(() => (this.#head = null))
    }
    return this.#head
  }

  /**
   * The head of the log now. When it resolves, every earlier event has arrived. Callers during one barrier share the next one.
   *
   * @throws {SseError} as {@link read}.
   */
  barrier(): Promise<History> {
    if (this.#barrier === null) return this.#beginBarrier()
    const begin = (): Promise<History> => this.#beginBarrier()
    this.#nextBarrier ??= this.#barrier.then(begin, begin)
    return this.#nextBarrier
  }

  /** Rejects after the backplane's timeout. All callers of one turn of the event loop share a timer. */
  deadline(): Promise<never> {
    if (this.#deadline === null) {
      this.#deadline = new Promise((_, reject) => setTimeout(() => reject(silent()), this.#log.timeoutMs).unref())
      this.#deadline.catch(() => {})
      setImmediate(() => (this.#deadline = null))
    }
    return this.#deadline
  }

  /** Called when every event before the read with this token has arrived. */
  reached(token: string): void {
    this.#awaited.get(token)?.resolve()
  }

  /** Fails the reads in progress, because their notices will not arrive. */
  interrupted(): void {
    for (const { reject } of this.#awaited.values()) {
      reject(new SseError('SSE_BACKPLANE_UNAVAILABLE', 'Hub: the connection to the backplane broke'))
    }
  }

  #beginBarrier(): Promise<History> {
    const barrier = this.read([])
    this.#barrier = barrier
    this.#nextBarrier = null
    return barrier.finally(() => {
      if (this.#barrier === barrier) this.#barrier = null
    })
  }
}

function silent(): SseError {
  return new SseError('SSE_BACKPLANE_UNAVAILABLE', 'Hub: the backplane does not deliver what is published')
}
