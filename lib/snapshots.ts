import { SseError, show } from './errors.ts'
import { formatBody, type Serialize, toText } from './event.ts'
import { formatId } from './event-id.ts'
import { isThenable, type OnError } from './guard.ts'
import { checkEventName } from './names.ts'
import type { QueuedFollower } from './pump.ts'
import type { Snapshot, TakeSnapshot } from './subscription.ts'
import type { Timeline } from './timeline.ts'

/** A call that takes longer is not shared with those who come then: it may never end. */
const MAX_SHARED_MS = 10_000
/** So many calls at once for the same channels, each of a function of its own, are worth a warning. */
const UNSHARED_CALLS = 10

/** One call of a snapshot function, and those who wait for it. */
export class SnapshotCall {
  /** The hub's newest position before the function was called: the state has everything up to here. */
  readonly position: number
  readonly startedAt = performance.now()
  readonly waiting = new Set<QueuedFollower>()
  /** `undefined` while pending, `null` when it failed: else the event without its id. */
  body: string | null | undefined
  #at = -1
  #block: Buffer = Buffer.alloc(0)
  readonly #epoch: string

  constructor(epoch: string, position: number) {
    this.#epoch = epoch
    this.position = position
  }

  /** The encoded event with the id of a position. All who are given the same are given the same bytes. */
  block(position: number): Buffer {
    if (position !== this.#at) {
      this.#block = Buffer.from(`id: ${formatId(this.#epoch, position)}\n${this.body}`)
      this.#at = position
    }
    return this.#block
  }
}

/**
 * Calls the snapshot functions of a hub. Those who ask for the same channels by the same function while a call is under
 * way, or in the turn in which it ends, share it: a storm of reconnects costs one call at a time.
 */
export class Snapshots {
  readonly #timeline: Timeline
  readonly #serialize: Serialize
  readonly #onError: OnError
  readonly #wake: (follower: QueuedFollower) => void
  readonly #calls = new Map<string, Map<TakeSnapshot, SnapshotCall>>()
  #hasWarned = false

  /** @param wake is told of each who waited, when the call is over. */
  constructor(timeline: Timeline, serialize: Serialize, onError: OnError, wake: (follower: QueuedFollower) => void) {
    this.#timeline = timeline
    this.#serialize = serialize
    this.#onError = onError
    this.#wake = wake
  }

  /** A call for these channels, begun now or shared, whose position is not before `floor`. */
  ask(take: TakeSnapshot, channels: readonly string[], floor: number, follower: QueuedFollower): SnapshotCall {
    const key = JSON.stringify(channels.toSorted())
    let calls = this.#calls.get(key)
    if (calls === undefined) this.#calls.set(key, (calls = new Map()))
    let call = calls.get(take)
    if (call === undefined || call.position < floor || performance.now() - call.startedAt > MAX_SHARED_MS) {
      call = new SnapshotCall(this.#timeline.epoch, this.#timeline.newest)
      calls.set(take, call)
      if (calls.size === UNSHARED_CALLS) this.#warn(channels)
      void this.#run(call, take, channels).then(() => setImmediate(() => this.#forget(key, take, call as SnapshotCall)))
    }
    if (call.body === undefined) call.waiting.add(follower)
    return call
  }

  async #run(call: SnapshotCall, take: TakeSnapshot, channels: readonly string[]): Promise<void> {
    // Never from within the delivery: the function may publish, or close what is being delivered to.
    await Promise.resolve()
    try {
      const answer = take(channels)
      call.body = this.#encode(isThenable(answer) ? await answer : answer)
    } catch (error) {
      call.body = null
      this.#onError(error, { where: 'snapshot' })
    }
    for (const follower of call.waiting) this.#wake(follower)
    call.waiting.clear()
  }

  #encode(snapshot: unknown): string {
    if (typeof snapshot !== 'object' || snapshot === null || !('data' in snapshot)) {
      throw new SseError('SSE_INVALID_SNAPSHOT', `snapshot must return { event?, data }, it returned ${show(snapshot)}`)
    }
    const unknown = Object.keys(snapshot).find((name) => name !== 'event' && name !== 'data')
    if (unknown !== undefined) {
      throw new SseError('SSE_INVALID_SNAPSHOT', `snapshot must return { event?, data }, it returned a field ${show(unknown)}`)
    }
    const { event = 'snapshot', data } = snapshot as Snapshot
    checkEventName(event)
    return formatBody(toText(data, this.#serialize, 'snapshot: '), event)
  }

  #forget(key: string, take: TakeSnapshot, call: SnapshotCall): void {
    const calls = this.#calls.get(key)
    if (calls?.get(take) !== call) return
    calls.delete(take)
    if (calls.size === 0) this.#calls.delete(key)
  }

  #warn(channels: readonly string[]): void {
    if (this.#hasWarned) return
    this.#hasWarned = true
    const message = `${UNSHARED_CALLS} snapshots of ${show(channels)} are being taken at once, each by a function of its own; make the function once, outside of the request handler, so that clients who connect together share one call`
    this.#onError(new SseError('SSE_SNAPSHOT_NOT_SHARED', message), { where: 'snapshot' })
  }
}
