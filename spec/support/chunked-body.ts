const LINE_END = '\r\n'

/** Reads the body of an HTTP/1.1 response whose transfer coding is chunked, however its bytes are cut. */
export class ChunkedBody {
  /** Whether the last chunk has come: the server ended the response on purpose. */
  isComplete = false
  /** The bytes behind the last chunk, which belong to the next response. */
  rest: Buffer = Buffer.alloc(0)
  readonly #onBytes: (bytes: Buffer) => void
  /** The beginning of the line that is being read, where its end has not come yet. */
  #line = ''
  /** The size of the current chunk, once its line was read. */
  #size: number | undefined
  /** The bytes of the current chunk that have not come yet. */
  #left = 0

  constructor(onBytes: (bytes: Buffer) => void) {
    this.#onBytes = onBytes
  }

  /** Takes the next bytes. Those of a chunk are passed on as they come, so that a large chunk is not copied again and again. */
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

  /** Reads up to the end of a line, which holds the size of a chunk, or nothing where it ends a chunk. */
  #readLine(bytes: Buffer): Buffer {
    const end = bytes.indexOf('\n')
    this.#line += bytes.toString('latin1', 0, end === -1 ? bytes.length : end + 1)
    if (end === -1 && this.#line.length < 80) return bytes.subarray(bytes.length)
    const line = this.#line
    this.#line = ''
    if (this.#size === undefined) {
      if (!/^(0|[1-9a-f][0-9a-f]*)\r\n$/.test(line)) throw new Error(`this is no size of a chunk: ${JSON.stringify(line.slice(0, 80))}`)
      this.#size = this.#left = Number.parseInt(line, 16)
    } else {
      if (line !== LINE_END) throw new Error(`this is no end of a chunk: ${JSON.stringify(line.slice(0, 80))}`)
      this.isComplete = this.#size === 0
      this.#size = undefined
    }
    return bytes.subarray(end + 1)
  }
}
