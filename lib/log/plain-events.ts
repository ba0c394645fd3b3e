import { headBytes, payloadLength } from '../basics/framed-bytes.ts'

/**
 * The events of a page without their frames, for responses whose body is not chunked (HTTP/1.0, HTTP/2) and for gzip. All
 * of them share this copy, as the others share the page.
 */
export class PlainEvents {
  #buffer: Buffer = Buffer.alloc(0)
  /** The offset at which each event ends. */
  readonly #ends: number[] = []

  /** Copies what it does not have yet of the events in `framed`, which end at `framedEnds`, up to and without slot `end`. */
  extend(framed: Buffer, framedEnds: readonly number[], end: number): void {
    const ends = this.#ends
    if (ends.length >= end) return
    let used = ends[ends.length - 1] ?? 0
    // The page has grown to another buffer, or this is the first call.
    if (this.#buffer.length < framed.length) {
      const grown = Buffer.allocUnsafeSlow(framed.length)
      this.#buffer.copy(grown, 0, 0, used)
      this.#buffer = grown
    }
    for (let slot = ends.length; slot < end; slot++) {
      const start = slot === 0 ? 0 : (framedEnds[slot - 1] as number)
      const length = payloadLength((framedEnds[slot] as number) - start)
      const from = start + headBytes(length)
      used += framed.copy(this.#buffer, used, from, from + length)
      ends.push(used)
    }
  }

  /** The events from slot `start` up to and without slot `end`, as a view. Extend it up to there before. */
  bytesOf(start: number, end: number): Buffer {
    return this.#buffer.subarray(start === 0 ? 0 : this.#ends[start - 1], end === 0 ? 0 : this.#ends[end - 1])
  }
}
