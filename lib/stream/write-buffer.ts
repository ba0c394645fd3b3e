/** The capacity. A socket that becomes full keeps this much memory: see {@link WriteBuffer.abandon}. */
const CAPACITY_BYTES = 16_384
/** A larger chunk is written by itself, because copying it would cost more than a write. */
const MAX_CHUNK_BYTES = 4_096

/**
 * Collects small chunks of one output into one write, because copying them costs less than a system call for each. The outputs of a
 * middleware share the buffer and use it one after the other: it is empty again once the kernel has taken its bytes.
 */
export class WriteBuffer {
  #buffer: Buffer | null = null
  #used = 0
  #isTaken = false

  /** Takes the buffer for one output. Returns `false` while another output has it. */
  begin(): boolean {
    if (this.#isTaken) return false
    this.#isTaken = true
    this.#used = 0
    return true
  }

  /** Adds a chunk. Returns `false` if it is too large or there is no room. */
  add(chunk: Buffer): boolean {
    const { length } = chunk
    if (length > MAX_CHUNK_BYTES || this.#used + length > CAPACITY_BYTES) return false
    this.#buffer ??= Buffer.allocUnsafeSlow(CAPACITY_BYTES)
    this.#buffer.set(chunk, this.#used)
    this.#used += length
    return true
  }

  /** Removes and returns the collected bytes; `null` if there are none. */
  take(): Buffer | null {
    const used = this.#used
    this.#used = 0
    return used === 0 || this.#buffer === null ? null : this.#buffer.subarray(0, used)
  }

  /** Gives up the memory, because the socket still holds the bytes that were taken last. The next chunk allocates new memory. */
  abandon(): void {
    this.#buffer = null
  }

  end(): void {
    this.#isTaken = false
  }
}
