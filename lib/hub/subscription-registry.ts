import { SseError, describeValue } from '../basics/errors.ts'
import { ignoreRejection } from '../basics/promises.ts'
import { checkChannelName, checkOwner } from '../basics/names.ts'
import { checkInteger, checkOptions } from '../basics/options.ts'
import type { RefusalReason } from '../stream/refusal.ts'
import type { DisconnectTarget, HubOptions, SubscriberInfo } from './hub-options.ts'
import type { HubSubscription } from './hub-subscription.ts'

/** A subscription that was let in, and waits for what it needs. */
export interface Waiting extends SubscriberInfo {
  /** Whether it was disconnected meanwhile, and whether its client may reconnect. */
  disconnected: 'no' | 'reconnect' | 'for good'
}

/** The streams that `disconnect` ends in every process. */
export type SharedTarget = { readonly owner: string } | { readonly channel: string }

/** The subscriptions of a hub, by owner too, and how many of them there may be. */
export class SubscriptionRegistry {
  /** How many may be subscribed of one owner. */
  readonly maxPerOwner: number
  /** Whether one stream too many closes the owner's oldest, in place of being refused. */
  readonly closesOldest: boolean
  readonly #maxSubscribers: number
  /** Those whose stream is not gone yet, ended or not, and how many of them are subscribed now. */
  readonly #present = new Set<HubSubscription>()
  #size = 0
  /** The subscriptions of each owner, the oldest first. */
  readonly #byOwner = new Map<string, Set<HubSubscription>>()
  readonly #waiting = new Set<Waiting>()
  #onEmpty: (() => void) | null = null

  constructor({ maxSubscribers, maxSubscribersPerOwner }: HubOptions) {
    const limit = maxSubscribersPerOwner
    if (typeof limit === 'object') checkOptions('Hub: maxSubscribersPerOwner', limit, ['max', 'whenFull'])
    const { max, whenFull = 'refuse' }: { max?: unknown; whenFull?: unknown } = typeof limit === 'object' ? limit : { max: limit }
    if (whenFull !== 'refuse' && whenFull !== 'close-oldest') {
      throw new TypeError(`Hub: maxSubscribersPerOwner.whenFull must be 'refuse' or 'close-oldest', got ${describeValue(whenFull)}`)
    }
    this.#maxSubscribers = checkLimit('Hub: maxSubscribers', maxSubscribers)
    this.maxPerOwner = checkLimit('Hub: maxSubscribersPerOwner', max)
    this.closesOldest = whenFull === 'close-oldest'
  }

  /** How many are subscribed. */
  get size(): number {
    return this.#size
  }

  /** The limit at which one more is refused; `undefined` where there is room. */
  limitFor(owner: string | undefined): RefusalReason | undefined {
    const isOwnerFull = owner !== undefined && this.isFullFor(owner)
    // It takes the place of another one, whatever the other limit is.
    if (isOwnerFull && this.closesOldest) return undefined
    if (this.#size >= this.#maxSubscribers) return 'maxSubscribers'
    return isOwnerFull ? 'maxSubscribersPerOwner' : undefined
  }

  /** Whether an owner has as many subscriptions here as it may have. */
  isFullFor(owner: string): boolean {
    return (this.#byOwner.get(owner)?.size ?? 0) >= this.maxPerOwner
  }

  /** The oldest subscription of an owner. */
  oldestOf(owner: string): HubSubscription | undefined {
    const [oldest] = this.#byOwner.get(owner) ?? []
    return oldest
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

  /**
   * Finds the subscriptions that are to be disconnected. Those that still wait for what they need are marked, and refused
   * later.
   */
  disconnect(target: SharedTarget | ((subscriber: SubscriberInfo) => boolean), reconnect: boolean): HubSubscription[] {
    if (typeof target === 'function') {
      return this.#disconnect(this.#active(), ({ owner, channels }) => asBoolean(target({ owner, channels })), reconnect)
    }
    if ('owner' in target) {
      return this.#disconnect([...(this.#byOwner.get(target.owner) ?? [])], ({ owner }) => owner === target.owner, reconnect)
    }
    return this.#disconnect(this.#active(), ({ channels }) => channels.length === 1 && channels[0] === target.channel, reconnect)
  }

  /** The same for all that another process can name: those that have an owner, or one channel only. */
  disconnectNameable(): HubSubscription[] {
    return this.#disconnect(this.#active(), ({ owner, channels }) => owner !== undefined || channels.length === 1, true)
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
    return [...this.#present].filter(({ isClosed }) => !isClosed)
  }

  #disconnect(some: readonly HubSubscription[], matches: (subscriber: SubscriberInfo) => boolean, reconnect: boolean): HubSubscription[] {
    // Should the predicate throw, nothing has changed.
    const waiting = [...this.#waiting].filter(matches)
    const matching = some.filter(matches)
    for (const each of waiting) each.disconnected = reconnect ? 'reconnect' : 'for good'
    return matching
  }
}

/** Checks whom `disconnect` is to end: an owner and a channel are the same in every process, a predicate is not. */
export function checkTarget(target: DisconnectTarget): SharedTarget | ((subscriber: SubscriberInfo) => boolean) {
  if (typeof target === 'function') return target
  if (typeof target === 'string') return { owner: checkOwner('disconnect: the owner', target) ?? '' }
  const { channel }: { readonly channel?: unknown } = typeof target === 'object' && target !== null ? target : {}
  if (channel === undefined || Object.keys(target).length !== 1) {
    throw new SseError(
      'SSE_INVALID_OWNER',
      `disconnect: the first argument must be an owner, { channel } or a predicate, got ${describeValue(target)}`,
    )
  }
  checkChannelName('disconnect', channel)
  return { channel: channel as string }
}

function checkLimit(name: string, value: unknown): number {
  return value === false ? Infinity : checkInteger(name, value, Infinity, { min: 1, orFalse: true })
}

function asBoolean(answer: unknown): boolean {
  if (typeof answer === 'boolean') return answer
  ignoreRejection(answer)
  throw new TypeError(`disconnect: the predicate must return a boolean, it returned ${describeValue(answer)}`)
}
