import type { Acquired, BackplaneLog } from '../backplanes/backplane.ts'
import type { Moment } from '../event/timeline.ts'
import type { Preparation } from '../replica/preparation.ts'
import type { Connection } from '../stream/connection.ts'
import { type Refusal, type RefusalReason } from '../stream/refusal.ts'
import type { Plan } from '../stream/subscribable.ts'
import type { SubscribeSettings, Subscription } from '../stream/subscription.ts'
import type { Roster, Waiting } from './roster.ts'

/** What a hub lends to the subscriptions that are about to begin. */
export interface AdmissionParts {
  readonly roster: Roster
  readonly log: BackplaneLog | null
  readonly preparation: Preparation | null
  /** Why nobody is let in now; `undefined` where it is open. */
  readonly closed: () => RefusalReason | undefined
  /** `isPassing`: the client is to come back soon, though it is refused at a limit. */
  readonly refuse: (reason: RefusalReason, channels: readonly string[], owner: string | undefined, isPassing?: boolean) => Refusal
  /** Begins a subscription: at the moment `now`, where the client has no id. `onRelease` is called when it is over. */
  readonly begin: (connection: Connection, admission: Admission, lastEventId: string, now: Moment | undefined, onRelease: () => void) => Subscription
}

function nothing(): void {}

/** One subscription that was asked for: what lets it in, and what has to be there before. */
export class Admission implements Plan, Waiting {
  readonly channels: readonly string[]
  isDisconnected = false
  readonly settings: SubscribeSettings
  readonly #parts: AdmissionParts
  #isPrepared = false
  /** Whether all processes count it among those of its owner. */
  #isCounted = false
  #now: Moment | undefined

  constructor(channels: readonly string[], settings: SubscribeSettings, parts: AdmissionParts) {
    this.channels = channels
    this.settings = settings
    this.#parts = parts
  }

  get owner(): string | undefined {
    return this.settings.owner
  }

  refusal(): Refusal | undefined {
    const { roster, closed, refuse } = this.#parts
    const { owner } = this
    const reason = closed() ?? (this.isDisconnected ? 'disconnected' : roster.limitFor(owner))
    return reason && refuse(reason, this.channels, owner)
  }

  prepare(lastEventId: string): Promise<Refusal | undefined> | undefined {
    const { preparation, roster, log } = this.#parts
    if (preparation === null) return undefined
    this.#isPrepared = true
    const ready = preparation.prepare(this.channels, lastEventId)
    const { owner } = this
    const counted = log === null || owner === undefined || roster.maxPerOwner === Infinity ? undefined : this.#count(log, owner, roster.maxPerOwner)
    if (ready === undefined && counted === undefined) return undefined
    roster.await(this)
    return this.#prepared(ready, counted)
  }

  start(connection: Connection, lastEventId: string): Subscription {
    const { log, begin, roster } = this.#parts
    roster.awaitNoMore(this)
    const { owner } = this
    const isCounted = this.#isCounted && log !== null && owner !== undefined
    this.#isCounted = false
    return begin(connection, this, lastEventId, this.#now, isCounted ? () => log.release(owner) : nothing)
  }

  cancel(): void {
    const { preparation, log, roster } = this.#parts
    roster.awaitNoMore(this)
    if (this.#isPrepared) preparation?.release(this.channels)
    this.#isPrepared = false
    if (this.#isCounted && this.owner !== undefined) log?.release(this.owner)
    this.#isCounted = false
  }

  async #prepared(ready: Promise<Moment | undefined> | undefined, counted: Promise<Acquired> | undefined): Promise<Refusal | undefined> {
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
    return refuse('maxSubscribersPerOwner', this.channels, owner, count.value === 'maybe-full')
  }

  async #count(log: BackplaneLog, owner: string, max: number): Promise<Acquired> {
    return log.acquire(owner, max)
  }
}
