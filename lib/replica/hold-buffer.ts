import type { BackplaneEvent } from '../backplanes/backplane.ts'

/** More characters of events than this are not held back while the log is read: they are read as well. */
const MAX_HELD = 33_554_432

/** What was told of an event. */
export interface Told {
  readonly epoch: string
  readonly name: string
  readonly event: BackplaneEvent
}

/** What was told while the log is read, up to a bound. */
export class HoldBuffer {
  #events: Told[] = []
  #size = 0
  #hasOverflown = false

  /** Whether something was told that was not held: the log must be read again. */
  get hasOverflown(): boolean {
    return this.#hasOverflown
  }

  get epochs(): string[] {
    return this.#events.map(({ epoch }) => epoch)
  }

  push(told: Told): void {
    if (this.takes(told.event)) this.#events.push(told)
  }

  /** Counts an event that is held elsewhere, if there is room for it. */
  takes({ text }: BackplaneEvent): boolean {
    this.#size += text.length + 100
    if (this.#size > MAX_HELD) this.#hasOverflown = true
    return !this.#hasOverflown
  }

  /** Nothing is held elsewhere any more. */
  emptied(): void {
    this.#size = 0
  }

  /** All that was held; nothing is from now on. */
  take(): Told[] {
    const events = this.#events
    this.#events = []
    this.#size = 0
    this.#hasOverflown = false
    return events
  }
}
