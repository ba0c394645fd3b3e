/** Reads the body of an HTTP/1.1 response whose transfer coding is chunked, however its bytes are cut. */
export class ChunkedBody {
  /** Whether the last chunk has come: the server ended the response on purpose. */
  isComplete = false
  /** The bytes behind the last chunk, which belong to the next response. */
  rest: Buffer = Buffer.alloc(0)
  readonly #onBytes: (bytes: Buffer) => void
  #bytes: Buffer = Buffer.alloc(0)

  constructor(onBytes: (bytes: Buffer) => void) {
    this.#onBytes = onBytes
  }

  feed(bytes: Buffer): void {
    if (this.isComplete) {
      this.rest = Buffer.concat([this.rest, bytes])
      return
    }
    this.#bytes = Buffer.concat([this.#bytes, bytes])
    for (let size = this.#next(); size !== undefined; size = this.#next()) {
      const start = this.#bytes.indexOf('\r\n') + 2
      const chunk = this.#bytes.subarray(start, start + size)
      this.#bytes = this.#bytes.subarray(start + size + 2)
      if (size > 0) {
        this.#onBytes(chunk)
        continue
      }
      this.isComplete = true
      this.rest = this.#bytes
      return
    }
  }

  /** The size of the first chunk, if all of it is there. */
  #next(): number | undefined {
    const end = this.#bytes.indexOf('\r\n')
    if (end === -1) return undefined
    const line = this.#bytes.toString('latin1', 0, end)
    if (!/^[1-9a-f][0-9a-f]*$|^0$/.test(line)) throw new Error(`this is not the size of a chunk: ${JSON.stringify(line.slice(0, 80))}`)
    const size = Number.parseInt(line, 16)
    return this.#bytes.length >= end + 2 + size + 2 ? size : undefined
  }
}
