import type { Refused } from '../backplanes/backplane.ts'
import type { OnError } from '../basics/on-error.ts'
import type { Channel } from '../delivery/channel.ts'
import type { ReplicaChannel } from './replica-channel.ts'

/** The most refused channels whose report is remembered. */
const MAX_REPORTED = 1_000

/** The streams and iterators that have to end when the backplane refuses their channel. */
export interface ChannelConsumers {
  /** Ends every consumer of a channel, at the position that it has reached. */
  refuseChannel(channel: Channel, error: Error): Promise<void>
}

/** Drops only the channels that the backplane refuses, and reports each of them once. */
export class ChannelRefusals {
  readonly #onError: OnError
  readonly #consumers: ChannelConsumers
  readonly #reported = new Set<string>()

  constructor(onError: OnError, consumers: ChannelConsumers) {
    this.#onError = onError
    this.#consumers = consumers
  }

  /** Marks the copies of refused channels, and ends their consumers. Resolves when these have ended; `null` if there are none. */
  apply(copies: readonly ReplicaChannel[], refused: Refused): Promise<unknown> | null {
    const ends: Promise<void>[] = []
    for (const copy of copies) {
      const { channel, isLive } = copy
      const error = refused.get(channel.name)
      if (error === undefined) continue
      copy.refuse(error)
      this.#report(channel.name, error)
      if (isLive || channel.consumerCount > 0) ends.push(this.#consumers.refuseChannel(channel, error))
    }
    return ends.length === 0 ? null : Promise.all(ends)
  }

  /** Notes that the channel is not refused, so that a later refusal is reported again. */
  admitted({ name }: Channel): void {
    this.#reported.delete(name)
  }

  /** Reports a refusal once, however often the channel is requested. */
  #report(name: string, error: Error): void {
    if (this.#reported.has(name)) return
    if (this.#reported.size >= MAX_REPORTED) this.#reported.clear()
    this.#reported.add(name)
    this.#onError(error, { where: 'backplane' })
  }
}
