import { channelOf } from 'express-sse-hub'
import { parseId } from '../../lib/event/event-id.ts'
import { parse } from './fake-connection.ts'

/** An event as the model knows it. */
export interface PublishedEvent {
  readonly epoch: string
  readonly position: number
  /** The number that the payload begins with, if the test numbers its events. */
  readonly n?: number
  /** The key, in a channel that keeps the latest event of each key. */
  readonly key?: string | undefined
}

/** Everything that was published. The model compares each client with it. */
export interface PublishedLog {
  /** The present epoch. */
  readonly epoch: string
  /** The log head. */
  readonly newest: number
  /** The events of a channel, in order. */
  publishedTo(channel: string): readonly PublishedEvent[]
}

/** A record of the events that a test publishes to one hub. */
export class PublishedRecord implements PublishedLog {
  epoch = ''
  newest = 0
  count = 0
  readonly #channels = new Map<string, PublishedEvent[]>()

  /** @param id the id that the event received from the hub. */
  add(id: string, n: number, key?: string): void {
    const at = parseId(id)
    const channel = channelOf(id)
    if (at === undefined || channel === undefined) throw new Error(`not an id of a hub: ${id}`)
    const events = this.#channels.get(channel) ?? []
    this.#channels.set(channel, events)
    events.push({ ...at, n, key })
    this.epoch = at.epoch
    this.newest = at.position
    this.count++
  }

  publishedTo(channel: string): readonly PublishedEvent[] {
    return this.#channels.get(channel) ?? []
  }
}

/** The data of a `stream-reset`. */
interface Reset {
  readonly channels: readonly string[]
  readonly reason: string
}

export interface ModelOptions {
  /** The filter of the client. */
  readonly isWanted?: ((event: PublishedEvent) => boolean) | undefined
  /** Whether the client receives a snapshot at its start and after each reset. Its data is a position for each channel. */
  readonly hasSnapshots?: boolean
  /**
   * The log head when a reset was made. No event of the reset's channels at or before it may follow on the same connection. It is
   * unknown, and the function returns `undefined`, if the hub receives events later than the test.
   */
  readonly resetHead?: () => number | undefined
}

/** The client's knowledge of one channel. */
interface Known {
  /** The epoch of {@link complete}; `''` for the epoch of the first event that is received. */
  epoch: string
  /** The client has every event up to this position: it was received, or is in the state that the client fetched after a reset. */
  complete: number
  /** Position of the last event that was received. */
  received: number
  /** A reset on this connection gave up every event up to this position. */
  lost: number
}

/**
 * A client that checks everything that it receives, over all its connections, against the record of what was published. It throws
 * if an event is repeated, out of order, missing without a reset, unwanted or unknown, if an id goes backwards, or if the epoch
 * changes without a reset. After a reset it behaves as a page that fetches the present state.
 */
export class ModelClient {
  lastEventId = ''
  received = 0
  resets = 0
  snapshots = 0
  readonly reasons = new Set<string>()
  readonly #log: PublishedLog
  readonly #channels: readonly string[]
  readonly #isWanted: (event: PublishedEvent) => boolean
  readonly #hasSnapshots: boolean
  readonly #resetHead: () => number | undefined
  readonly #known = new Map<string, Known>()
  /** The channels whose snapshot must be the next thing that the client receives. */
  readonly #awaited = new Set<string>()
  #epoch = ''
  #idPosition = -1
  /** The beginning of an event whose end has not been received. */
  #partial = ''

  constructor(log: PublishedLog, channels: readonly string[], options: ModelOptions = {}) {
    this.#log = log
    this.#channels = channels
    this.#isWanted = options.isWanted ?? (() => true)
    this.#hasSnapshots = options.hasSnapshots ?? false
    this.#resetHead = options.resetHead ?? (() => log.newest)
    for (const channel of channels) this.#known.set(channel, { epoch: '', complete: 0, received: -1, lost: -1 })
  }

