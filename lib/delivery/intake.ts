import type { BackplaneEvent } from '../backplanes/backplane.ts'
import { formatBody } from '../event/event.ts'
import type { Timeline } from '../event/timeline.ts'
import type { Channel } from './channel.ts'
import type { ChannelRegistry } from './channel-registry.ts'
import type { Pump } from './pump.ts'

/** Takes the events of a backplane into the logs: each is encoded once, here, and those who follow its channel are given it. */
export class Intake {
  readonly #channels: ChannelRegistry
  readonly #timeline: Timeline
  readonly #pump: Pump

  constructor(channels: ChannelRegistry, timeline: Timeline, pump: Pump) {
    this.#channels = channels
    this.#timeline = timeline
    this.#pump = pump
  }

  /** Appends an event that follows all that its channel has. `age`: how long ago it was published, in ms. */
  take(channel: Channel, { position, event, text, isString, key }: BackplaneEvent, age = 0): void {
    const { epoch } = this.#timeline
    this.#timeline.moveTo(position)
    this.#channels.append(channel, `id: ${epoch}-${position}${channel.idSuffix}\n${formatBody(text, event)}`, position, isString, key, age)
    if (channel.size > 0) this.#pump.published(channel)
  }
}
