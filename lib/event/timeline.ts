import { randomInt } from 'node:crypto'
import { EPOCH_LENGTH } from './event-id.ts'

/** A name for a life of a log: 10 characters of `[0-9a-z]`, another one every time. */
export function makeEpoch(): string {
  let epoch = ''
  while (epoch.length < EPOCH_LENGTH) epoch += randomInt(36).toString(36)
  return epoch
}

/** A moment in the one order of events. */
export interface Moment {
  readonly epoch: string
  readonly newest: number
}

/**
 * How far this hub has come in the one order of events: the epoch that names the life of the log they are in, and the
 * position up to which it was told of them. A client whose id is the newest position has missed nothing.
 */
export class Timeline implements Moment {
  /** 10 characters of `[0-9a-z]`; `''` until it is known. */
  epoch = ''
  #newest = 0

  /** The newest position; 0 before the first. */
  get newest(): number {
    return this.#newest
  }

  /** Everything up to this position was told. It never goes back. */
  moveTo(position: number): void {
    if (position > this.#newest) this.#newest = position
  }

  /** Another life begins, wherever its positions are. */
  restart(epoch: string, newest: number): void {
    this.epoch = epoch
    this.#newest = newest
  }
}
