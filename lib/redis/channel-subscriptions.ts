import type { Redis } from 'ioredis'
import type { Refused } from '../backplanes/backplane.ts'
import { names } from './key-schema.ts'
import { isReply, type RedisLink } from './redis-link.ts'

/** The most pub/sub channels in one command. */
const MAX_NAMES = 1_000

/** The channels that this process watches, as subscriptions of one connection. */
export class ChannelSubscriptions {
  readonly #link: RedisLink
  readonly #base: string
  /** Beginning of the pub/sub channels that carry the events of channels. */
  readonly #eventsPrefix: string
  /** The pub/sub channels without which the backplane cannot work: a refusal of one fails the connection. */
  readonly #required: readonly string[]
  readonly #watched = new Set<string>()

  constructor(link: RedisLink, base: string, processId: string) {
    this.#link = link
    this.#base = base
    this.#eventsPrefix = names.channelMessages(base, '')
    this.#required = [names.controlMessages(base), names.processMessages(base, processId)]
  }

  /** The channel whose events a pub/sub channel carries, if any. */
  channelOf(pubSubChannel: string): string | undefined {
    return pubSubChannel.startsWith(this.#eventsPrefix) ? pubSubChannel.slice(this.#eventsPrefix.length) : undefined
  }

  /** See `BackplaneLog.watch`. */
  async watch(channels: readonly string[]): Promise<Refused> {
    for (const channel of channels) this.#watched.add(channel)
    const { isReady } = this.#link
    const redis = await this.#link.use()
    // Redis may have refused some of them on the new connection. They are requested again now.
    if (!isReady) for (const channel of channels) this.#watched.add(channel)
    try {
      return await this.#subscribe(redis, channels)
    } catch (error) {
      this.#link.reconnect()
      throw this.#link.unavailable(`it did not subscribe (${(error as Error).message})`, error)
    }
  }

  /** See `BackplaneLog.unwatch`. */
  unwatch(channels: readonly string[]): void {
    for (const channel of channels) this.#watched.delete(channel)
    if (this.#link.isReady) void this.#unsubscribe(channels)
  }

  /**
   * Subscribes a new connection to all channels that are watched, and to the pub/sub channels that the backplane needs.
   *
   * @returns the channels that Redis refused. They are not watched from now on.
   */
  restore(redis: Redis): Promise<Refused> {
    return this.#subscribe(redis, [...this.#watched], this.#required)
  }

  async #subscribe(redis: Redis, channels: readonly string[], required: readonly string[] = []): Promise<Refused> {
    const refused = new Map<string, Error>()
    // Redis refuses a whole command for one name in it. Then each name gets its own command, so that only that name is refused.
    const subscribe = async (batch: readonly string[]): Promise<void> => {
      try {
        await redis.subscribe(...batch)
      } catch (error) {
        if (!isReply(error)) throw error
        if (batch.length > 1) {
          await Promise.all(batch.map((each) => subscribe([each])))
          return
        }
        const channel = this.channelOf(batch[0] ?? '')
        if (channel === undefined) throw error
        refused.set(channel, this.#link.refusal(channel, error.message))
      }
    }
    const batches = batchesOf([...required, ...this.#pubSubChannels(channels)])
    await Promise.all(batches.map(subscribe))
    for (const channel of refused.keys()) this.#watched.delete(channel)
    return refused
  }

  async #unsubscribe(channels: readonly string[]): Promise<void> {
    try {
      const redis = await this.#link.use()
      // Some channels may be watched again by now.
      const left = channels.filter((channel) => !this.#watched.has(channel))
      for (const batch of batchesOf(this.#pubSubChannels(left))) await redis.unsubscribe(...batch)
    } catch {
      // The connection broke. The next one subscribes only to what is watched.
    }
  }

  #pubSubChannels(channels: readonly string[]): string[] {
    return channels.map((channel) => names.channelMessages(this.#base, channel))
  }
}

function batchesOf(pubSubChannels: readonly string[]): string[][] {
  const batches: string[][] = []
  for (let i = 0; i < pubSubChannels.length; i += MAX_NAMES) batches.push(pubSubChannels.slice(i, i + MAX_NAMES))
  return batches
}
