import { Fifo } from '../basics/fifo.ts'
import { TimeSlice } from '../basics/time-slice.ts'
import type { Channel, Consumer } from './channel.ts'

/** A consumer that can be queued by itself. */
export interface QueuedConsumer extends Consumer {
  isQueued: boolean
}

/**
 * Gives consumers what they have not had, once per turn of the event loop and in short slices of time.
 *
 * A round visits every consumer of a channel that was published to; when it is over, the channel's events up to its
 * start have been offered to all who could take them. Between rounds come the consumers that take bytes again.
 */
export class Pump {
  readonly #onRound: (channel: Channel, position: number) => void
  readonly #counters: { delivered: number }
  readonly #slice = new TimeSlice()
  readonly #channels = new Fifo<Channel>()
  readonly #consumers = new Fifo<QueuedConsumer>()
  /**
   * The round in progress: its channel, the index of the consumer that is next of those at places of their own,
   * once those who keep step have had it, and the position that its log ended at, in which of its lives.
   */
  #channel: Channel | null = null
  #isSwept = false
  #at = -1
  #goal = 0
  #restarts = 0
  #consumersFirst = false
  #isScheduled = false
  #nextRound: Promise<void> | null = null
  #resolve: (() => void) | null = null

  /** @param onRound is told after each round up to which position a channel's events were offered. */
  constructor(onRound: (channel: Channel, position: number) => void, counters: { delivered: number }) {
    this.#onRound = onRound
    this.#counters = counters
  }

  /** A channel has an event that its consumers have not had. */
  published(channel: Channel): void {
    if (channel.isQueued) return
    channel.isQueued = true
    this.#channels.push(channel)
    this.#schedule()
  }

  /** A consumer takes bytes again. */
  ready(consumer: QueuedConsumer): void {
    if (consumer.isQueued) return
    consumer.isQueued = true
    this.#consumers.push(consumer)
    this.#schedule()
  }

  /** Settles when a round is over. Ask only after {@link published}. */
  nextRound(): Promise<void> {
    this.#nextRound ??= new Promise((resolve) => (this.#resolve = resolve))
    return this.#nextRound
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(this.#run)
  }

  readonly #run = (): void => {
    this.#isScheduled = false
    this.#slice.begin()
    // Neither may starve the other, so they take turns at being first.
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
      this.#channel ??= this.#begin()
      const channel = this.#channel
      if (channel === null) return true
      if (!this.#isSwept) {
        if (!channel.sweep(this.#slice, this.#goal, this.#counters)) return false
        this.#isSwept = true
        this.#at = channel.alone.size - 1
      }
      const { end } = channel.log
      // From the last down, at the index where the last slice ended: see SwapList.
      while (this.#at >= 0) {
        const member = channel.alone.items[this.#at]
        // Who follows several channels is given what is new in all of them by the first that it is visited for.
        if (member === undefined || member.consumer.position >= end || member.consumer.deliver(this.#slice, this.#goal)) this.#at--
        if (this.#slice.isOver) return false
      }
      this.#channel = null
      // Of another life of its log nothing was offered yet.
      if (channel.restarts === this.#restarts) this.#onRound(channel, this.#goal)
      this.#resolve?.()
      this.#resolve = this.#nextRound = null
      if (this.#slice.spend()) return false
    }
  }

  /** Begins the round of the channel that has waited for longest. */
  #begin(): Channel | null {
    const channel = this.#channels.shift()
    if (channel === undefined) return null
    channel.isQueued = false
    this.#isSwept = false
    this.#goal = channel.log.lastPosition
    this.#restarts = channel.restarts
    return channel
  }
}
