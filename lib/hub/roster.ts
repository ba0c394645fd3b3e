import { SseError, show } from '../basics/errors.ts'
import { isThenable } from '../basics/guard.ts'
import { checkOwner } from '../basics/names.ts'
import { checkInteger } from '../basics/options.ts'
import type { RefusalReason } from '../stream/refusal.ts'
import type { HubOptions, SubscriberInfo } from './hub-options.ts'
import type { HubSubscription } from './hub-subscription.ts'

/** Somebody who was let in, and has to wait for what the subscription needs. */
export interface Waiting extends SubscriberInfo {
  /** Whether it was disconnected meanwhile. */
  isDisconnected: boolean
}

/** Who is subscribed, by owner too, and how many may be. Nobody who is in it is ever put out for a newcomer. */
export class Roster {
  readonly #maxSubscribers: number
  readonly #maxPerOwner: number
  /** Those whose stream is not gone yet, ended or not, and how many of them are subscribed now. */
  readonly #present = new Set<HubSubscription>()
  #size = 0
  readonly #byOwner = new Map<string, Set<HubSubscription>>()
  readonly #waiting = new Set<Waiting>()
  #onEmpty: (() => void) | null = null

  constructor({ maxSubscribers, maxSubscribersPerOwner }: HubOptions) {
    this.#maxSubscribers = checkLimit('maxSubscribers', maxSubscribers)
    this.#maxPerOwner = checkLimit('maxSubscribersPerOwner', maxSubscribersPerOwner)
  }

  /** How many are subscribed. */
  get size(): number {
    return this.#size
  }

  /** How many may be subscribed with the same owner. */
  get maxPerOwner(): number {
    return this.#maxPerOwner
  }

  /** The limit at which one more is refused; `undefined` where there is room. */
  limitFor(owner: string | undefined): RefusalReason | undefined {
    if (this.#size >= this.#maxSubscribers) return 'maxSubscribers'
    if (owner !== undefined && (this.#byOwner.get(owner)?.size ?? 0) >= this.#maxPerOwner) return 'maxSubscribersPerOwner'
    return undefined
  }

  add(subscription: HubSubscription): void {
    const { owner } = subscription
    this.#size++
    this.#present.add(subscription)
    if (owner === undefined) return
    const same = this.#byOwner.get(owner)
    if (same === undefined) this.#byOwner.set(owner, new Set([subscription]))
    else same.add(subscription)
  }

  /** The subscription is over. */
  released(subscription: HubSubscription): void {
    const { owner } = subscription
    this.#size--
    if (owner === undefined) return
    const same = this.#byOwner.get(owner)
    same?.delete(subscription)
    if (same?.size === 0) this.#byOwner.delete(owner)
  }

  /** Its stream is gone too. */
  finished(subscription: HubSubscription): void {
    this.#present.delete(subscription)
    if (this.#present.size === 0) this.#onEmpty?.()
  }

  /** It is about to be subscribed. */
  await(waiting: Waiting): void {
    this.#waiting.add(waiting)
  }

  /** It is subscribed, or will not be. */
  awaitNoMore(waiting: Waiting): void {
    this.#waiting.delete(waiting)
  }

  /** Those that are subscribed now with an owner, or for which a predicate is true. Those that wait for it are not let in any more. */
  disconnect(which: string | ((subscriber: SubscriberInfo) => boolean)): HubSubscription[] {
    if (typeof which === 'function') return this.#disconnect(this.#active(), ({ owner, channels }) => asBoolean(which({ owner, channels })))
    if (typeof which !== 'string') throw new SseError('SSE_INVALID_OWNER', `disconnect takes an owner or a predicate, got ${show(which)}`)
    const wanted = checkOwner('disconnect: the owner', which) ?? ''
    return this.#disconnect([...(this.#byOwner.get(wanted) ?? [])], ({ owner }) => owner === wanted)
  }

  /** The same for those with any owner. */
  disconnectOwned(): HubSubscription[] {
    return this.#disconnect(this.#active(), ({ owner }) => owner !== undefined)
  }

  /** Those whose stream is not gone yet. */
  present(): HubSubscription[] {
    return [...this.#present]
  }

  /** Settles when every stream is gone. Ask once. */
  async empty(): Promise<void> {
    if (this.#present.size > 0) await new Promise<void>((resolve) => (this.#onEmpty = resolve))
  }

  #active(): HubSubscription[] {
    return [...this.#present].filter(({ closed }) => !closed)
  }

  #disconnect(some: readonly HubSubscription[], matches: (subscriber: SubscriberInfo) => boolean): HubSubscription[] {
    // Should the predicate throw, nothing has changed.
    const waiting = [...this.#waiting].filter(matches)
    const matching = some.filter(matches)
    for (const each of waiting) each.isDisconnected = true
    return matching
  }
}

function checkLimit(name: string, value: number | false | undefined): number {
  return value === false ? Infinity : checkInteger(name, value, Infinity, { min: 1, orFalse: true })
}

function asBoolean(answer: unknown): boolean {
  if (typeof answer === 'boolean') return answer
  if (isThenable(answer)) answer.then(undefined, () => {})
  throw new TypeError(`disconnect: the predicate must return a boolean, it returned ${show(answer)}`)
}
