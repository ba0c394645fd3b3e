/*
 * Framing of an HTTP/1.1 body with `Transfer-Encoding: chunked` (RFC 9112, section 7.1). A frame consists of the length of
 * the payload in hexadecimal digits, a line break, the payload, and another line break. Any sequence of whole frames is a
 * valid part of such a body. Bytes can therefore be framed once and written to every response.
 */

/** Length of the two line breaks (CRLF) of a frame. */
const LINE_BREAK_BYTES = 4

/** Bytes that are written to many responses, either as they are or as frames of a chunked body. */
export class FramedBytes {
  /** The bytes as one or several frames. */
  readonly framed: Buffer
  #bytes: Buffer | null = null

  constructor(framed: Buffer) {
    this.framed = framed
  }

  /** The bytes without frames. This class assumes that {@link framed} is a single frame. */
  get bytes(): Buffer {
    return (this.#bytes ??= unframe(this.framed))
  }
}

/** Frames a text. `length` is its length in bytes of UTF-8. It must not be 0, because an empty frame ends the body. */
export function frameText(text: string, length: number): string {
  return `${length.toString(16)}\r\n${text}\r\n`
}

/** Copies bytes into one frame. Empty bytes stay empty, because an empty frame would end the body. */
export function frame(bytes: Buffer): Buffer {
  if (bytes.length === 0) return bytes
  const start = headBytes(bytes.length)
  const framed = Buffer.allocUnsafeSlow(bytes.length + start + 2)
  framed.write(`${bytes.length.toString(16)}\r\n`, 'latin1')
  bytes.copy(framed, start)
  framed.write('\r\n', start + bytes.length, 'latin1')
  return framed
}

/** Length of the frame of a payload that has `length` bytes. */
export function framedLength(length: number): number {
  return length + hexDigits(length) + LINE_BREAK_BYTES
}

/** Length of the payload of a frame that has `frameLength` bytes. */
export function payloadLength(frameLength: number): number {
  // The length of the payload has as many digits as the length of the frame, or one digit less.
  const length = frameLength - LINE_BREAK_BYTES - hexDigits(frameLength)
  return framedLength(length) === frameLength ? length : length + 1
}

/** Offset at which the payload begins in the frame of a payload that has `length` bytes. */
export function headBytes(length: number): number {
  return hexDigits(length) + 2
}

/** The payload of a frame, as a view of the same memory. */
function unframe(framed: Buffer): Buffer {
  const length = payloadLength(framed.length)
  const start = headBytes(length)
  return framed.subarray(start, start + length)
}

function hexDigits(length: number): number {
  return length === 0 ? 1 : (35 - Math.clz32(length)) >>> 2
}
