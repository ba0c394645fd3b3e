import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { frame, frameText } from '../basics/framed-bytes.ts'
import { MAX_WRITE_BYTES, writeToSocket } from '../delivery/direct-writer.ts'
import type { GzipBody } from '../gzip/gzip-body.ts'
import type { SharedBytes } from '../gzip/shared-bytes.ts'
import type { ClientOutput } from '../hub/client-connection.ts'
import { isUnwritable } from './client-disconnect.ts'
import { isHttp2, isRealSocket, isServerClosed, socketOf, unsentBytes } from './response-socket.ts'
import { StallClock, type Ticks } from './stall-clock.ts'
import { WriteBuffer } from './write-buffer.ts'

/** The owner of an output, which the output calls. */
export interface OutputOwner {
  /** Called when the output was full and accepts bytes again. */
  drained(): void
  /** Called when code of the program that wraps the response has thrown. */
  failed(error: unknown): void
}

/** A response whose wrapper, such as `compression`, has added a method that sends the bytes that the wrapper buffers. */
type Flushable = ServerResponse & { flush?: () => void }

/**
 * The output of one stream: it writes bytes, and knows whether more are accepted.
 *
 * On HTTP/1 the bytes go straight to the socket. On HTTP/1.1 they are framed as chunks once, for all streams. On HTTP/1.0 the body ends
 * with the connection. On HTTP/2, with a wrapped `res.write`, and without a real socket, the bytes go through the response.
 */
export class Output implements ClientOutput {
  /** Whether it accepts no shared bytes at the moment. It calls `drained()` of its owner when it does again. */
  full = false
  /** The tick of the last write. */
  touched: number
  /** The gzip stream of everything that is written; `null` without compression. */
  readonly gzip: GzipBody | null
  readonly #owner: OutputOwner
  readonly #ticks: Ticks
  readonly #res: Flushable
  #socket: Socket | null = null
  #isFramed = false
  /**
   * Whether something wraps `res.write`, and whether the wrapper transforms the bytes. `writableLength` omits the bytes that such a wrapper
   * buffers.
   */
  #wrapped = false
  #transformed = false
  /** Whether the response waits for an earlier one on its connection (pipelining). */
  #waiting = false
  #isCorked = false
  /** Whether small chunks are collected in {@link #buffer} while the output is corked. Otherwise the socket is corked. */
  #isGathering = false
  readonly #buffer: WriteBuffer
  /** A large chunk of which only the part before {@link #restAt} was written. Nothing else may be written before the rest. */
  #rest: Buffer | null = null
  #restAt = 0
  /** Upper bound of the bytes of direct writes that are still queued. */
  #direct = 0
  /** Whether bytes have stayed in the buffers, and 'drain' is awaited. */
  #blocked = false
  /** The emitter of the 'drain' events: set the first time that the output is full, until the response is over. */
  #drainSource: Socket | ServerResponse | null = null
  /** Bytes handed to the response, for the stall clock. */
  #handed = 0
  /** Created the first time that the output is full, because most streams never are. */
  #stall: StallClock | null = null

  constructor(res: ServerResponse, owner: OutputOwner, ticks: Ticks, gzip: GzipBody | null = null, buffer = new WriteBuffer()) {
    this.#res = res
    this.#owner = owner
    this.#ticks = ticks
    this.gzip = gzip
    this.#buffer = buffer
    this.touched = ticks.tick
  }

  /** The socket to write to; `null` if bytes go through the response. */
  get socket(): Socket | null {
    return this.#socket
  }

  /** Whether {@link socket} expects bytes that are framed as chunks. */
  get isFramed(): boolean {
    return this.#isFramed
  }

  /** Whether there is a connection, which reports when the response is over. Tools that call an app without a server have none. */
  get isConnected(): boolean {
    return this.#waiting || isHttp2(this.#res) || socketOf(this.#res) !== null
  }

  /** Whether the end of the response has been written. */
  get isEnded(): boolean {
    return this.#res.writableEnded
  }

