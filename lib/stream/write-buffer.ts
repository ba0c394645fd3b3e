/** How much is gathered at most: it is what a socket keeps alive that does not take it. */
const CAPACITY_BYTES = 16_384
/** A chunk larger than this is written by itself: to copy it would cost more than a write does. */
const MAX_CHUNK_BYTES = 4_096

/**
 * Collects the small chunks of one output, because copying them costs less than handing each of them to the kernel. The
 * outputs of a middleware take turns with it: it is empty again once the kernel has taken its bytes.
 */
export class WriteBuffer {
  #buffer: Buffer | null = null
  #used = 0
  #isTaken = false

  /** Begins to gather: `false` while somebody else does. */
  begin(): boolean {
    if (this.#isTaken) return false
    this.#isTaken = true
    this.#used = 0
    return true
  }

  /** Adds a chunk, if it is small and there is room for it. */
  add(chunk: Buffer): boolean {
    const { length } = chunk
    if (length > MAX_CHUNK_BYTES || this.#used + length > CAPACITY_BYTES) return false
    this.#buffer ??= Buffer.allocUnsafeSlow(CAPACITY_BYTES)
    this.#buffer.set(chunk, this.#used)
    this.#used += length
    return true
  }

  /** Gives what was gathered, and begins anew; `null` for nothing. */
  take(): Buffer | null {
    const used = this.#used
    this.#used = 0
    return used === 0 || this.#buffer === null ? null : this.#buffer.subarray(0, used)
  }

  /** The bytes that were taken last are still in use: the next ones go to a new buffer. */
  leave(): void {
    this.#buffer = null
  }

  end(): void {
    this.#isTaken = false
  }
}
