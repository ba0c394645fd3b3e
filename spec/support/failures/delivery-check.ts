import { parseId } from '../../../lib/event/event-id.ts'

/** An event, as its publisher was told that it was accepted. */
export interface Accepted {
  readonly seq: number
  readonly id: string
}

/** Events of these channels were lost. */
export interface ReceivedReset {
  readonly kind: 'reset'
  readonly channels: readonly string[]
  readonly reason: string
  readonly epoch: string
  readonly position: number
  /** When it came, in microseconds since 1970, as positions are. */
  readonly at: number
}

export interface ReceivedEvent {
  readonly kind: 'event'
  readonly channel: string
  readonly epoch: string
  readonly position: number
  /** The number of the event, by its data; `undefined` where that is none that was published. */
  readonly seq: number | undefined
}

/** What a client was given: events, resets, and where it stands beside those. */
export type Received = ReceivedEvent | ReceivedReset | { readonly kind: 'place'; readonly epoch: string; readonly position: number }

/** What clients were given, and what was wrong with it. */
export interface Findings {
  /** Events that a client was to have, and did not get: no reset covers them. */
  lost: number
  /** Events that came again: with their id, or with another one of the same life of the log. */
  doubled: number
  /** Events that came after a later one of their channel. */
  swapped: number
  /** Events that nobody was told to be accepted, or that are not what was published by that id. */
  forged: number
  /** Ids that went back within a life of the log. */
  backwards: number
  /** Lives of the log that came back after another one. */
  revived: number
  /** Events that a reset covers. */
  covered: number
  /** Events that came a second time in another life of the log: the publisher was told of the second one only. */
  repeated: number
  /** Events that came. */
  delivered: number
  /** Resets that clients were sent, by their reason. */
  resets: Record<string, number>
}

type Fault = 'lost' | 'doubled' | 'swapped' | 'forged' | 'backwards' | 'revived'

interface Event {
  /** Which of the lives of the log it belongs to. */
  readonly life: number
  readonly position: number
  readonly seq: number
  /** Whether its publisher was told of it. */
  readonly isAccepted: boolean
}

/** What a channel had, in order. */
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

/** How far the clock of the engine may be ahead of the client's. */
const SLACK_US = 2_000
/** Not more than this is told of each kind of fault. */
const MAX_EXAMPLES = 4

/**
 * Compares what clients were given with what was accepted: every event of their channels, in order, once, from the first
 * place that they were told on; but for what a reset covers.
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
  /** Some of what was wrong, for whoever has to find out why. */
  readonly examples: string[] = []
  readonly #counts = new Map<Fault, number>()
  readonly #truths = new Map<string, Truth>()
  /** The life in which each event was accepted, by its number. */
  readonly #homes = new Map<number, string>()
  /** The lives of the log, and the first position in each. */
  readonly #lives: { readonly epoch: string; readonly first: number }[] = []

  /** @param all what all clients were given: what was stored without its publisher being told is known by it. */
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
        // Stored, and forgotten before its publisher was told: so that one published again, in another life.
        if (home === undefined || home === item.epoch) continue
        const key = `${item.epoch} ${item.position} ${item.channel}`
        if (!known.has(key)) known.set(key, { ...item, isAccepted: false })
      }
    }
    const events = [...known.values()].toSorted((a, b) => a.position - b.position)
    for (const { epoch, position } of events) {
      if (!this.#lives.some((life) => life.epoch === epoch)) this.#lives.push({ epoch, first: position })
    }
    for (const { channel, epoch, position, seq, isAccepted } of events.toSorted(
      (a, b) => this.#lifeOf(a) - this.#lifeOf(b) || a.position - b.position,
    )) {
      const truth = this.#truths.get(channel) ?? new Truth()
      this.#truths.set(channel, truth)
      truth.add(epoch, { life: this.#lifeOf({ epoch, position }), position, seq: seq ?? -1, isAccepted })
    }
  }

  /** How many lives the log had in which events were accepted. */
  get lives(): number {
    return this.#lives.length
  }

  /** Checks what one client was given of its channels. */
  check(client: string, channels: readonly string[], received: readonly Received[]): void {
    const { findings } = this
    let last: Received | undefined
    const over = new Set<string>()
    for (const item of received) {
      if (item.kind === 'event' && !channels.includes(item.channel)) {
        this.#found('forged', client, `an event of ${item.channel}, which was not asked for`)
      }
      if (item.kind === 'reset') findings.resets[item.reason] = (findings.resets[item.reason] ?? 0) + 1
      const what = (): string => `${item.kind} ${item.epoch}-${item.position} after ${last?.kind} ${last?.epoch}-${last?.position}`
      if (item.epoch === last?.epoch && item.position < last.position) this.#found('backwards', client, what())
      if (item.epoch !== last?.epoch) {
        if (over.has(item.epoch)) this.#found('revived', client, what())
        if (last !== undefined) over.add(last.epoch)
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
    /** The life in which each event came. */
    const lives = new Map<number, number>()
    /** Those that were passed over: lost, unless they come late. */
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
        this.#found('doubled', client, `${what} came again, after ${shown(events[next - 1])}`)
        continue
      }
      seen.add(index)
      if (lives.has(event.seq)) findings.repeated++
      lives.set(event.seq, event.life)
      if (index < next) {
        passed.delete(index)
        this.#found('swapped', client, `${what} came after ${shown(events[next - 1])}`)
      } else {
        passTo(index)
        next = index + 1
        resets = []
      }
    }
    // Whoever was told nothing was to have all.
    if (next === -1) next = 0
    passTo(events.length)
    for (const index of passed) {
      this.#found(
        'lost',
        client,
        `${channel}: ${shown(events[index])} never came, between ${shown(events[index - 1])} and ${shown(events[index + 1])}`,
      )
    }
  }

  /** Where a client begins that is told this first. */
  #firstAfter(events: readonly Event[], item: Received): number {
    const own = this.#lifeOf(item)
    const isDue = ({ life, position }: Event): boolean =>
      life > own || (life === own && (item.kind === 'event' ? position >= item.position : position > item.position))
    const index = events.findIndex(isDue)
    return index === -1 ? events.length : index
  }

  /** A reset of some of a client's channels does not say up to where; but what was published after it had come is not covered. */
  #covers(reset: ReceivedReset, event: Event, channels: readonly string[]): boolean {
    const life = this.#lifeOf(reset)
    if (event.life !== life) return event.life < life
    const isOfAll = channels.every((channel) => reset.channels.includes(channel))
    return event.position <= (isOfAll ? reset.position : reset.at + SLACK_US)
  }

  /** One in which nothing was accepted is between two others, by its positions. */
  #lifeOf({ epoch, position }: { readonly epoch: string; readonly position: number }): number {
    const index = this.#lives.findIndex((life) => life.epoch === epoch)
    return index === -1 ? this.#lives.findLastIndex(({ first }) => first <= position) + 0.5 : index
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
