import type { BackplaneEvent } from '../backplanes/backplane.ts'

/** The most characters of events that are held while the log is read. Events beyond it are read from the log. */
const MAX_HELD_CHARACTERS = 33_554_432
/** The overhead of an event, in characters. It is added to the length of the event's text. */
const EVENT_CHARACTERS = 100

/** An event as it arrived from the backplane. */
export interface ArrivedEvent {
  readonly epoch: string
  readonly name: string
  readonly event: BackplaneEvent
}

/** Holds the events that arrive while the log is read, up to a bound. */
export class HoldBuffer {
  #events: ArrivedEvent[] = []
  #characters = 0
  #hasOverflowed = false

  /** Whether an event arrived for which there was no room, so that the log must be read again. */
  get hasOverflowed(): boolean {
    return this.#hasOverflowed
  }

  get epochs(): string[] {
    return this.#events.map(({ epoch }) => epoch)
  }

  push(arrived: ArrivedEvent): void {
    if (this.reserve(arrived.event)) this.#events.push(arrived)
  }

  /** Reserves room for an event that a copy holds. Returns `false` if there is no room. */
  reserve({ text }: BackplaneEvent): boolean {
    this.#characters += text.length + EVENT_CHARACTERS
    if (this.#characters > MAX_HELD_CHARACTERS) this.#hasOverflowed = true
    return !this.#hasOverflowed
  }

  /** Frees the room that was reserved for events that copies hold. */
  freeReserved(): void {
    this.#characters = 0
  }

  /** Removes and returns all events. */
  take(): ArrivedEvent[] {
    const events = this.#events
    this.#events = []
    this.#characters = 0
    this.#hasOverflowed = false
    return events
  }
}
