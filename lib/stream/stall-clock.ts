import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { isHttp2, socketOf, unsentBytes } from './response-socket.ts'

/** The clock that measures silence and stalls. The watchdog is one. */
export interface Ticks {
  readonly tick: number
}

/** A socket with the part of its handle that says how many bytes the kernel has not taken yet. */
type QueuedSocket = Socket & { readonly _handle?: { readonly writeQueueSize?: number } | null }

/**
 * Measures for how many ticks no byte has left a full or ended output. `handed` is the number of bytes handed to the response, for
 * HTTP/2, where the socket says nothing about one stream.
 */
export class StallClock {
  readonly #res: ServerResponse
  readonly #ticks: Ticks
  #since = 0
  #progress = 0

  constructor(res: ServerResponse, ticks: Ticks) {
    this.#res = res
    this.#ticks = ticks
  }

  /** Starts the clock. `socket` is the one that the output writes to, if any. */
  start(socket: Socket | null, handed: number): void {
    this.#since = this.#ticks.tick
    this.#progress = this.#measure(socket, handed)
  }

  /** The ticks since the last byte left. */
  stalledTicks(socket: Socket | null, handed: number): number {
    if (this.#measure(socket, handed) !== this.#progress) this.start(socket, handed)
    return this.#ticks.tick - this.#since
  }

  /** A number that changes whenever bytes have left, and does not change when bytes are added. */
  #measure(written: Socket | null, handed: number): number {
    const socket: QueuedSocket | null = written ?? (isHttp2(this.#res) ? null : socketOf(this.#res))
    if (socket === null) return handed - unsentBytes(this.#res)
    return socket.bytesWritten - socket.writableLength - (socket._handle?.writeQueueSize ?? 0)
  }
}