  /** Sends the head that was set on the response, together with `first`. */
  begin(req: IncomingMessage, first: SharedBytes | null): void {
    const res = this.#res
    this.#wrapped = res.write !== ServerResponse.prototype.write
    const socket = this.#wrapped || req.httpVersionMajor >= 2 ? null : socketOf(res)
    // Node keeps the head in memory as long as the response. A head that is sent by itself is one string, any other is a chain of parts.
    socket?.cork()
    if (socket !== null || (first === null && this.gzip === null)) res.flushHeaders()
    if (socket !== null) this.#writeTo(socket)
    const body = this.#firstBlock(first)
    if (body !== null) {
      if (socket === null) res.write(body)
      else socket.write(body)
    }
    if (socket !== null) process.nextTick(uncorkSocket, socket)
    this.#flush()
    this.#transformed = this.#wrapped && this.gzip === null && res.hasHeader('content-encoding')
    if (req.httpVersionMajor < 2 && res.socket === null && isRealSocket(req.socket)) {
      this.#waiting = this.full = true
      res.once('socket', () => process.nextTick(() => this.#arrive()))
    }
  }

  #firstBlock(first: SharedBytes | null): Buffer | null {
    if (this.gzip === null) return first === null ? null : this.#isFramed ? first.framed : first.bytes
    const block = this.gzip.begin(first?.bytes ?? Buffer.alloc(0))
    return this.#isFramed ? frame(block) : block
  }

  write(shared: SharedBytes): void {
    const block = this.gzip === null ? shared : this.gzip.shared(shared)
    this.#write(this.#isFramed ? block.framed : block.bytes)
  }

  writeOwn(bytes: Buffer): void {
    const block = this.gzip === null ? bytes : this.gzip.own(bytes)
    this.#write(this.#isFramed ? frame(block) : block)
  }

  #write(chunk: Buffer): void {
    this.touched = this.#ticks.tick
    if (chunk.length <= MAX_WRITE_BYTES) {
      this.#put(chunk)
      return
    }
    this.uncork()
    this.#rest = chunk
    this.#restAt = 0
    this.#writeRest()
  }

