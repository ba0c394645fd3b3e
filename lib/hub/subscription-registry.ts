import { drain } from '../basics/drain.ts'
import { SseError, describeValue } from '../basics/errors.ts'
import { checkChannelName, checkOwner } from '../basics/names.ts'
import { type Deferred, deferred, ignoreRejection } from '../basics/promises.ts'
import type { Channel } from '../delivery/channel.ts'
import type { DisconnectTarget, SubscriberInfo } from './hub-options.ts'
import type { SubscriberLimits } from './hub-settings.ts'
import { limitEnd, type RefusalReason } from './refusal.ts'
import type { StreamEndReason } from './stream-end.ts'

/** A subscribed stream in the registry. */
export interface RegisteredStream extends SubscriberInfo {
  readonly isClosed: boolean
  /** Monotonic time in ms at which it began. */
  readonly openedAt: number
  /** Ends the stream after what is due, so that the client reconnects. Does nothing if the subscription has ended. */
  endForReconnect(reason: StreamEndReason, last?: string): void
  /** Ends the stream after everything that was published before, so that the client does not reconnect. */
  endForGood(): void
  destroy(): void
}

/** An iterator of `events()` in the registry. */
export interface RegisteredIterator {
  isIn(channel: Channel): boolean
  /** Ends the iteration with an error, after the items that are held. */
  fail(error: unknown): void
  /** Ends the iteration after everything that has been published by now. */
  finish(): void
}

/** A pending subscription in the registry. */
export interface Disconnectable extends SubscriberInfo {
  /** Whether it was disconnected before it began, and whether its client may reconnect. */
  disconnected: 'no' | 'reconnect' | 'for good'
}

/** The streams that `disconnect` ends in every process. */
export type SharedTarget = { readonly owner: string } | { readonly channel: string }

/** The streams that `disconnect` ends: a predicate selects streams of this process alone. */
export type CheckedTarget = SharedTarget | ((subscriber: SubscriberInfo) => boolean)

/** All subscriptions of a hub in this process: of streams, pending ones, and of `events()`. */
export class SubscriptionRegistry {
  readonly limits: SubscriberLimits
  /** Whether the hub refuses every new stream because it is closing. */
  isClosing = false
  readonly iterators = new Set<RegisteredIterator>()
  /** The subscriptions whose response is not over, including those that have ended. */
  readonly #present = new Set<RegisteredStream>()
  /** The number of subscriptions that have not ended. */
  #size = 0
  /** The active subscriptions of each owner, the oldest first. */
  readonly #byOwner = new Map<string, Set<RegisteredStream>>()
  readonly #pending = new Set<Disconnectable>()
  /** Resolves when no response is left; created when the hub closes. */
  #empty: Deferred<void> | null = null

  constructor(limits: SubscriberLimits) {
    this.limits = limits
  }

  /** The number of subscribed streams. */
  get size(): number {
    return this.#size
  }

