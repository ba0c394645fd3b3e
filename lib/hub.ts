import { setImmediate as nextTurn } from 'node:timers/promises'
import { ChannelRegistry } from './channel-registry.ts'
import type { AnyChannels, ChannelName, EventName, HubEvent, Payload } from './channel-types.ts'
import type { Connection } from './connection.ts'
import { ControlEvents } from './control-events.ts'
import { SseError, show } from './errors.ts'
import { type Deserialize, formatBody, type Serialize, toText } from './event.ts'
import { formatId, parseId } from './event-id.ts'
import { EventReader } from './event-reader.ts'
import { guarded, type OnError, warn } from './guard.ts'
import { type HubParts, HubSubscription } from './hub-subscription.ts'
import { checkFunction, checkInteger, checkOptions } from './options.ts'
import { Pump } from './pump.ts'
import { replayBounds, type ReplayOptions } from './replay-log.ts'
import { type Join, join, type Subscribable } from './stream.ts'
import { Slice } from './slice.ts'
import type { Start } from './subscriber.ts'
import { closedSubscription, type SubscribeOptions } from './subscription.ts'
import { Timeline } from './timeline.ts'
import { TurnBudget } from './turn-budget.ts'

const MAX_NAME_UNITS = 256
/** A client that is told to come back does so within this range, so that not all come at once. */
const RETURN_MS = { min: 1_000, max: 5_000 }
/** How long clients have to take the end of their stream when the hub closes. */
const CLOSE_TIMEOUT_MS = 5_000

/** Options of {@link Hub}. */
export interface HubOptions {
  /** The bounds of every channel's replay log, or a function that gives those of a channel by its name. */
  readonly replay?: ReplayOptions | ((channel: string) => ReplayOptions) | undefined
  /**
   * The most bytes of encoded events that all logs keep together; the log that was not published to for longest loses
   * first. Default 268,435,456 (256 MiB).
   */
  readonly maxTotalBytes?: number | undefined
  /** Turns payloads that are not strings into text. Default `JSON.stringify`. */
  readonly serialize?: Serialize | undefined
  /** The reverse of `serialize`, by which filters see the payload. Default `JSON.parse`. */
  readonly deserialize?: Deserialize | undefined
  /** Is told of faults in callbacks, which never reach a client. Default: `process.emitWarning`. */
  readonly onError?: OnError | undefined
}

/** A channel of a hub, bound to its name. It creates nothing until it publishes. */
export interface ChannelHandle<C extends object, N extends ChannelName<C>> {
  readonly name: N
  /** How many clients are subscribed to the channel now. */
  readonly subscriberCount: number
  /** The id of the channel's newest event, `''` before the first. */
  readonly lastEventId: string
  /** The same as {@link Hub.publish} on this channel. */
  publish<E extends EventName<C, N>>(event: E, data: Payload<C, N, E>): Promise<string>
}

/**
 * A typed publish/subscribe hub with named channels and replay, in one process.
 *
 * Every channel keeps one bounded log of encoded events, and every subscriber is a cursor over the logs of its channels:
 * it is given each event once and in order, after a reconnect too, or is told by a `stream-reset` event what it lost.
 *
 * @example
 * type Channels = { orders: { created: Order; shipped: { id: string } } }
 * const hub = new Hub<Channels>()
 * app.get('/events', (req, res) => res.sse.subscribe(hub, ['orders']))
 * await hub.publish('orders', 'created', order)
 */
export class Hub<C extends object = AnyChannels> implements Subscribable<C> {
  /** @internal Never set: by it the type of the channels is inferred. */
  declare readonly channelTypes?: C
  readonly #timeline = new Timeline()
  readonly #channels: ChannelRegistry
  readonly #pump: Pump
  readonly #parts: HubParts
  readonly #budget = new TurnBudget()
  readonly #serialize: Serialize
  /** Those whose stream is not gone yet, ended or not. */
  readonly #subscriptions = new Set<HubSubscription>()
  #onEmpty: (() => void) | null = null
  #isClosed = false
  #closing: Promise<void> | null = null