  cork(): void {
    const socket = this.#socket
    if (socket === null || this.#isCorked) return
    this.#isCorked = true
    // Outputs share the buffer, and a TLS socket would hold on to its bytes for too long.
    this.#isGathering = !('encrypted' in socket) && this.#buffer.begin()
    if (!this.#isGathering) socket.cork()
  }

  uncork(): void {
    const socket = this.#socket
    if (socket === null || !this.#isCorked) return
    this.#isCorked = false
    if (this.#isGathering) {
      this.#isGathering = false
      this.#writeGathered(socket)
      this.#buffer.end()
      return
    }
    socket.uncork()
    if (socket.writableNeedDrain && socket.writableLength > 0) this.block()
  }

  /**
   * Writes text for this stream alone, even if the output is full.
   *
   * @returns `false` without writing if earlier direct writes are still queued and this one would take them over `maxQueuedBytes`.
   */
  writeDirect(text: string, maxQueuedBytes = Infinity): boolean {
    const length = Buffer.byteLength(text)
    let queued = this.#queuedDirect()
    if (queued > 0 && queued + length > maxQueuedBytes) {
      // Node corks the socket after the head until the next tick. The bytes that wait for that tick do not mean that the client is slow.
      while (this.#socket !== null && this.#socket.writableCorked > 0) this.#socket.uncork()
      queued = this.#queuedDirect()
      if (queued > 0 && queued + length > maxQueuedBytes) return false
    }
    this.touched = this.#ticks.tick
    this.#finishRest()
    const body = this.#ownBlock(text, length)
    this.#direct = queued + body.length
    this.#put(body)
    return true
  }

  #ownBlock(text: string, length: number): Buffer {
    if (this.gzip === null) return Buffer.from(this.#isFramed && length > 0 ? frameText(text, length) : text)
    const block = this.gzip.own(Buffer.from(text))
    return this.#isFramed ? frame(block) : block
  }

  /**
   * Ends the response after everything written so far. A chunked body receives its last chunk.
   *
   * @param closesConnection whether to close the connection as well. If the server accepts no more connections, it is always closed.
   */
  end(closesConnection = false): void {
    this.#finishRest()
    this.uncork()
    if (this.gzip !== null) this.#put(this.#isFramed ? frame(this.gzip.end()) : this.gzip.end())
    if (!isHttp2(this.#res)) this.#closeConnection(closesConnection)
    this.#stallClock.start(this.#socket, this.#handed)
    try {
      this.#res.end()
    } catch (error) {
      this.#owner.failed(error)
    }
  }

  destroy(): void {
    this.#rest = null
    this.#res.destroy()
  }

  /** Abandons the output because the program has ended the response. If an event was cut in half, the connection is destroyed. */
  abandon(): void {
    const isHalf = this.#rest !== null
    this.#rest = null
    this.#stallClock.start(this.#socket, this.#handed)
    if (this.#isGathering) {
      this.#isGathering = this.#isCorked = false
      this.#buffer.end()
    }
    this.release()
    if (isHalf) this.#res.destroy()
  }

  /** Stops listening to the socket, which belongs to the next response of its connection from now on. */
  release(): void {
    this.#drainSource?.off('drain', this.#drained)
    this.#drainSource = this.#socket = null
    this.full = true
  }

  block(): void {
    this.full = true
    if (this.#blocked) return
    this.#blocked = true
    this.#stallClock.start(this.#socket, this.#handed)
    const source = this.#socket ?? this.#res
    if (source === this.#drainSource) return
    this.#drainSource = source
    source.on('drain', this.#drained)
  }

  /** The ticks for which no byte has left a full or ended output. */
  stalledTicks(): number {
    return this.#waiting ? 0 : this.#stallClock.stalledTicks(this.#socket, this.#handed)
  }

  #put(chunk: Buffer): void {
    const socket = this.#socket
    if (socket !== null) {
      if (this.#isGathering) {
        if (this.#buffer.add(chunk)) return
        this.#writeGathered(socket)
        if (this.#buffer.add(chunk)) return
      }
      if (!socket.writable) this.full = true
      else if (!writeToSocket(socket, chunk) && (!this.#isCorked || this.#isGathering)) this.block()
      return
    }
    const res = this.#res
    if (isUnwritable(res)) {
      this.full = true
      return
    }
    try {
      this.#handed += chunk.length
      // A wrapper that returns undefined did not report that it is full.
      const answer: unknown = res.write(chunk)
      if (answer === false && (this.#transformed || unsentBytes(res) > 0)) this.block()
      this.#flush()
    } catch (error) {
      this.full = true
      this.#owner.failed(error)
    }
  }

  #writeGathered(socket: Socket): void {
    const bytes = this.#buffer.take()
    if (bytes === null) return
    if (!socket.writable) {
      this.full = true
      return
    }
    const hasRoom = socket.write(bytes)
    if (socket.writableLength === 0) return
    this.#buffer.abandon()
    if (!hasRoom) this.block()
  }

  #flush(): void {
    if (this.#wrapped) this.#res.flush?.()
  }

  #writeRest(): void {
    while (this.#rest !== null && !this.full) {
      const rest = this.#rest
      const end = Math.min(this.#restAt + MAX_WRITE_BYTES, rest.length)
      const part = rest.subarray(this.#restAt, end)
      this.#restAt = end
      if (end === rest.length) this.#rest = null
      this.#put(part)
    }
  }

  /** Writes the rest of a large chunk at once, so that nothing else lands inside it. */
  #finishRest(): void {
    const rest = this.#rest
    if (rest === null) return
    this.#rest = null
    this.#put(rest.subarray(this.#restAt))
  }

  readonly #drained = (): void => {
    if (!this.#blocked || this.#waiting) return
    this.#blocked = false
    this.full = false
    this.#direct = 0
    this.#writeRest()
    if (!this.full) this.#owner.drained()
  }

  /** Begins to write when the turn of a pipelined response has come. */
  #arrive(): void {
    const { socket } = this.#res
    if (!this.#waiting || socket === null) return
    this.#waiting = this.#blocked = false
    if (!this.#wrapped) this.#writeTo(socket)
    if (socket.writableNeedDrain && socket.writableLength > 0) {
      this.block()
    } else {
      this.full = false
      this.#owner.drained()
    }
  }

  /** Writes straight to the socket from now on. The socket has the head already. */
  #writeTo(socket: Socket): void {
    this.#socket = socket
    this.#isFramed = this.#res.chunkedEncoding
  }

  /** Closes the connection with the response, if it must not be used again. */
  #closeConnection(isClosed: boolean): void {
    const socket = socketOf(this.#res)
    // Otherwise server.close() waits until the idle connection times out.
    if (socket !== null && (isClosed || isServerClosed(socket))) this.#res.once('finish', () => socket.destroySoon())
  }

  get #stallClock(): StallClock {
    return (this.#stall ??= new StallClock(this.#res, this.#ticks))
  }

  #queuedDirect(): number {
    if (this.#transformed) return this.full ? this.#direct : 0
    return Math.min(this.#direct, this.#socket?.writableLength ?? unsentBytes(this.#res))
  }
}

function uncorkSocket(socket: Socket): void {
  socket.uncork()
}
