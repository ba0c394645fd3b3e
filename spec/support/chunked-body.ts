const LINE_END = '\r\n'

/** Decodes the chunked body of an HTTP/1.1 response from pieces of any size. */
export class ChunkedBody {
  /** True after the last chunk, with which a server ends a response on purpose. */
  isComplete = false
  /** Bytes after the last chunk. They belong to the next response. */
  rest: Buffer = Buffer.alloc(0)
  readonly #onBytes: (bytes: Buffer) => void
  /** Start of an incomplete line. */
  #line = ''
  /** Size of the current chunk, or `undefined` before its size line is read. */
  #size: number | undefined
  /** Number of bytes missing from the current chunk. */
  #left = 0

  constructor(onBytes: (bytes: Buffer) => void) {
    this.#onBytes = onBytes
  }

  /** Decodes more bytes. The bytes of a chunk are passed on immediately, so that a large chunk is not copied repeatedly. */
  feed(bytes: Buffer): void {
    let unread = bytes
    while (unread.length > 0 && !this.isComplete) {
      if (this.#left > 0) {
        const part = unread.subarray(0, this.#left)
        this.#left -= part.length
        unread = unread.subarray(part.length)
        this.#onBytes(part)
      } else {
        unread = this.#readLine(unread)
      }
    }
    if (unread.length > 0) this.rest = Buffer.concat([this.rest, unread])
  }

  /** Reads to the end of a line, which holds the size of the next chunk, or is empty after a chunk. */
  #readLine(bytes: Buffer): Buffer {
    const end = bytes.indexOf('\n')
    this.#line += bytes.toString('latin1', 0, end === -1 ? bytes.length : end + 1)
    if (end === -1 && this.#line.length < 80) return bytes.subarray(bytes.length)
    const line = this.#line
    this.#line = ''
    if (this.#size === undefined) {
      if (!/^(0|[1-9a-f][0-9a-f]*)\r\n$/.test(line)) throw new Error(`not the size line of a chunk: ${JSON.stringify(line.slice(0, 80))}`)
      this.#size = this.#left = Number.parseInt(line, 16)
    } else {
      if (line !== LINE_END) throw new Error(`not the end of a chunk: ${JSON.stringify(line.slice(0, 80))}`)
      this.isComplete = this.#size === 0
      this.#size = undefined
    }
    return bytes.subarray(end + 1)
  }
}
