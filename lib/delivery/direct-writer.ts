import type { Socket } from 'node:net'
import type { GzipBody } from '../gzip/gzip-body.ts'

/** The most bytes that one write hands to a socket. */
export const MAX_WRITE_BYTES = 65_536

/** The output of a stream, for code that writes to its socket directly. */
export interface DirectWriter {
  /** Whether it accepts no bytes at the moment. */
  readonly full: boolean
  /** The socket to write to; `null` if a write may run code of the program (a wrapped response) or must not touch the socket (HTTP/2). */
  readonly socket: Socket | null
  /** Whether the socket expects bytes that are framed as chunks of an HTTP/1.1 body. */
  readonly isFramed: boolean
  /** The gzip stream that the bytes are part of; `null` without compression. */
  readonly gzip: GzipBody | null
  /** Must be called when written bytes have stayed in the socket's buffer. The output is full until they have left it. */
  block(): void
}

/**
 * Writes to a socket, which must be writable.
 *
 * @returns `false` if the write reached the socket's high-water mark and bytes have stayed in its buffer.
 */
export function writeToSocket(socket: Socket, bytes: Buffer): boolean {
  // Node returns false for any write over the high-water mark, even if the kernel took all of it.
  return socket.write(bytes) || socket.writableLength === 0
}
