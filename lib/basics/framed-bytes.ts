/**
 * The framing of an HTTP/1.1 body with `Transfer-Encoding: chunked` (RFC 9112, section 7.1): the length of a chunk in
 * hexadecimal and a line break, the bytes, and another line break. Any run of whole frames is a part of such a body, so
 * bytes that are framed once serve every response.
 */

/** Two line breaks: the bytes that a frame adds beside the digits of its length. */
const LINE_BREAK_BYTES = 4

/** Bytes that are written to many responses: as they are, or as frames of a chunked body. */
export class FramedBytes {
  /** The bytes as one or several frames. */
  readonly framed: Buffer
  #bytes: Buffer | null = null

  constructor(framed: Buffer) {
    this.framed = framed
  }

  /** The bytes without frames. This class takes {@link framed} for one frame. */
  get bytes(): Buffer {
    return (this.#bytes ??= unframe(this.framed))
  }
}

/** Text as one frame. `length` is its length in bytes of UTF-8, which must not be 0: an empty frame ends a body. */
export function frameText(text: string, length: number): string {
  return `${length.toString(16)}\r\n${text}\r\n`
}

/** A copy of bytes as one frame, or no bytes for none. */
export function frame(bytes: Buffer): Buffer {
  if (bytes.length === 0) return bytes
  const start = headBytes(bytes.length)
  const framed = Buffer.allocUnsafeSlow(bytes.length + start + 2)
  framed.write(`${bytes.length.toString(16)}\r\n`, 'latin1')
  bytes.copy(framed, start)
  framed.write('\r\n', start + bytes.length, 'latin1')
  return framed
}

/** How many bytes the frame of a payload takes. */
export function framedLength(length: number): number {
  return length + hexDigits(length) + LINE_BREAK_BYTES
}

/** The length of the payload of a frame. */
export function payloadLength(framed: number): number {
  // The payload has as many digits as the whole frame, or one less.
  const length = framed - LINE_BREAK_BYTES - hexDigits(framed)
  return framedLength(length) === framed ? length : length + 1
}

/** The offset at which the payload of a frame begins. */
export function headBytes(length: number): number {
  return hexDigits(length) + 2
}

/** The payload of a frame, as a view of it. */
export function unframe(framed: Buffer): Buffer {
  const length = payloadLength(framed.length)
  const start = headBytes(length)
  return framed.subarray(start, start + length)
}

function hexDigits(length: number): number {
  return length === 0 ? 1 : (35 - Math.clz32(length)) >>> 2
}
