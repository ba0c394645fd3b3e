import type { Refused } from '../backplanes/backplane.ts'
import type { OnError } from '../basics/on-error.ts'
import type { Channel } from '../delivery/channel.ts'
import type { ReplicaChannel } from './replica-channel.ts'

/** The most refused channels whose report is remembered. */
const MAX_REPORTED = 1_000

/** Gives up channels that the backplane refuses, each alone, and reports each once. */
export class Refusals {
  readonly #onError: OnError
  readonly #onRefused: (channel: Channel, error: Error) => Promise<void>
  readonly #reported = new Set<string>()

  /** @param onRefused ends every consumer of a channel, at the place that it has reached. */
  constructor(onError: OnError, onRefused: (channel: Channel, error: Error) => Promise<void>) {
    this.#onError = onError
    this.#onRefused = onRefused
  }

  /** Gives up those of the copies whose channel is refused. Resolves when their consumers have ended; `null` where there are none. */
  apply(copies: readonly ReplicaChannel[], refused: Refused): Promise<unknown> | null {
    const ends: Promise<void>[] = []
    for (const copy of copies) {
      const { channel, isLive } = copy
      const error = refused.get(channel.name)
      if (error === undefined) continue
      copy.refuse(error)
      this.#report(channel.name, error)
      if (isLive || channel.size > 0) ends.push(this.#onRefused(channel, error))
    }
    return ends.length === 0 ? null : Promise.all(ends)
  }

  /** The channel is not refused, or no longer: a later refusal is news. */
  admitted({ name }: Channel): void {
    this.#reported.delete(name)
  }

  /** Reports a refusal once, however often the channel is asked for. */
  #report(name: string, error: Error): void {
    if (this.#reported.has(name)) return
    if (this.#reported.size >= MAX_REPORTED) this.#reported.clear()
    this.#reported.add(name)
    this.#onError(error, { where: 'backplane' })
  }
}
