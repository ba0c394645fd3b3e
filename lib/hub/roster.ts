import { SseError, show } from '../basics/errors.ts'
import { isThenable } from '../basics/guard.ts'
import { checkOwner } from '../basics/names.ts'
import { checkInteger } from '../basics/options.ts'
import type { RefusalReason } from '../stream/refusal.ts'
import type { HubOptions, SubscriberInfo } from './hub-options.ts'
import type { HubSubscription } from './hub-subscription.ts'

/** Who is subscribed, by key too, and how many may be. Nobody who is in it is ever put out for a newcomer. */
export class Roster {
  readonly #maxSubscribers: number
  readonly #maxPerKey: number
  /** Those that are subscribed now, and those whose stream is not gone yet, ended or not. */
  readonly #active = new Set<HubSubscription>()
  readonly #present = new Set<HubSubscription>()
  readonly #byKey = new Map<string, Set<HubSubscription>>()
  #onEmpty: (() => void) | null = null

  constructor({ maxSubscribers, maxSubscribersPerKey }: HubOptions) {
    this.#maxSubscribers = checkLimit('maxSubscribers', maxSubscribers)
    this.#maxPerKey = checkLimit('maxSubscribersPerKey', maxSubscribersPerKey)
  }

  /** How many are subscribed. */
  get size(): number {
    return this.#active.size
  }

  /** How many may be subscribed with the same key. */
  get maxPerKey(): number {
    return this.#maxPerKey
  }

  /** The limit at which one more is refused; `undefined` where there is room. */
  limitFor(key: string | undefined): RefusalReason | undefined {
    if (this.#active.size >= this.#maxSubscribers) return 'maxSubscribers'
    if (key !== undefined && (this.#byKey.get(key)?.size ?? 0) >= this.#maxPerKey) return 'maxSubscribersPerKey'
    return undefined
  }

  add(subscription: HubSubscription): void {
    const { key } = subscription
    this.#active.add(subscription)
    this.#present.add(subscription)
    if (key === undefined) return
    const same = this.#byKey.get(key)
    if (same === undefined) this.#byKey.set(key, new Set([subscription]))
    else same.add(subscription)
  }

  /** The subscription is over. */
  released(subscription: HubSubscription): void {
    const { key } = subscription
    this.#active.delete(subscription)
    if (key === undefined) return
    const same = this.#byKey.get(key)
    same?.delete(subscription)
    if (same?.size === 0) this.#byKey.delete(key)
  }

  /** Its stream is gone too. */
  finished(subscription: HubSubscription): void {
    this.#present.delete(subscription)
    if (this.#present.size === 0) this.#onEmpty?.()
  }

  /** Those that are subscribed now with a key, or for which a predicate is true. */
  matching(which: string | ((subscriber: SubscriberInfo) => boolean)): HubSubscription[] {
    if (typeof which === 'function') return [...this.#active].filter(({ key, channels }) => asBoolean(which({ key, channels })))
    if (typeof which !== 'string') throw new SseError('SSE_INVALID_KEY', `disconnect takes a key or a predicate, got ${show(which)}`)
    return [...(this.#byKey.get(checkOwner('disconnect: the key', which) ?? '') ?? [])]
  }

  /** Those that are subscribed now with any key. */
  withKey(): HubSubscription[] {
    return [...this.#active].filter(({ key }) => key !== undefined)
  }

  /** Those whose stream is not gone yet. */
  present(): HubSubscription[] {
    return [...this.#present]
  }

  /** Settles when every stream is gone. Ask once. */
  async empty(): Promise<void> {
    if (this.#present.size > 0) await new Promise<void>((resolve) => (this.#onEmpty = resolve))
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
