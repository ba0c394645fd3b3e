import { headBytes, payloadLength } from '../basics/framed-bytes.ts'

/**
 * A copy of a page's events without frames, for gzip and for responses whose body is not chunked (HTTP/1.0, HTTP/2). All these
 * responses share the copy, as all other responses share the page.
 */
export class PlainEvents {
  #buffer: Buffer = Buffer.alloc(0)
  /** The offset at which each event ends. */
  readonly #ends: number[] = []

  /**
   * Copies the events up to but not including slot `end`, except those that it has already.
   *
   * @param framed the buffer of the page.
   * @param framedEnds the offset at which each event ends in `framed`.
   */
  extend(framed: Buffer, framedEnds: readonly number[], end: number): void {
    const ends = this.#ends
    if (ends.length >= end) return
    let used = ends[ends.length - 1] ?? 0
    // The page has grown, or this is the first call.
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

  /** The events from slot `start` up to but not including slot `end`, as a view. Call {@link extend} for them first. */
  bytesOf(start: number, end: number): Buffer {
    return this.#buffer.subarray(start === 0 ? 0 : this.#ends[start - 1], end === 0 ? 0 : this.#ends[end - 1])
  }
}