  /** @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range. */
  constructor(options: HubOptions = {}) {
    checkOptions('Hub', options, ['replay', 'maxTotalBytes', 'serialize', 'deserialize', 'onError'])
    const { replay } = options
    const bounds = typeof replay === 'function' ? undefined : replayBounds('replay', replay)
    const boundsOf = (name: string) => bounds ?? replayBounds(`replay(${show(name)})`, (replay as (name: string) => ReplayOptions)(name))
    this.#serialize = checkFunction('serialize', options.serialize, JSON.stringify)
    const { epoch } = this.#timeline
    const onError = guarded(checkFunction('onError', options.onError, warn))
    this.#channels = new ChannelRegistry(boundsOf, checkInteger('maxTotalBytes', options.maxTotalBytes, 268_435_456, { min: 0 }))
    this.#pump = new Pump((channel, seq) => this.#channels.settle(channel, seq))
    this.#parts = {
      pump: this.#pump,
      delivery: {
        timeline: this.#timeline,
        control: new ControlEvents(epoch),
        reader: new EventReader(epoch, checkFunction('deserialize', options.deserialize, JSON.parse), onError),
        onError,
      },
      firstSlice: new Slice(),
      onRelease: ({ members }) => members.forEach(({ channel }) => this.#channels.left(channel)),
      onFinish: (subscription) => {
        this.#subscriptions.delete(subscription)
        if (this.#subscriptions.size === 0) this.#onEmpty?.()
      },
    }
  }

  /**
   * Publishes an event to everybody who is subscribed to the channel, and keeps it for those who reconnect.
   *
   * The payload is encoded once: a string as it is, anything else as JSON (or by `serialize`). An awaiting publisher that
   * is faster than the delivery is slowed down to it.
   *
   * @returns the event's id.
   * @throws {SseError} (as a rejection, before anything is stored) `SSE_INVALID_CHANNEL` for a channel name that is not a
   *   well-formed string of 1 to 256 UTF-16 units; `SSE_INVALID_EVENT` for an event name that is empty, has a line break
   *   or begins with `stream-`; `SSE_INVALID_DATA` for a payload without a text form; `SSE_HUB_CLOSED` after `close()`.
   */
  async publish<N extends ChannelName<C>, E extends EventName<C, N>>(
    channel: N,
    event: E,
    data: Payload<C, N, E>,
  ): Promise<string> {
    checkChannelName(channel)
    checkEventName(event)
    const text = toText(data, this.#serialize, `publish ${show(event)} to ${show(channel)}: `)
    if (this.#isClosed) throw new SseError('SSE_HUB_CLOSED', `the hub is closed: nothing can be published to ${show(channel)} any more`)
    const target = this.#channels.get(channel)
    const position = this.#timeline.next()
    const idLine = `id: ${this.#timeline.epoch}-${position}${target.idSuffix}`
    this.#channels.append(target, idLine + formatBody(text, event), position, typeof data === 'string')
    if (target.members.size > 0) {
      this.#pump.published(target)
      if (this.#budget.isSpent()) await this.#budget.nextTurn()
      const { log } = target
      while (log.waitingBytes > log.waitingCeiling / 2 && !this.#isClosed) await this.#pump.nextRound()
    }
    return idLine.slice('id: '.length, -1)
  }

  /**
   * A handle on one channel. It creates nothing.
   *
   * @throws {SseError} `SSE_INVALID_CHANNEL` for a name that is not valid.
   */
  channel<N extends ChannelName<C>>(name: N): ChannelHandle<C, N> {
    checkChannelName(name)
    const channels = this.#channels
    const { epoch } = this.#timeline
    return {
      name,
      publish: (event, data) => this.publish(name, event, data),
      get subscriberCount() {
        return channels.find(name)?.members.size ?? 0
      },
      get lastEventId() {
        const last = channels.find(name)?.log.last ?? 0
        return last === 0 ? '' : formatId(epoch, last, name)
      },
    }
  }

  /**
   * Closes the hub: every client is given what is due and a `retry:` of 1 to 5 s, and its stream is ended. Whoever
   * subscribes from now on is told to come back; `publish` rejects. A client that does not take the end of its stream
   * within 5 s is destroyed.
   *
   * @returns when all streams of subscribers are gone, so that `server.close()` can complete. Called again, the same promise.
   */
  close(): Promise<void> {
    // Before anything else: what is ended calls callbacks, and those may publish, subscribe or close again.
    this.#isClosed = true
    this.#closing ??= Promise.resolve().then(() => this.#close())
    return this.#closing
  }

  /** @internal See {@link Subscribable}. */
  [join]<N extends ChannelName<C>>(channels: readonly N[], options: SubscribeOptions<C, N> | undefined): { channels: string[]; start: Join } {
    checkOptions('subscribe', options, ['filter', 'rewind'])
    const names = checkChannels(channels)
    const filter = checkFunction('filter', options?.filter as ((event: HubEvent) => boolean) | undefined, undefined)
    const rewind = checkInteger('rewind', options?.rewind, 0, { min: 0 })
    for (const name of names) this.#channels.check(name)
    return { channels: names, start: (connection, lastEventId) => this.#subscribe(connection, names, lastEventId, filter, rewind) }
  }

  #subscribe(connection: Connection, names: readonly string[], lastEventId: string, filter: Start['filter'], rewind: number) {
    if (this.#isClosed) {
      connection.end(comeBack())
      return closedSubscription(names)
    }
    const channels = names.map((name) => this.#channels.get(name))
    for (const channel of channels) this.#channels.refresh(channel)
    const start = { ...this.#placeOf(lastEventId, rewind), filter, keepAliveMs: connection.context.keepAliveMs }
    const subscription = new HubSubscription(channels, connection, this.#parts, start)
    this.#subscriptions.add(subscription)
    subscription.begin()
    return subscription
  }

  /** Where a client that comes with this id begins. */
  #placeOf(lastEventId: string, rewind: number): Pick<Start, 'position' | 'reason' | 'rewind'> {
    const { epoch, newest } = this.#timeline
    if (lastEventId === '') return { position: newest, reason: 'expired', rewind }
    const place = parseId(lastEventId)
    if (place === undefined) return { position: -1, reason: 'unknown-id', rewind: 0 }
    if (place.epoch !== epoch) return { position: -1, reason: 'restarted', rewind: 0 }
    if (place.position > newest) return { position: -1, reason: 'unknown-id', rewind: 0 }
    return { position: place.position, reason: 'expired', rewind: 0 }
  }

  async #close(): Promise<void> {
    const isEmpty = new Promise<void>((resolve) => (this.#onEmpty = resolve))
    const timer = setTimeout(() => {
      for (const subscription of this.#subscriptions) subscription.destroy()
    }, CLOSE_TIMEOUT_MS)
    const slice = new Slice()
    slice.begin()
    for (const subscription of this.#subscriptions) {
      subscription.end(comeBack())
      if (!slice.spend()) continue
      await nextTurn()
      slice.begin()
    }
    if (this.#subscriptions.size > 0) await isEmpty
    clearTimeout(timer)
    this.#channels.clear()
  }
}

function comeBack(): string {
  return `retry: ${RETURN_MS.min + Math.floor(Math.random() * (RETURN_MS.max - RETURN_MS.min + 1))}\n\n`
}

function checkChannels(channels: readonly string[]): string[] {
  if (!Array.isArray(channels)) throw new TypeError(`channels must be an array of channel names, got ${show(channels)}`)
  if (channels.length === 0) throw new RangeError('channels must name at least one channel, got []')
  for (const name of channels) checkChannelName(name)
  return [...new Set<string>(channels)]
}

function checkChannelName(name: unknown): void {
  if (typeof name === 'string' && name.length > 0 && name.length <= MAX_NAME_UNITS && name.isWellFormed()) return
  throw new SseError('SSE_INVALID_CHANNEL', `a channel name must be a well-formed string of 1 to ${MAX_NAME_UNITS} UTF-16 units, got ${show(name)}`)
}

function checkEventName(event: unknown): void {
  if (typeof event === 'string' && event !== '' && !/[\r\n]/.test(event) && !event.startsWith('stream-')) return
  throw new SseError('SSE_INVALID_EVENT', `an event name must be a string that is not empty, has no CR or LF and does not begin with "stream-", got ${show(event)}`)
}
