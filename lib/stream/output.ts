import { type IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { frame, frameText } from '../basics/framed-bytes.ts'
import type { GzipBody } from '../gzip/gzip-body.ts'
import type { SharedBytes } from '../gzip/shared-bytes.ts'
import { isUnwritable, isHttp2 } from './client-disconnect.ts'
import { WriteBuffer } from './write-buffer.ts'

/** The most that one write of shared bytes hands to the socket. */
export const MAX_WRITE_BYTES = 65_536

/** Is told when an output that was full takes bytes again, and when it broke. */
export interface OutputOwner {
  drained(): void
  /** Something that wraps the response threw. */
  failed(error: unknown): void
}

/** Counts the ticks by which silence and stalls are measured. */
export interface Ticks {
  readonly tick: number
}

/** A response that a wrapper such as `compression` gave a way to push out what it holds back. */
type Flushable = ServerResponse & { flush?: () => void }

/** A socket with the part of its handle that tells how much the kernel has not taken yet. */
type QueuedSocket = Socket & { readonly _handle?: { readonly writeQueueSize?: number } | null }

/**
 * Where the bytes of one stream go, and whether it takes more of them.
 *
 * On HTTP/1 they go straight to the socket. HTTP/1.1 is sent bytes that were framed as chunks once for everybody; towards
 * HTTP/1.0 the body ends with the connection. On HTTP/2, where something wraps `res.write`, and where there is no real
 * socket, bytes go through the response.
 */
export class Output {
  /** Whether it takes no shared bytes now. `drained()` of the owner follows. */
  full = false
  /** The tick of the last write. */
  touched: number
  /** What makes a gzip stream of all that is written; `null` where it goes out as it is. */
  readonly gzip: GzipBody | null
  readonly #owner: OutputOwner
  readonly #ticks: Ticks
  readonly #res: Flushable
  #socket: Socket | null = null
  /** Whether what goes to the socket is framed as chunks. */
  #isFramed = false
  /** Whether a wrapper turns the bytes into others: what it holds back then shows in no `writableLength`. */
  #transformed = false
  #wrapped = false
  /** Whether the response waits for an earlier one on its connection (pipelining). */
  #waiting = false
  #isCorked = false
  /** Whether, while it is corked, small chunks are put together here; else the socket keeps them. */
  #isGathering = false
  readonly #buffer: WriteBuffer
  /** The part of a large chunk that was not written yet. Nothing may be written before it is. */
  #rest: Buffer | null = null
  #restAt = 0
  /** Direct bytes since the socket was last seen empty. */
  #direct = 0
  /** Bytes handed to the response of an HTTP/2 stream. */
  #handed = 0
  /** Whether bytes stayed in the buffers, and 'drain' is awaited. */
  #blocked = false
  /** What 'drain' is listened for on: from the first time that it was full, until the connection ends. */
  #drainSource: Socket | ServerResponse | null = null
  #fullSince = 0
  #progress = 0

  constructor(res: ServerResponse, owner: OutputOwner, ticks: Ticks, gzip: GzipBody | null = null, gather = new WriteBuffer()) {
    this.#res = res
    this.#owner = owner
    this.#ticks = ticks
    this.gzip = gzip
    this.#buffer = gather
    this.touched = ticks.tick
  }

  /**
   * The socket that takes the bytes, or `null` where they go through the response. Code that writes to it directly must update
   * {@link touched}, and call {@link block} if bytes have stayed behind.
   */
  get socket(): Socket | null {
    return this.#socket
  }

  /** Whether bytes that are written to {@link socket} have to be framed. */
  get isFramed(): boolean {
    return this.#isFramed
  }

  /** Whether there is a connection that tells when the response is over. Tools that call an app without a server have none. */
  get isConnected(): boolean {
    return this.#waiting || isHttp2(this.#res) || socketOf(this.#res) !== null
  }

  /** Whether the end of the response has been written. */
  get isEnded(): boolean {
    return this.#res.writableEnded
  }

  /** Sends the head that was set on the response, and `first` with it. */
  begin(req: IncomingMessage, first: SharedBytes | null): void {
    const res = this.#res
    this.#wrapped = res.write !== ServerResponse.prototype.write
    const socket = this.#wrapped || req.httpVersionMajor >= 2 ? null : socketOf(res)
    // Node keeps the head for as long as the response lasts: sent by itself as one string, with more as a chain of its parts.
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

  /** Writes bytes that other streams may be given too. Call it only while not {@link full}. */
  write(shared: SharedBytes): void {
    const block = this.gzip === null ? shared : this.gzip.shared(shared)
    this.#write(this.#isFramed ? block.framed : block.bytes)
  }

  /** Writes bytes that are this stream's alone. Call it only while not {@link full}. */
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

  /** Gathers the writes up to {@link uncork} into one. Corked already, it stays so. */
  cork(): void {
    const socket = this.#socket
    if (socket === null || this.#isCorked) return
    this.#isCorked = true
    // A socket that encrypts takes long to let go of what it was given.
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
   * Writes text for this stream alone, full or not.
   *
   * @returns `false` and writes nothing when earlier direct writes are still queued and this one would take them over
   *   `maxQueuedBytes`.
   */
  writeDirect(text: string, maxQueuedBytes = Infinity): boolean {
    const length = Buffer.byteLength(text)
    let queued = this.#queuedDirect()
    if (queued > 0 && queued + length > maxQueuedBytes) {
      // After the head Node corks the socket until the next tick: what it holds back is not what the client leaves.
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
   * Ends the response after everything written so far: a chunked body by its last chunk. The connection goes on with other
   * requests, unless it is to be closed or its server is closing.
   */
  end(isConnectionClosed = false): void {
    this.#finishRest()
    this.uncork()
    if (this.gzip !== null) this.#put(this.#isFramed ? frame(this.gzip.end()) : this.gzip.end())
    this.#endConnection(isConnectionClosed)
    this.#fullSince = this.#ticks.tick
    this.#progress = this.#measure()
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

  /** The response was ended by somebody else: what was not written yet is dropped. Half an event makes it a cut. */
  abandon(): void {
    const isHalf = this.#rest !== null
    this.#rest = null
    this.#fullSince = this.#ticks.tick
    this.#progress = this.#measure()
    if (this.#isGathering) {
      this.#isGathering = this.#isCorked = false
      this.#buffer.end()
    }
    this.release()
    if (isHalf) this.#res.destroy()
  }

  /** The response is over, and its socket another's: nothing of this stream listens to it any more. */
  release(): void {
    this.#drainSource?.off('drain', this.#drained)
    this.#drainSource = this.#socket = null
    this.full = true
  }

  /** Bytes that were written have stayed in the buffers: it is {@link full} until they have left. */
  block(): void {
    this.full = true
    if (this.#blocked) return
    this.#blocked = true
    this.#fullSince = this.#ticks.tick
    this.#progress = this.#measure()
    const source = this.#socket ?? this.#res
    if (source === this.#drainSource) return
    this.#drainSource = source
    source.on('drain', this.#drained)
  }

  /** For how many ticks nothing has left a full or ended output. */
  stalledTicks(): number {
    const { tick } = this.#ticks
    if (this.#waiting) return 0
    const progress = this.#measure()
    if (progress !== this.#progress) {
      this.#progress = progress
      this.#fullSince = tick
    }
    return tick - this.#fullSince
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
      else if (!writeAll(socket, chunk) && (!this.#isCorked || this.#isGathering)) this.block()
      return
    }
    const res = this.#res
    if (isUnwritable(res)) {
      this.full = true
      return
    }
    try {
      this.#handed += chunk.length
      // A wrapper that returns nothing did not say that it is full.
      const answer: unknown = res.write(chunk)
      if (answer === false && (this.#transformed || res.writableLength > 0)) this.block()
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
    this.#buffer.leave()
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

  /** Puts the rest of a large event out at once, so that what follows does not land inside it. */
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

  /** The response's turn on its connection has come. */
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

  /** From now on bytes go straight to the socket, which has the head. */
  #writeTo(socket: Socket): void {
    this.#socket = socket
    this.#isFramed = this.#res.chunkedEncoding
  }

  /** Lets the connection end with the response where it must not be used again. */
  #endConnection(isClosed: boolean): void {
    if (isHttp2(this.#res)) return
    const socket = socketOf(this.#res)
    // Otherwise `server.close()` waits until the idle connection times out.
    if (socket !== null && (isClosed || isServerClosed(socket))) this.#res.once('finish', () => socket.destroySoon())
  }

  #queuedDirect(): number {
    if (this.#transformed) return this.full ? this.#direct : 0
    return Math.min(this.#direct, (this.#socket ?? this.#res).writableLength)
  }

  /** A number that changes whenever bytes have left, however many are added. */
  #measure(): number {
    const socket: QueuedSocket | null = this.#socket ?? (isHttp2(this.#res) ? null : socketOf(this.#res))
    if (socket === null) return this.#handed - (this.#res.writableLength ?? 0)
    return socket.bytesWritten - socket.writableLength - (socket._handle?.writeQueueSize ?? 0)
  }
}

/** Writes to a socket that is writable; `false` when bytes have stayed there, up to its high-water mark. */
export function writeAll(socket: Socket, bytes: Buffer): boolean {
  // A write over that mark says false even when the kernel took all of it.
  return socket.write(bytes) || socket.writableLength === 0
}

/** The real socket that a response is sent to now; `null` while it waits for its turn, and where there is none. */
function socketOf(res: ServerResponse): Socket | null {
  return isRealSocket(res.socket) ? res.socket : null
}

function isRealSocket(socket: unknown): socket is Socket {
  return socket instanceof Socket
}

/** Whether the server of a socket accepts no more connections. */
function isServerClosed(socket: Socket): boolean {
  const { server } = socket as Socket & { readonly server?: { readonly listening?: boolean } | null }
  return server?.listening === false
}

function uncorkSocket(socket: Socket): void {
  socket.uncork()
}