  /** The reason to refuse one more stream of an owner; `undefined` if there is room. */
  refusalFor(owner: string | undefined): RefusalReason | undefined {
    if (this.isClosing) return 'closing'
    const isOwnerFull = owner !== undefined && this.isFullFor(owner)
    // The new stream replaces another one, so the number of streams stays the same.
    if (isOwnerFull && this.limits.closesOldest) return undefined
    if (this.#size >= this.limits.maxSubscribers) return 'maxSubscribers'
    return isOwnerFull ? 'maxSubscribersPerOwner' : undefined
  }

  /** Whether an owner has as many streams in this process as it may have. */
  isFullFor(owner: string): boolean {
    return (this.#byOwner.get(owner)?.size ?? 0) >= this.limits.maxPerOwner
  }

  /** The time in ms for which the oldest stream of an owner has been open; `null` if the owner has none in this process. */
  ageOfOldest(owner: string): number | null {
    const oldest = this.#oldestOf(owner)
    return oldest === undefined ? null : performance.now() - oldest.openedAt
  }

  /** Closes the oldest stream of an owner to make room for another one. Returns `false` if the owner has none in this process. */
  closeOldest(owner: string): boolean {
    const oldest = this.#oldestOf(owner)
    oldest?.endForReconnect('limit', limitEnd())
    return oldest !== undefined
  }

  add(subscription: RegisteredStream): void {
    const { owner } = subscription
    this.#size++
    this.#present.add(subscription)
    if (owner === undefined) return
    const same = this.#byOwner.get(owner)
    if (same === undefined) this.#byOwner.set(owner, new Set([subscription]))
    else same.add(subscription)
  }

  /** Must be called when a subscription has ended. */
  released(subscription: RegisteredStream): void {
    const { owner } = subscription
    this.#size--
    if (owner === undefined) return
    const same = this.#byOwner.get(owner)
    same?.delete(subscription)
    if (same?.size === 0) this.#byOwner.delete(owner)
  }

  /** Must be called when the response of a subscription is over. */
  finished(subscription: RegisteredStream): void {
    this.#present.delete(subscription)
    if (this.#present.size === 0) this.#empty?.resolve()
  }

  addPending(pending: Disconnectable): void {
    this.#pending.add(pending)
  }

  removePending(pending: Disconnectable): void {
    this.#pending.delete(pending)
  }

  /** The subscriptions whose response is not over. */
  present(): RegisteredStream[] {
    return [...this.#present]
  }

  /** Resolves when every response is over. May be called once. */
  async empty(): Promise<void> {
    if (this.#present.size > 0) await (this.#empty = deferred()).promise
  }

  /**
   * Ends the streams of this process that the target selects, after the events that were published before the call. Pending subscriptions
   * that it selects are refused later.
   *
   * @returns how many streams were ended.
   * @throws whatever a predicate throws, as a rejection. Nothing is ended then.
   */
  async disconnect(target: CheckedTarget, reconnect: boolean): Promise<number> {
    const [candidates, matches] = this.#matchesOf(target)
    const streams = this.#select(candidates, matches, reconnect)
    await drain(streams, 0, (stream) => (reconnect ? stream.endForReconnect('disconnected') : stream.endForGood()))
    return streams.length
  }

  /**
   * Ends every stream that a missed `disconnect` of another process could select: every stream with an owner, and every stream with a
   * single channel.
   */
  async disconnectNameable(): Promise<void> {
    const streams = this.#select(this.#active(), ({ owner, channels }) => owner !== undefined || channels.length === 1, true)
    await drain(streams, 0, (stream) => stream.endForReconnect('disconnected'))
  }

  /** Ends every stream and iterator of a channel that the backplane refuses, so that none of them misses an event silently. */
  async refuseChannel(channel: Channel, error: Error): Promise<void> {
    for (const iterator of this.iterators) if (iterator.isIn(channel)) iterator.fail(error)
    const streams = this.#select(this.#active(), ({ channels }) => channels.includes(channel.name), true)
    await drain(streams, 0, (stream) => stream.endForReconnect('unavailable'))
  }

  #oldestOf(owner: string): RegisteredStream | undefined {
    const [oldest] = this.#byOwner.get(owner) ?? []
    return oldest
  }

  #active(): RegisteredStream[] {
    return [...this.#present].filter(({ isClosed }) => !isClosed)
  }

  /** The subscriptions that a target may select, and the test that selects them. */
  #matchesOf(target: CheckedTarget): readonly [RegisteredStream[], (subscriber: SubscriberInfo) => boolean] {
    if (typeof target === 'function') return [this.#active(), ({ owner, channels }) => asBoolean(target({ owner, channels }))]
    if ('owner' in target) return [[...(this.#byOwner.get(target.owner) ?? [])], ({ owner }) => owner === target.owner]
    return [this.#active(), ({ channels }) => channels.length === 1 && channels[0] === target.channel]
  }

  /** Selects subscriptions, and marks the pending ones that match. */
  #select(
    candidates: readonly RegisteredStream[],
    matches: (subscriber: SubscriberInfo) => boolean,
    reconnect: boolean,
  ): readonly RegisteredStream[] {
    // Both filters run before anything changes, because a predicate of the program may throw.
    const pending = [...this.#pending].filter(matches)
    const matching = candidates.filter(matches)
    for (const each of pending) each.disconnected = reconnect ? 'reconnect' : 'for good'
    return matching
  }
}

/** Checks the first argument of `disconnect`. */
export function checkTarget(target: DisconnectTarget): CheckedTarget {
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

function asBoolean(answer: unknown): boolean {
  if (typeof answer === 'boolean') return answer
  ignoreRejection(answer)
  throw new TypeError(`disconnect: the predicate must return a boolean, it returned ${describeValue(answer)}`)
}
