import type { Acquired, BackplaneLog } from '../backplanes/backplane.ts'
import type { LogHead } from '../event/timeline.ts'
import type { ChannelWarmup } from '../replica/channel-warmup.ts'
import type { Connection } from '../stream/connection.ts'
import type { Refusal, RefusalOptions, RefusalReason } from '../stream/refusal.ts'
import type { Plan } from '../stream/subscribable.ts'
import type { SubscribeSettings, Subscription } from '../stream/subscription.ts'
import type { SubscriptionRegistry, Waiting } from './subscription-registry.ts'

/** What a hub lends to the subscriptions that are about to begin. */
export interface AdmissionParts {
  readonly registry: SubscriptionRegistry
  readonly log: BackplaneLog | null
  readonly preparation: ChannelWarmup | null
  /** Why nobody is let in now; `undefined` where it is open. */
  readonly closed: () => RefusalReason | undefined
  readonly refuse: (reason: RefusalReason, channels: readonly string[], owner: string | undefined, options?: RefusalOptions) => Refusal
  /** Ends the oldest stream that an owner has here; `false` where there is none. */
  readonly closeOldestHere: (owner: string) => boolean
  /** Ends the oldest stream that an owner has in any process; `false` where none was found. */
  readonly closeOldest: (owner: string) => Promise<boolean>
  /** Begins a subscription: at the moment `now`, where the client has no id. `onRelease` is called when it is over. */
  readonly begin: (
    connection: Connection,
    admission: PendingSubscription,
    lastEventId: string,
    now: LogHead | undefined,
    onRelease: () => void,
  ) => Subscription
}

/** How often the oldest stream of an owner is ended to make room for one. */
const MAX_TRIES = 3

function nothing(): void {}

/** One subscription that was asked for: what lets it in, and what has to be there before. */
export class PendingSubscription implements Plan, Waiting {
  readonly channels: readonly string[]
  disconnected: Waiting['disconnected'] = 'no'
  readonly settings: SubscribeSettings
  readonly #parts: AdmissionParts
  #isPrepared = false
  /** Whether all processes count it among those of its owner. */
  #isCounted = false
  #now: LogHead | undefined

  constructor(channels: readonly string[], settings: SubscribeSettings, parts: AdmissionParts) {
    this.channels = channels
    this.settings = settings
    this.#parts = parts
  }

  get owner(): string | undefined {
    return this.settings.owner
  }

  refusal(): Refusal | undefined {
    const { registry, closed, refuse } = this.#parts
    const { owner } = this
    const reason = closed() ?? (this.disconnected === 'no' ? registry.limitFor(owner) : 'disconnected')
    return reason === undefined ? undefined : refuse(reason, this.channels, owner, { isFinal: this.disconnected === 'for good' })
  }

  wait(): void {
    this.#parts.registry.await(this)
  }

  prepare(lastEventId: string, canOpen = true): Promise<Refusal | undefined> | undefined {
    const { preparation, registry, log } = this.#parts
    if (preparation === null) return undefined
    this.#isPrepared = true
    const ready = preparation.prepare(this.channels, lastEventId)
    const { owner } = this
    const counted =
      log === null || owner === undefined || registry.maxPerOwner === Infinity ? undefined : this.#counted(log, owner, ready, canOpen)
    if (ready === undefined && counted === undefined) return undefined
    registry.await(this)
    return this.#prepared(ready, counted)
  }

  start(connection: Connection, lastEventId: string): Subscription {
    const { log, begin, registry, closeOldestHere } = this.#parts
    registry.awaitNoMore(this)
    const { owner } = this
    if (owner !== undefined && registry.isFullFor(owner)) closeOldestHere(owner)
    const isCounted = this.#isCounted && log !== null && owner !== undefined
    this.#isCounted = false
    return begin(connection, this, lastEventId, this.#now, isCounted ? () => log.release(owner) : nothing)
  }

  cancel(): void {
    const { preparation, log, registry } = this.#parts
    registry.awaitNoMore(this)
    if (this.#isPrepared) preparation?.release(this.channels)
    this.#isPrepared = false
    if (this.#isCounted && this.owner !== undefined) log?.release(this.owner)
    this.#isCounted = false
  }

  async #prepared(ready: Promise<LogHead | undefined> | undefined, counted: Promise<Acquired> | undefined): Promise<Refusal | undefined> {
    const { refuse } = this.#parts
    const { owner } = this
    const [now, count] = await Promise.allSettled([ready, counted])
    if (now.status === 'fulfilled') this.#now = now.value
    // Where nobody could say, it is counted when that is known.
    this.#isCounted = counted !== undefined && (count.status === 'rejected' || count.value === 'counted')
    // The outage was reported: it is not told again for every client.
    if (now.status === 'rejected') return refuse('backplane', this.channels, owner)
    // While it is not known how many all processes have, the limit is that of this one.
    if (count.status === 'rejected' || this.#isCounted || count.value === undefined) return undefined
    return refuse('maxSubscribersPerOwner', this.channels, owner, { isSoon: count.value === 'maybe-full' })
  }

  /** Counts the stream against its owner's limit. */
  async #counted(log: BackplaneLog, owner: string, ready: Promise<unknown> | undefined, canOpen: boolean): Promise<Acquired> {
    const { registry } = this.#parts
    const mayEnd = canOpen && registry.closesOldest
    // Where another stream may be ended for this one, it is made sure before that this one can begin.
    if (mayEnd) await ready
    return this.#count(log, owner, registry.maxPerOwner, mayEnd)
  }

  /** Counts the stream among those of its owner in all processes, unless these are as many as there may be. */
  async #count(log: BackplaneLog, owner: string, max: number, mayEnd: boolean): Promise<Acquired> {
    const { closeOldest } = this.#parts
    let acquired = await log.acquire(owner, max)
    const maxTries = mayEnd ? MAX_TRIES : 0
    // Others may take the room that was made.
    for (let tries = 0; acquired !== 'counted' && tries < maxTries && (await closeOldest(owner)); tries++) {
      acquired = await log.acquire(owner, max)
    }
    return acquired
  }
}
