import { SseError } from '../basics/errors.ts'
import { makeEpoch } from '../event/timeline.ts'
import { IdempotencyKeys } from '../log/idempotency-keys.ts'
import type { Backplane, BackplaneHost, Publication, Published } from './backplane.ts'

/** The state that backplanes with the same events share. */
class SharedState {
  readonly epoch = makeEpoch()
  readonly hosts = new Map<string, BackplaneHost>()
  readonly keys = new IdempotencyKeys()
  newest = 0
}

/** The backplane of hubs in one process. It has no log: the hubs keep the only logs, and every hub keeps every channel. */
export class MemoryBackplane implements Backplane {
  readonly log = null
  readonly processId = makeEpoch()
  readonly #shared: SharedState
  #isClosed = false

  /** @param other another backplane, whose events this one shares. */
  constructor(other?: MemoryBackplane) {
    this.#shared = other === undefined ? new SharedState() : other.#shared
  }

  open(host: BackplaneHost): { readonly epoch: string; readonly newest: number } {
    const { hosts, epoch, newest } = this.#shared
    hosts.set(this.processId, host)
    return { epoch, newest }
  }

  publish(publication: Publication): Published {
    if (this.#isClosed) throw closed()
    const shared = this.#shared
    const { epoch, keys, hosts } = shared
    const { channel, event, text, isString, key, idempotencyKey, bounds } = publication
    const known = idempotencyKey === undefined ? undefined : keys.find(channel, idempotencyKey)
    if (known !== undefined) return { epoch, position: known, isNew: false }
    // The clock in microseconds, or the next integer if the clock has not advanced: in a burst, or after it was set back.
    const position = Math.max(Date.now() * 1_000, shared.newest + 1)
    if (position >= Number.MAX_SAFE_INTEGER) {
      throw new SseError(
        'SSE_BACKPLANE_UNAVAILABLE',
        `MemoryBackplane: no position is left below 2^53: the clock of this process is or was at ${position} us: correct it and restart`,
      )
    }
    shared.newest = position
    const stored = { position, prev: 0, event, text, isString, key }
    for (const host of hosts.values()) host.event(epoch, channel, stored)
    if (idempotencyKey !== undefined) keys.remember(channel, idempotencyKey, position, bounds.maxAgeMs)
    return { epoch, position, isNew: true }
  }

  async broadcast(text: string): Promise<readonly string[]> {
    if (this.#isClosed) throw closed()
    const ids = [...this.#shared.hosts.keys()]
    for (const id of ids) this.send(id, text)
    return ids
  }

  send(processId: string, text: string): void {
    if (!this.#isClosed) queueMicrotask(() => this.#shared.hosts.get(processId)?.controlMessage(text))
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#shared.hosts.delete(this.processId)
    if (this.#shared.hosts.size === 0) this.#shared.keys.clear()
  }
}

function closed(): SseError {
  return new SseError('SSE_BACKPLANE_UNAVAILABLE', 'MemoryBackplane: the backplane is closed')
}
