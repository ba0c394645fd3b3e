import type { Acquired } from '../backplanes/backplane.ts'
import { type ResumePoint, resumePoint } from '../delivery/cursor.ts'
import type { SubscribeSettings } from '../delivery/subscribe-options.ts'
import type { LogHead } from '../event/timeline.ts'
import type { ClientConnection } from './client-connection.ts'
import type { HubContext } from './hub-context.ts'
import { HubSubscription } from './hub-subscription.ts'
import { type Refusal, refusal, type RefusalOptions, type RefusalReason } from './refusal.ts'
import type { PendingSubscription, Subscription } from './subscribable.ts'
import type { Disconnectable } from './subscription-registry.ts'

/** The number of attempts to make room for one new stream by closing the oldest stream of its owner. */
const MAX_TRIES = 3

/** A subscription that was requested and has not begun. Its channels are being prepared, and it is admitted or refused. */
export class PendingHubSubscription implements PendingSubscription, Disconnectable {
  readonly channels: readonly string[]
  disconnected: Disconnectable['disconnected'] = 'no'
  readonly #settings: SubscribeSettings
  readonly #lastEventId: string
  readonly #from: ResumePoint
  readonly #context: HubContext
  /** The refusal that was found while the subscription was prepared. */
  #refused: Refusal | undefined
  #isPrepared = false
  /** Whether the stream is counted against its owner's limit in all processes. */
  #isCounted = false
  /** The head of the log at which a client without an id begins. */
  #now: LogHead | undefined

  constructor(channels: readonly string[], settings: SubscribeSettings, lastEventId: string, context: HubContext) {
    this.channels = channels
    this.#settings = settings
    this.#lastEventId = lastEventId
    this.#from = resumePoint(lastEventId)
    this.#context = context
  }

  get owner(): string | undefined {
    return this.#settings.owner
  }

  wait(): void {
    this.#context.registry.addPending(this)
  }

  prepare(canOpen: boolean): Promise<void> | undefined {
    this.#refused = this.refusal()
    if (this.#refused !== undefined) return undefined
    const { logs } = this.#context
    this.#isPrepared = true
    const ready = logs.prepare(this.channels, this.#from)
    const counted = this.#count(ready, canOpen)
    if (ready === undefined && counted === undefined) return undefined
    this.wait()
    return this.#prepare(ready, counted)
  }

  refusal(): Refusal | undefined {
    if (this.#refused !== undefined) return this.#refused
    const { registry } = this.#context
    const isDisconnected = this.disconnected !== 'no' && !registry.isClosing
    const reason = isDisconnected ? 'disconnected' : registry.refusalFor(this.owner)
    return reason === undefined ? undefined : this.#refuse(reason, { isFinal: this.disconnected === 'for good' })
  }

  begin(connection: ClientConnection): Subscription {
    const context = this.#context
    const { registry, telemetry } = context
    registry.removePending(this)
    const { owner } = this
    if (owner !== undefined && registry.isFullFor(owner)) registry.closeOldest(owner)
    const isCounted = this.#isCounted
    this.#isCounted = false
    const subscription = new HubSubscription(this.channels, connection, context, this.#settings, this.#from, this.#now, isCounted)
    registry.add(subscription)
    telemetry.subscribed(this, this.#lastEventId)
    subscription.begin()
    return subscription
  }

  cancel(): void {
    const { logs, registry } = this.#context
    registry.removePending(this)
    if (this.#isPrepared) logs.release(this.channels)
    this.#isPrepared = false
    if (this.#isCounted && this.owner !== undefined) logs.releaseOwner(this.owner)
    this.#isCounted = false
  }

  async #prepare(ready: Promise<LogHead | undefined> | undefined, counted: Promise<Acquired> | undefined): Promise<void> {
    const [now, count] = await Promise.allSettled([ready, counted])
    if (now.status === 'fulfilled') this.#now = now.value
    // A backplane that did not answer counts the stream later, so the stream must be released as well.
    this.#isCounted = counted !== undefined && (count.status === 'rejected' || count.value === 'counted')
    if (now.status === 'rejected') {
      // The outage was reported once. It is not reported again for every client.
      this.#refused = this.#refuse('backplane')
    } else if (count.status === 'fulfilled' && !this.#isCounted && count.value !== undefined) {
      this.#refused = this.#refuse('maxSubscribersPerOwner', { isSoon: count.value === 'maybe-full' })
    }
  }

  /** Counts the stream against its owner's limit in all processes. Returns `undefined` if no limit spans processes. */
  #count(ready: Promise<unknown> | undefined, canOpen: boolean): Promise<Acquired> | undefined {
    const { logs, registry } = this.#context
    const { owner } = this
    if (owner === undefined || registry.limits.maxPerOwner === Infinity || !logs.countsOwners) return undefined
    return this.#acquire(owner, ready, canOpen && registry.limits.closesOldest)
  }

  async #acquire(owner: string, ready: Promise<unknown> | undefined, mayCloseOldest: boolean): Promise<Acquired> {
    const { logs, registry, requests } = this.#context
    const { maxPerOwner } = registry.limits
    // Awaited first, so that no stream is closed to make room for one that cannot begin.
    if (mayCloseOldest) await ready
    let acquired = await logs.acquireOwner(owner, maxPerOwner)
    const maxTries = mayCloseOldest ? MAX_TRIES : 0
    // Another new stream of the owner may take the room first.
    for (let tries = 0; acquired !== 'counted' && tries < maxTries && (await requests.closeOldest(owner)); tries++) {
      acquired = await logs.acquireOwner(owner, maxPerOwner)
    }
    return acquired
  }

  #refuse(reason: RefusalReason, options?: RefusalOptions): Refusal {
    this.#context.telemetry.refused(this, reason)
    return refusal(reason, options)
  }
}
