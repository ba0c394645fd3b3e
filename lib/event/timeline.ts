import { randomInt } from 'node:crypto'
import { EPOCH_LENGTH } from './event-id.ts'

/** Length of half an epoch. An epoch takes two calls of `randomInt`, because it has 52 bits and one call yields at most 48. */
const HALF = EPOCH_LENGTH / 2

/** Makes a random epoch: 10 characters of `[0-9a-z]` (52 bits). It cannot be predicted from earlier epochs. */
export function makeEpoch(): string {
  return randomHalf() + randomHalf()
}

function randomHalf(): string {
  return randomInt(36 ** HALF)
    .toString(36)
    .padStart(HALF, '0')
}

/** The end of the total order of events: an epoch and its newest position. */
export interface LogHead {
  readonly epoch: string
  readonly newest: number
}

/**
 * This hub's progress in the total order of events: the epoch of the log, and the position up to which the hub has received
 * all events. A client whose id has the newest position has missed nothing.
 */
export class Timeline implements LogHead {
  /** 10 characters of `[0-9a-z]`, or `''` until the epoch is known. */
  epoch = ''
  #newest = 0

  /** The newest position, or 0 before the first event. */
  get newest(): number {
    return this.#newest
  }

  /** Records that all events up to this position have been received. An older position has no effect. */
  moveTo(position: number): void {
    if (position > this.#newest) this.#newest = position
  }

  /** Begins another epoch. Its newest position may be lower than the current one. */
  restart(epoch: string, newest: number): void {
    this.epoch = epoch
    this.#newest = newest
  }
}
