import { randomInt } from 'node:crypto'

const EPOCH_LENGTH = 10

/**
 * The one order of a hub's events: an epoch that names this life of it, and positions that only grow.
 *
 * A position is the clock in microseconds since 1970, or one more than the last where the clock did not move on
 * (a burst, a clock set back). It orders events; it does not measure their age.
 */
export class Timeline {
  /** 10 characters of `[0-9a-z]`: another one for every hub. */
  readonly epoch: string
  #newest = 0

  constructor() {
    let epoch = ''
    while (epoch.length < EPOCH_LENGTH) epoch += randomInt(36).toString(36)
    this.epoch = epoch
  }

  /** The newest position given; 0 before the first. */
  get newest(): number {
    return this.#newest
  }

  /** The next position: later than all before it. */
  next(): number {
    this.#newest = Math.max(Date.now() * 1_000, this.#newest + 1)
    return this.#newest
  }
}
