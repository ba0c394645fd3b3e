import { SseError, describeValue } from '../basics/errors.ts'
import type { OnError } from '../basics/on-error.ts'
import { isThenable } from '../basics/promises.ts'
import { checkEventName } from '../basics/names.ts'
import { formatBody, type Serialize, toText } from '../event/event.ts'
import type { Timeline } from '../event/timeline.ts'
import { SharedBytes } from '../gzip/shared-bytes.ts'
import type { Snapshot, TakeSnapshot } from '../stream/subscription.ts'
import type { QueuedConsumer } from './pump.ts'

/** A call that takes longer is not shared with those who come then: it may never end. */
const MAX_SHARED_MS = 10_000
/** This many consecutive calls for the same channels, each by a different function, within `UNSHARED_MS` cause a warning. */
const UNSHARED_CALLS = 10
const UNSHARED_MS = 1_000

/** One call of a snapshot function, and those who wait for it. */
export class SnapshotCall {
  /** The hub's newest position before the function was called: the state has everything up to here. */
  readonly position: number
  readonly startedAt = performance.now()
  readonly waiting = new Set<QueuedConsumer>()
  /** `undefined` while pending, `null` when it failed: else the encoded event without its id, for all who waited. */
  body: SharedBytes | null | undefined

  constructor(position: number) {
    this.position = position
  }
}

/**
 * Calls the snapshot functions of a hub. Subscribers of one owner who ask for the same channels by the same function while a call
 * is under way, or in the turn in which it ends, share it: a storm of reconnects costs one call at a time.
 */
export class Snapshots {
  readonly #timeline: Timeline
  readonly #serialize: Serialize
  readonly #onError: OnError
  readonly #wake: (consumer: QueuedConsumer) => void
  /** The calls of a function by the channels, the oldest first. A function that the program drops takes its calls with it. */
  #calls = new WeakMap<TakeSnapshot, Map<string, SnapshotCall>>()
  /** The last calls of different functions for the same channels: how many, and since when. */
  #unshared = { key: '', count: 0, since: 0 }
  #hasWarned = false

  /** @param wake is told of each who waited, when the call is over. */
  constructor(timeline: Timeline, serialize: Serialize, onError: OnError, wake: (consumer: QueuedConsumer) => void) {
    this.#timeline = timeline
    this.#serialize = serialize
    this.#onError = onError
    this.#wake = wake
  }

  /** A call for these channels and this owner, begun now or shared, whose position is not before `floor`. */
  ask(take: TakeSnapshot, channels: readonly string[], owner: string | undefined, floor: number, consumer: QueuedConsumer): SnapshotCall {
    const key = JSON.stringify([owner, ...channels.toSorted()])
    const known = this.#calls.get(take)
    const calls = known ?? new Map<string, SnapshotCall>()
    if (known === undefined) this.#calls.set(take, calls)
    for (const [name, { startedAt }] of calls) {
      if (performance.now() - startedAt <= MAX_SHARED_MS) break
      calls.delete(name)
    }
    let call = calls.get(key)
    if (call === undefined || call.position < floor) {
      const begun = (call = new SnapshotCall(this.#timeline.newest))
      calls.delete(key)
      calls.set(key, begun)
      const mayWarn = known === undefined && this.#isUnshared(key, begun.startedAt)
      void this.#run(begun, take, channels, owner, mayWarn).then(() => setImmediate(forget, calls, key, begun))
    }
    if (call.body === undefined) call.waiting.add(consumer)
    return call
  }

  /** The positions begin anew: no call that is under way is shared any more. */
  restart(): void {
    this.#calls = new WeakMap()
  }

  async #run(
    call: SnapshotCall,
    take: TakeSnapshot,
    channels: readonly string[],
    owner: string | undefined,
    mayWarn: boolean,
  ): Promise<void> {
    // Never from within the delivery: the function may publish, or close what is being delivered to.
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

  /** Whether this is one of many calls for the same channels that could have been one. */
  #isUnshared(key: string, now: number): boolean {
    const last = this.#unshared
    if (last.key !== key || now - last.since > UNSHARED_MS) this.#unshared = { key, count: 0, since: now }
    return ++this.#unshared.count === UNSHARED_CALLS
  }

  #warn(channels: readonly string[]): void {
    if (this.#hasWarned) return
    this.#hasWarned = true
    const message = `snapshot: ${UNSHARED_CALLS} snapshots of ${describeValue(channels)} were taken within a second, each by a function of its own; make the function once, outside of the request handler, so that clients who connect together share one call`
    this.#onError(new SseError('SSE_SNAPSHOT_NOT_SHARED', message), { where: 'snapshot' })
  }
}

function forget(calls: Map<string, SnapshotCall>, key: string, call: SnapshotCall): void {
  if (calls.get(key) === call) calls.delete(key)
}
