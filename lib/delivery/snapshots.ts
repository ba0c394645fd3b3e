import { SseError, describeValue } from '../basics/errors.ts'
import type { OnError } from '../basics/on-error.ts'
import { isThenable } from '../basics/promises.ts'
import { checkEventName } from '../basics/names.ts'
import { formatBody, type Serialize, toText } from '../event/event.ts'
import type { Timeline } from '../event/timeline.ts'
import { SharedBytes } from '../gzip/shared-bytes.ts'
import type { QueuedConsumer } from './pump.ts'
import type { Snapshot, TakeSnapshot } from './subscribe-options.ts'

/** A call that has taken longer is not shared with later subscribers, because it may never end. */
const MAX_SHARED_MS = 10_000
/** Number of consecutive calls for the same channels within `UNSHARED_MS`, each of a different function, that causes a warning. */
const UNSHARED_CALLS = 10
const UNSHARED_MS = 1_000

/** One call of a snapshot function, and the consumers that wait for it. */
export class SnapshotCall {
  /** The hub's newest position before the function was called. The state contains every event up to here. */
  readonly position: number
  readonly startedAt = performance.now()
  readonly waiting = new Set<QueuedConsumer>()
  /** The encoded event without its id; `undefined` while the call is pending, `null` if it failed. */
  body: SharedBytes | null | undefined

  constructor(position: number) {
    this.position = position
  }
}

/**
 * Calls the snapshot functions of a hub. Subscribers share a call if they have the same owner, channels and function, and ask while
 * it is in progress or in the turn in which it ends. So a storm of reconnects costs one call at a time.
 */
export class Snapshots {
  readonly #timeline: Timeline
  readonly #serialize: Serialize
  readonly #onError: OnError
  readonly #wake: (consumer: QueuedConsumer) => void
  /** The calls of each function, by owner and channels, the oldest first. */
  #calls = new WeakMap<TakeSnapshot, Map<string, SnapshotCall>>()
  /** Consecutive calls of different functions for the same owner and channels: how many, and since when. */
  #unshared = { request: '', count: 0, since: 0 }
  #hasWarned = false

  /** @param wake called for each waiting consumer at the end of a call. */
  constructor(timeline: Timeline, serialize: Serialize, onError: OnError, wake: (consumer: QueuedConsumer) => void) {
    this.#timeline = timeline
    this.#serialize = serialize
    this.#onError = onError
    this.#wake = wake
  }

  /** Begins or shares a call for these channels and this owner. Its position is not before `floor`. */
  ask(take: TakeSnapshot, channels: readonly string[], owner: string | undefined, floor: number, consumer: QueuedConsumer): SnapshotCall {
    const request = JSON.stringify([owner, ...channels.toSorted()])
    const known = this.#calls.get(take)
    const calls = known ?? new Map<string, SnapshotCall>()
    if (known === undefined) this.#calls.set(take, calls)
    for (const [name, { startedAt }] of calls) {
      if (performance.now() - startedAt <= MAX_SHARED_MS) break
      calls.delete(name)
    }
    let call = calls.get(request)
    if (call === undefined || call.position < floor) {
      const begun = (call = new SnapshotCall(this.#timeline.newest))
      calls.delete(request)
      calls.set(request, begun)
      const mayWarn = known === undefined && this.#isUnshared(request, begun.startedAt)
      void this.#call(begun, take, channels, owner, mayWarn).then(() => setImmediate(forget, calls, request, begun))
    }
    if (call.body === undefined) call.waiting.add(consumer)
    return call
  }

  /** Begins a new epoch: later subscribers share no call of the previous one. */
  restart(): void {
    this.#calls = new WeakMap()
  }

  async #call(
    call: SnapshotCall,
    take: TakeSnapshot,
    channels: readonly string[],
    owner: string | undefined,
    mayWarn: boolean,
  ): Promise<void> {
    // Deferred until the delivery is over, because the function may publish, or close the stream that receives the delivery.
    await Promise.resolve()
    if (mayWarn) this.#warn(channels)
    try {
      const answer = take(channels, { owner })
      call.body = this.#encode(isThenable(answer) ? await answer : answer)
    } catch (error) {
      call.body = null
      this.#onError(error, { where: 'snapshot' })
    }
    for (const consumer of call.waiting) this.#wake(consumer)
    call.waiting.clear()
  }

  #encode(snapshot: unknown): SharedBytes {
    if (typeof snapshot !== 'object' || snapshot === null || !('data' in snapshot)) {
      throw new SseError('SSE_INVALID_SNAPSHOT', `snapshot must return { event?, data }, it returned ${describeValue(snapshot)}`)
    }
    const unknown = Object.keys(snapshot).find((name) => name !== 'event' && name !== 'data')
    if (unknown !== undefined) {
      throw new SseError('SSE_INVALID_SNAPSHOT', `snapshot must return { event?, data }, it returned a field ${describeValue(unknown)}`)
    }
    const { event = 'snapshot', data } = snapshot as Snapshot
    checkEventName('snapshot', event)
    return SharedBytes.of(
      Buffer.from(
        formatBody(
          toText(data, this.#serialize, () => 'snapshot: '),
          event,
        ),
      ),
    )
  }

  /** Counts a call of another function for the same channels. Returns `true` at the last of {@link UNSHARED_CALLS} calls. */
  #isUnshared(request: string, now: number): boolean {
    const last = this.#unshared
    if (last.request !== request || now - last.since > UNSHARED_MS) this.#unshared = { request, count: 0, since: now }
    return ++this.#unshared.count === UNSHARED_CALLS
  }

  #warn(channels: readonly string[]): void {
    if (this.#hasWarned) return
    this.#hasWarned = true
    const message =
      `snapshot: ${UNSHARED_CALLS} snapshots of ${describeValue(channels)} were taken within a second, each by a function of its own; ` +
      'create the function once, outside of the request handler, so that clients who connect together share one call'
    this.#onError(new SseError('SSE_SNAPSHOT_NOT_SHARED', message), { where: 'snapshot' })
  }
}

function forget(calls: Map<string, SnapshotCall>, request: string, call: SnapshotCall): void {
  if (calls.get(request) === call) calls.delete(request)
}
