import { parseId } from '../../../lib/event/event-id.ts'

/** An event whose publish has resolved. */
export interface Accepted {
  readonly seq: number
  readonly id: string
}

/** A `stream-reset`. Events of these channels may be lost. */
export interface ReceivedReset {
  readonly kind: 'reset'
  readonly channels: readonly string[]
  readonly reason: string
  readonly epoch: string
  readonly position: number
  /** Time of arrival, in microseconds since 1970, like a position. */
  readonly at: number
}

export interface ReceivedEvent {
  readonly kind: 'event'
  readonly channel: string
  readonly epoch: string
  readonly position: number
  /** Number of the event according to its data, or `undefined` if no such data was published. */
  readonly seq: number | undefined
}

/** An item that a client received: an event, a reset, or a position without either. */
export type Received = ReceivedEvent | ReceivedReset | { readonly kind: 'place'; readonly epoch: string; readonly position: number }

/** Counts of the items that clients received, and of the faults in them. */
export interface Findings {
  /** Events that a client did not receive and that no reset covers. */
  lost: number
  /** Events received again, with the same id or with another id of the same epoch. */
  doubled: number
  /** Events received after a later event of their channel. */
  swapped: number
  /** Events that were never accepted, or that differ from the event published with their id. */
  forged: number
  /** Ids that went back within an epoch. */
  backwards: number
  /** Epochs that returned after another epoch. */
  revived: number
  /** Missing events that a reset covers. */
  covered: number
  /** Events received again in another epoch. The publisher received only the second id. */
  repeated: number
  /** Received events. */
  delivered: number
  /** Received resets, by reason. */
  resets: Record<string, number>
}

type Fault = 'lost' | 'doubled' | 'swapped' | 'forged' | 'backwards' | 'revived'

interface Event {
  /** Index of the event's epoch. */
  readonly epoch: number
  readonly position: number
  readonly seq: number
  /** True if the publish of the event resolved. */
  readonly isAccepted: boolean
}

/** Events of a channel, in order. */
class Truth {
  readonly events: Event[] = []
  readonly #index = new Map<string, Map<number, number>>()

  add(epoch: string, event: Event): void {
    const index = this.#index.get(epoch)
    if (index === undefined) this.#index.set(epoch, new Map([[event.position, this.events.length]]))
    else index.set(event.position, this.events.length)
    this.events.push(event)
  }

  indexOf({ epoch, position }: ReceivedEvent): number | undefined {
    return this.#index.get(epoch)?.get(position)
  }
}

/** Limit of the engine's clock ahead of the client's clock. */
const SLACK_US = 2_000
/** Limit of the examples of each kind of fault. */
const MAX_EXAMPLES = 4

/**
 * Compares the received items of clients with the accepted events. A client must receive every event of its channels once
 * and in order, from its first position on, except for events that a reset covers.
 */
export class DeliveryCheck {
  readonly findings: Findings = {
    lost: 0,
    doubled: 0,
    swapped: 0,
    forged: 0,
    backwards: 0,
    revived: 0,
    covered: 0,
    repeated: 0,
    delivered: 0,
    resets: {},
  }
  /** Examples of the faults, to help find their cause. */
  readonly examples: string[] = []
  readonly #counts = new Map<Fault, number>()
  readonly #truths = new Map<string, Truth>()
  /** Epoch in which each event was accepted, by the number of the event. */
  readonly #homes = new Map<number, string>()
  /** Epochs in order, with the first position in each. */
  readonly #epochs: { readonly epoch: string; readonly first: number }[] = []

