import type { BackplaneEvent } from '../backplanes/backplane.ts'
import type { OnError } from '../basics/on-error.ts'
import { TimeSlice } from '../basics/time-slice.ts'
import { type Deserialize, formatBody, type Serialize } from '../event/event.ts'
import { Timeline } from '../event/timeline.ts'
import type { ReplayBounds } from '../log/replay-options.ts'
import type { Channel } from './channel.ts'
import { ChannelRegistry } from './channel-registry.ts'
import { ControlEvents } from './control-events.ts'
import { EventReader } from './event-reader.ts'
import { Pump } from './pump.ts'
import { Snapshots } from './snapshots.ts'

/** The settings of a {@link DeliveryEngine}. */
export interface DeliverySettings {
  /** The bounds of a channel's log. */
  readonly boundsOf: (channel: string) => ReplayBounds
  readonly maxTotalBytes: number
  readonly serialize: Serialize
  readonly deserialize: Deserialize
  readonly onError: OnError
}

/** The parts that deliver events from the logs of a hub to its subscribers. All subscribers of the hub share them. */
export class DeliveryEngine {
  readonly timeline = new Timeline()
  readonly control = new ControlEvents(this.timeline)
  readonly channels: ChannelRegistry
  readonly pump: Pump
  readonly reader: EventReader
  readonly snapshots: Snapshots
  readonly counters: { delivered: number; resets: number }
  /** The time that the first deliveries of all new subscriptions may take in one turn of the event loop. */
  readonly firstSlice = new TimeSlice()

  constructor({ boundsOf, maxTotalBytes, serialize, deserialize, onError }: DeliverySettings, counters: DeliveryEngine['counters']) {
    this.counters = counters
    const channels = (this.channels = new ChannelRegistry(boundsOf, maxTotalBytes))
    const pump = (this.pump = new Pump((channel, position) => channels.settle(channel, position), counters))
    this.reader = new EventReader(deserialize, onError)
    this.snapshots = new Snapshots(this.timeline, serialize, onError, (consumer) => pump.ready(consumer))
  }

  /**
   * Appends an event to the log of its channel and queues the channel for delivery. The event is encoded here, once for all
   * subscribers. Its position must be later than all in the log. `age` is the time since it was published, in ms.
   */
  append(channel: Channel, { position, event, text, isString, key }: BackplaneEvent, age = 0): void {
    const { epoch } = this.timeline
    this.timeline.moveTo(position)
    const block = `id: ${epoch}-${position}${channel.idSuffix}\n${formatBody(text, event)}`
    this.channels.append(channel, block, position, isString, key, age)
    if (channel.consumerCount > 0) this.pump.published(channel)
  }

  /** Begins a new epoch with empty logs. The new logs may have lost events up to `floor`. */
  restart(epoch: string, newest: number, floor: number): void {
    this.timeline.restart(epoch, newest)
    this.snapshots.restart()
    this.channels.restart(floor)
  }

  /** The channels of these names, created if they do not exist, without events that are too old. */
  channelsFor(names: readonly string[]): Channel[] {
    const channels = names.map((name) => this.channels.get(name))
    for (const channel of channels) this.channels.refresh(channel)
    return channels
  }

  /** Must be called when a subscriber has left these channels. */
  leave(cursors: readonly { readonly channel: Channel }[]): void {
    for (const { channel } of cursors) this.channels.consumerLeft(channel)
  }
}
