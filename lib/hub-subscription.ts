import type { Channel } from './channel.ts'
import type { Connection, Feed } from './connection.ts'
import type { Pump } from './pump.ts'
import type { Slice } from './slice.ts'
import { type Delivery, type Start, Subscriber } from './subscriber.ts'
import type { Subscription } from './subscription.ts'

/** What a hub lends to its subscriptions. */
export interface HubParts {
  readonly pump: Pump
  readonly delivery: Delivery
  /** The time that the first deliveries of all new subscriptions of a turn may take. */
  readonly firstSlice: Slice
  /** The subscription is over. */
  readonly onRelease: (subscription: HubSubscription) => void
  /** Its stream is over too, or not the hub's any more. */
  readonly onFinish: (subscription: HubSubscription) => void
}

/** The subscription of one connection: it joins a subscriber, the connection it writes to, and the pump. */
export class HubSubscription implements Subscription, Feed {
  readonly #connection: Connection
  readonly #subscriber: Subscriber
  readonly #parts: HubParts
  /** After so long the client's id is moved, though something else was written: else it would leave the log. */
  readonly #maxIdAgeMs: number
  #sent = -1
  #sentAt = 0

  constructor(channels: readonly Channel[], connection: Connection, parts: HubParts, start: Start) {
    this.#connection = connection
    this.#parts = parts
    this.#maxIdAgeMs = Math.min(...channels.map(({ log }) => log.bounds.maxAgeMs)) / 4
    this.#subscriber = new Subscriber(channels, connection.output, parts.delivery, start)
  }

  get channels(): readonly string[] {
    return this.#subscriber.names
  }

  get closed(): boolean {
    return !this.#subscriber.isActive
  }

  /** The channels with what their followers are kept by. */
  get members(): Subscriber['members'] {
    return this.#subscriber.members
  }

  /** Makes the subscription live, and delivers at once what the output takes. */
  begin(): void {
    for (const member of this.members) member.channel.members.add(member)
    this.#connection.feedFrom(this)
    const { firstSlice, pump } = this.#parts
    firstSlice.beginOncePerTurn()
    if (firstSlice.isOver || !this.#subscriber.deliver(firstSlice, Infinity)) pump.ready(this.#subscriber)
  }

  close(): void {
    if (this.closed) return
    this.flush()
    this.#connection.unfeed(this)
    this.released()
    this.finished()
  }

  /** Ends the stream, after what is due and `last`. */
  end(last: string): void {
    this.#connection.end(last)
  }

  destroy(): void {
    this.#connection.destroy()
  }

  drained(): void {
    this.#parts.pump.ready(this.#subscriber)
  }

  keepAlive(): boolean {
    return this.#subscriber.keepAlive()
  }

  watch(tick: number): void {
    const { sent } = this.#subscriber
    if (sent !== this.#sent) {
      this.#sent = sent
      this.#sentAt = tick
    } else if (tick - this.#sentAt >= this.#connection.context.watchdog.ticksIn(this.#maxIdAgeMs)) {
      this.keepAlive()
    }
  }

  flush(): void {
    this.#subscriber.flush()
  }

  finish(done: () => void): boolean {
    return this.#subscriber.finish(done)
  }

  released(): void {
    if (this.closed) return
    this.#subscriber.isActive = false
    for (const member of this.members) member.channel.members.remove(member)
    this.#parts.onRelease(this)
  }

  finished(): void {
    this.#parts.onFinish(this)
  }
}
