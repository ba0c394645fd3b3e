import { randomInt } from 'node:crypto'
import { EPOCH_LENGTH } from './event-id.ts'

/** Half of an epoch: the most digits that one cached draw of `randomInt` (48 bits) gives evenly, with room to spare. */
const HALF = EPOCH_LENGTH / 2

/** A random name for an epoch: 10 characters of `[0-9a-z]` (52 bits), which cannot be predicted from the names before it. */
export function makeEpoch(): string {
  return randomHalf() + randomHalf()
}

function randomHalf(): string {
  return randomInt(36 ** HALF)
    .toString(36)
    .padStart(HALF, '0')
}

/** A moment in the one order of events. */
export interface LogHead {
  readonly epoch: string
  readonly newest: number
}

/**
 * How far this hub has come in the one order of events: the epoch that names the life of the log they are in, and the
 * position up to which it was told of them. A client whose id is the newest position has missed nothing.
 */
export class Timeline implements LogHead {
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
