import { Fifo } from '../basics/fifo.ts'
import { type Deferred, deferred } from '../basics/promises.ts'
import { TimeSlice } from '../basics/time-slice.ts'
import type { Channel, Consumer } from './channel.ts'

/** A consumer that the pump can queue by itself. */
export interface QueuedConsumer extends Consumer {
  isQueued: boolean
}

/**
 * Delivers what is due to consumers, once per turn of the event loop and in short time slices.
 *
 * A round visits every consumer of a channel that was published to. By the end of the round, the events that the channel had at its start
 * have been offered to every consumer that could take them. Between rounds, the pump serves consumers that accept bytes again.
 */
export class Pump {
  readonly #onRound: (channel: Channel, position: number) => void
  readonly #counters: { delivered: number }
  readonly #slice = new TimeSlice()
  readonly #channels = new Fifo<Channel>()
  readonly #consumers = new Fifo<QueuedConsumer>()
  /** The channel of the round in progress; `null` between rounds. */
  #channel: Channel | null = null
  /** Whether the round has served the lockstep group, and the index of the next of the other consumers. */
  #isGroupServed = false
  #at = -1
  /** The end of the channel's log when the round began, and the epoch that it belongs to. */
  #goal = 0
  #restarts = 0
  #consumersFirst = false
  #isScheduled = false
  #nextRound: Deferred<void> | null = null

  /** @param onRound called after each round with the position up to which the channel's events have been offered. */
  constructor(onRound: (channel: Channel, position: number) => void, counters: { delivered: number }) {
    this.#onRound = onRound
    this.#counters = counters
  }

  /** Queues a channel that has an event its consumers have not received. */
  published(channel: Channel): void {
    if (channel.isQueued) return
    channel.isQueued = true
    this.#channels.push(channel)
    this.#schedule()
  }

  /** Queues a consumer that accepts bytes again. */
  ready(consumer: QueuedConsumer): void {
    if (consumer.isQueued) return
    consumer.isQueued = true
    this.#consumers.push(consumer)
    this.#schedule()
  }

  /** Resolves at the end of the next round. Call it only after {@link published}. */
  nextRound(): Promise<void> {
    this.#nextRound ??= deferred()
    return this.#nextRound.promise
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(this.#deliver)
  }

  readonly #deliver = (): void => {
    this.#isScheduled = false
    this.#slice.begin()
    // Channels and consumers take turns at being first, so that neither can use up every slice.
    this.#consumersFirst = !this.#consumersFirst
    const isDone = this.#consumersFirst ? this.#serveConsumers() && this.#serveChannels() : this.#serveChannels() && this.#serveConsumers()
    if (!isDone) this.#schedule()
  }

  #serveConsumers(): boolean {
    for (let consumer = this.#consumers.shift(); consumer !== undefined; consumer = this.#consumers.shift()) {
      consumer.isQueued = false
      if (!consumer.deliver(this.#slice, Infinity)) this.ready(consumer)
      if (this.#slice.spend()) return false
    }
    return true
  }

  #serveChannels(): boolean {
    for (;;) {
      this.#channel ??= this.#beginRound()
      const channel = this.#channel
      if (channel === null) return true
      if (!this.#isGroupServed) {
        if (!channel.sweepLockstep(this.#slice, this.#goal, this.#counters)) return false
        this.#isGroupServed = true
        this.#at = channel.alone.size - 1
      }
      const { end } = channel.log
      // From the last index down, starting where the previous slice ended: see SwapList.
      while (this.#at >= 0) {
        const cursor = channel.alone.items[this.#at]
        // A consumer of several channels takes the events of all of them at once, so it may be past the end of this channel already.
        if (cursor === undefined || cursor.consumer.position >= end || cursor.consumer.deliver(this.#slice, this.#goal)) this.#at--
        if (this.#slice.isOver) return false
      }
      this.#endRound(channel)
      if (this.#slice.spend()) return false
    }
  }

  /** Begins the round of the channel that has waited longest. */
  #beginRound(): Channel | null {
    const channel = this.#channels.shift()
    if (channel === undefined) return null
    channel.isQueued = false
    this.#isGroupServed = false
    this.#goal = channel.log.lastPosition
    this.#restarts = channel.restarts
    return channel
  }

  #endRound(channel: Channel): void {
    this.#channel = null
    // If the log has begun a new epoch meanwhile, none of its events has been offered.
    if (channel.restarts === this.#restarts) this.#onRound(channel, this.#goal)
    this.#nextRound?.resolve()
    this.#nextRound = null
  }
}