  /** Begins a connection. A client without an id starts at the log head, or with a snapshot. */
  connected(): void {
    const at = parseId(this.lastEventId)
    this.#idPosition = at?.position ?? -1
    this.#epoch = at?.epoch ?? ''
    this.#partial = ''
    this.#awaited.clear()
    for (const [channel, known] of this.#known) {
      known.lost = -1
      if (this.lastEventId !== '') continue
      if (this.#hasSnapshots) this.#awaited.add(channel)
      else Object.assign(known, { epoch: this.#log.epoch, complete: this.#log.newest, received: -1 })
    }
  }

  /**
   * Reads bytes of the stream.
   *
   * @param maxEvents the number of events that the client receives before the connection is cut.
   */
  read(bytes: Buffer, maxEvents = Infinity): void {
    const text = this.#partial + bytes.toString()
    const end = text.lastIndexOf('\n\n')
    this.#partial = end < 0 ? text : text.slice(end + 2)
    if (end < 0) return
    for (const { id, event = '', data } of parse(text.slice(0, end + 2)).slice(0, maxEvents)) this.#receive(id, event, data)
  }

  /** Receives one event or reset. */
  take(id: string, event: string, data: unknown): void {
    const at = parseId(id)
    if (at === undefined) throw new Error(`the event has no id: ${event} ${JSON.stringify(data)}`)
    if (event === 'stream-reset') this.#reset(data as Reset, at.epoch)
    if (this.#epoch === '') this.#epoch = at.epoch
    for (const known of this.#known.values()) if (known.epoch === '') known.epoch = at.epoch
    if (at.epoch !== this.#epoch) throw new Error(`the epoch changed from ${this.#epoch} to ${at.epoch} without a reset`)
    if (at.position < this.#idPosition) throw new Error(`the id went backwards, from ${this.#idPosition} to ${at.position}`)
    this.#idPosition = at.position
    this.lastEventId = id
    if (!event.startsWith('stream-') && event !== 'snapshot') this.#event(channelOf(id) ?? '', at.position, data)
  }

  /** What the client has not received although it was due, or `undefined`. */
  get missing(): string | undefined {
    const [awaited] = this.#awaited
    if (awaited !== undefined) return `the snapshot of ${awaited} is missing`
    for (const channel of this.#channels) {
      const event = this.#missingBefore(channel, Infinity)
      if (event !== undefined) return `${nameOf(channel, event)} is missing`
    }
    return undefined
  }

  /** Checks, when everything has been delivered, that nothing is missing. */
  check(): void {
    if (this.#epoch !== '' && this.#epoch !== this.#log.epoch && this.#log.newest > 0) {
      throw new Error(`the client is still in the epoch ${this.#epoch}`)
    }
    if (this.missing !== undefined) throw new Error(this.missing)
  }

  #receive(id: string | undefined, event: string, data: string): void {
    if (this.#hasSnapshots && event === 'stream-reset') {
      if (id !== undefined) throw new Error('a reset before a snapshot has an id')
      const { channels, reason } = JSON.parse(data) as Reset
      this.resets++
      this.reasons.add(reason)
      for (const channel of channels) this.#awaited.add(channel)
      return
    }
    if (event === 'snapshot') this.#snapshot(JSON.parse(data) as Record<string, number>)
    if (this.#awaited.size > 0) throw new Error(`${event} came before the snapshot of ${[...this.#awaited].join()}`)
    this.take(id ?? '', event, event === 'stream-reset' ? JSON.parse(data) : data)
  }

  #snapshot(state: Record<string, number>): void {
    this.snapshots++
    for (const [channel, position] of Object.entries(state)) {
      if (!this.#awaited.delete(channel)) throw new Error(`a snapshot of ${channel} was not due`)
      const known = this.#of(channel)
      known.complete = Math.max(known.complete, position)
    }
  }

  #reset({ channels, reason }: Reset, epoch: string): void {
    this.resets++
    this.reasons.add(reason)
    if (channels.length === 0) throw new Error('a reset names no channel')
    const isNewEpoch = epoch !== this.#epoch
    if (isNewEpoch && this.#epoch !== '' && channels.length !== this.#channels.length) {
      throw new Error(`the epoch changed, with a reset of ${channels.join()} alone`)
    }
    this.#epoch = epoch
    // The hub does not know the position of the client's id.
    if (isNewEpoch || reason === 'unknown-id') this.#idPosition = -1
    const head = this.#resetHead()
    for (const channel of channels) {
      const known = this.#of(channel)
      const { epoch: present, newest } = this.#log
      // The client fetches the present state, which may already belong to another epoch than the reset.
      known.complete = known.epoch === present ? Math.max(known.complete, head ?? newest) : newest
      known.epoch = present
      known.lost = head ?? -1
      if (isNewEpoch || reason === 'unknown-id') known.received = -1
    }
  }

  #event(channel: string, position: number, data: unknown): void {
    const known = this.#of(channel)
    const event = this.#log.publishedTo(channel).find((each) => each.position === position && each.epoch === this.#epoch)
    if (event === undefined) throw new Error(`${channel} ${position} was never published in the epoch ${this.#epoch}`)
    const name = nameOf(channel, event)
    if (event.n !== undefined && event.n !== Number.parseInt(String(data), 10)) {
      throw new Error(`${name} has the data ${JSON.stringify(data)}`)
    }
    if (!this.#isWanted(event)) throw new Error(`${name} is not wanted`)
    if (position <= known.received) throw new Error(`${name} is repeated or out of order`)
    if (position <= known.lost) throw new Error(`${name} was given up by a reset`)
    if (known.epoch === this.#epoch) {
      const newer = this.#replacementOf(channel, event, known.complete)
      if (newer !== undefined) throw new Error(`${name} is older than ${nameOf(channel, newer)}, which the client has`)
      const missing = this.#missingBefore(channel, position)
      if (missing !== undefined) throw new Error(`${nameOf(channel, missing)} is missing before ${name}`)
      known.complete = Math.max(known.complete, position)
    } else {
      known.complete = position
      known.epoch = this.#epoch
    }
    known.received = position
    this.received++
  }

  /** An event that is due before a position: not received, not given up, and not replaced by a newer event of its key. */
  #missingBefore(channel: string, position: number): PublishedEvent | undefined {
    const { complete } = this.#of(channel)
    return this.#log
      .publishedTo(channel)
      .find(
        (event) =>
          event.position > complete &&
          event.position < position &&
          event.epoch === this.#epoch &&
          this.#isWanted(event) &&
          this.#replacementOf(channel, event, Infinity) === undefined,
      )
  }

  /** A newer event of the same key, up to a position. */
  #replacementOf(channel: string, { key, position }: PublishedEvent, limit: number): PublishedEvent | undefined {
    if (key === undefined) return undefined
    return this.#log.publishedTo(channel).find((each) => each.key === key && each.position > position && each.position <= limit)
  }

  #of(channel: string): Known {
    const known = this.#known.get(channel)
    if (known === undefined) throw new Error(`the client did not ask for ${channel}`)
    return known
  }
}

function nameOf(channel: string, { n, position }: PublishedEvent): string {
  return `${channel} ${n ?? position}`
}