  /** @param all items of all clients. They also reveal events that were stored although their publish did not resolve. */
  constructor(accepted: readonly Accepted[], all: readonly (readonly Received[])[]) {
    const known = new Map<string, ReceivedEvent & { readonly isAccepted: boolean }>()
    for (const { seq, id } of accepted) {
      const { epoch, position } = parseId(id) ?? { epoch: '', position: 0 }
      const channel = decodeURIComponent(id.slice(id.indexOf('/') + 1))
      known.set(`${epoch} ${position} ${channel}`, { kind: 'event', channel, seq, epoch, position, isAccepted: true })
      this.#homes.set(seq, epoch)
    }
    for (const received of all) {
      for (const item of received) {
        if (item.kind !== 'event' || item.seq === undefined) continue
        const home = this.#homes.get(item.seq)
        // The engine stored the event and lost it before the publish resolved. The publisher repeated it in another epoch.
        if (home === undefined || home === item.epoch) continue
        const key = `${item.epoch} ${item.position} ${item.channel}`
        if (!known.has(key)) known.set(key, { ...item, isAccepted: false })
      }
    }
    const events = [...known.values()].toSorted((a, b) => a.position - b.position)
    for (const { epoch, position } of events) {
      if (!this.#epochs.some((each) => each.epoch === epoch)) this.#epochs.push({ epoch, first: position })
    }
    for (const { channel, epoch, position, seq, isAccepted } of events.toSorted(
      (a, b) => this.#epochOf(a) - this.#epochOf(b) || a.position - b.position,
    )) {
      const truth = this.#truths.get(channel) ?? new Truth()
      this.#truths.set(channel, truth)
      truth.add(epoch, { epoch: this.#epochOf({ epoch, position }), position, seq: seq ?? -1, isAccepted })
    }
  }

  /** Number of epochs in which events were accepted. */
  get lives(): number {
    return this.#epochs.length
  }

  /** Checks the received items of one client. */
  check(client: string, channels: readonly string[], received: readonly Received[]): void {
    const { findings } = this
    let last: Received | undefined
    const ended = new Set<string>()
    for (const item of received) {
      if (item.kind === 'event' && !channels.includes(item.channel)) {
        this.#found('forged', client, `an event of ${item.channel}, which the client did not request`)
      }
      if (item.kind === 'reset') findings.resets[item.reason] = (findings.resets[item.reason] ?? 0) + 1
      const what = (): string => `${item.kind} ${item.epoch}-${item.position} after ${last?.kind} ${last?.epoch}-${last?.position}`
      if (item.epoch === last?.epoch && item.position < last.position) this.#found('backwards', client, what())
      if (item.epoch !== last?.epoch) {
        if (ended.has(item.epoch)) this.#found('revived', client, what())
        if (last !== undefined) ended.add(last.epoch)
      }
      last = item
    }
    for (const channel of channels) this.#checkChannel(client, channel, channels, received)
  }

  #checkChannel(client: string, channel: string, channels: readonly string[], received: readonly Received[]): void {
    const { findings } = this
    const truth = this.#truths.get(channel) ?? new Truth()
    const { events } = truth
    const seen = new Set<number>()
    /** Numbers of the received events. */
    const seqs = new Set<number>()
    /** Indexes of skipped events. They are lost unless they arrive late. */
    const passed = new Set<number>()
    let next = -1
    let resets: ReceivedReset[] = []

    const passTo = (end: number): void => {
      for (; next < end; next++) {
        const event = events[next]
        if (event === undefined || !event.isAccepted) continue
        if (resets.some((reset) => this.#covers(reset, event, channels))) findings.covered++
        else passed.add(next)
      }
    }

    for (const item of received) {
      if (next === -1) next = this.#firstAfter(events, item)
      if (item.kind === 'reset' && item.channels.includes(channel)) resets.push(item)
      if (item.kind !== 'event' || item.channel !== channel) continue
      const what = `${channel}: ${item.epoch}-${item.position} (number ${item.seq})`
      const index = truth.indexOf(item)
      const event = index === undefined ? undefined : events[index]
      if (index === undefined || event === undefined || event.seq !== item.seq) {
        const isStoredTwice = item.seq !== undefined && this.#homes.get(item.seq) === item.epoch && event === undefined
        this.#found(isStoredTwice ? 'doubled' : 'forged', client, `${what} after ${shown(events[next - 1])}`)
        continue
      }
      findings.delivered++
      if (seen.has(index)) {
        this.#found('doubled', client, `${what} arrived again, after ${shown(events[next - 1])}`)
        continue
      }
      seen.add(index)
      if (seqs.has(event.seq)) findings.repeated++
      seqs.add(event.seq)
      if (index < next) {
        passed.delete(index)
        this.#found('swapped', client, `${what} arrived after ${shown(events[next - 1])}`)
      } else {
        passTo(index)
        next = index + 1
        resets = []
      }
    }
    // A client without a first position must receive everything.
    if (next === -1) next = 0
    passTo(events.length)
    for (const index of passed) {
      this.#found(
        'lost',
        client,
        `${channel}: ${shown(events[index])} never arrived, between ${shown(events[index - 1])} and ${shown(events[index + 1])}`,
      )
    }
  }

  /** Index of the first event that a client must receive after this first item. */
  #firstAfter(events: readonly Event[], item: Received): number {
    const own = this.#epochOf(item)
    const isDue = ({ epoch, position }: Event): boolean =>
      epoch > own || (epoch === own && (item.kind === 'event' ? position >= item.position : position > item.position))
    const index = events.findIndex(isDue)
    return index === -1 ? events.length : index
  }

  /**
   * Returns true if the reset covers the event. A reset of only some of a client's channels does not name its end, but it
   * does not cover events that were published after its arrival.
   */
  #covers(reset: ReceivedReset, event: Event, channels: readonly string[]): boolean {
    const epoch = this.#epochOf(reset)
    if (event.epoch !== epoch) return event.epoch < epoch
    const isOfAll = channels.every((channel) => reset.channels.includes(channel))
    return event.position <= (isOfAll ? reset.position : reset.at + SLACK_US)
  }

  /** Index of an epoch. An epoch without accepted events has an index between two others, according to its positions. */
  #epochOf({ epoch, position }: { readonly epoch: string; readonly position: number }): number {
    const index = this.#epochs.findIndex((each) => each.epoch === epoch)
    return index === -1 ? this.#epochs.findLastIndex(({ first }) => first <= position) + 0.5 : index
  }

  #found(fault: Fault, client: string, what: string): void {
    this.findings[fault]++
    const count = (this.#counts.get(fault) ?? 0) + 1
    this.#counts.set(fault, count)
    if (count <= MAX_EXAMPLES) this.examples.push(`${fault}: ${client}: ${what}`)
  }
}

function shown(event: Event | undefined): string {
  return event === undefined ? 'nothing' : `${event.position} (number ${event.seq})`
}
