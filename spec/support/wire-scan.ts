import { ServerResponse } from 'node:http'
import { Http2ServerResponse } from 'node:http2'
import type { Socket } from 'node:net'
import { constants, gunzipSync } from 'node:zlib'
import { BlockScanner } from './block-scanner.ts'
import { ChunkedBody } from './chunked-body.ts'

/**
 * Scans every event stream that servers in the process of a spec send. A blank line must not occur without a `data:` line
 * before it. Jest runs this file before each spec. All specs of a process share Node's own modules, so the file patches
 * them once.
 */
const SCANNED = Symbol.for('express-sse-hub.spec.scanned')
const FOUND = Symbol.for('express-sse-hub.spec.found')
const shared = ServerResponse.prototype as unknown as Record<symbol, string[] | undefined>
const found = (shared[FOUND] ??= [])

/** Reads the responses of one connection. */
class ConnectionScanner {
  #head = ''
  #body: ((bytes: Buffer) => void) | null = null
  /** Compressed bytes. They are scanned when the connection closes. */
  readonly #compressed: Buffer[] = []

  feed(bytes: Buffer): void {
    // Node starts a head only at the start of a write.
    if (bytes.subarray(0, 7).toString('latin1') === 'HTTP/1.') {
      this.#head = ''
      this.#body = null
    } else if (this.#body !== null) {
      this.#body(bytes)
      return
    } else if (this.#head === '') {
      return
    }
    this.#head += bytes.toString('latin1')
    const end = this.#head.indexOf('\r\n\r\n')
    if (end === -1) return
    const fields = this.#head.slice(0, end).toLowerCase()
    const rest = Buffer.from(this.#head.slice(end + 4), 'latin1')
    this.#head = ''
    if (!fields.includes('\r\ncontent-type: text/event-stream')) return
    this.#body = this.#reader(fields)
    if (rest.length > 0) this.#body(rest)
  }

  /** Scans the compressed bytes, after the connection has closed. */
  end(): void {
    if (this.#compressed.length === 0) return
    new BlockScanner((block) => found.push(block)).feed(
      gunzipSync(Buffer.concat(this.#compressed), { finishFlush: constants.Z_SYNC_FLUSH }),
    )
  }

  #reader(fields: string): (bytes: Buffer) => void {
    const scanner = new BlockScanner((block) => found.push(block))
    const plain = fields.includes('\r\ncontent-encoding: gzip')
      ? (bytes: Buffer) => void this.#compressed.push(Buffer.from(bytes))
      : (bytes: Buffer) => scanner.feed(bytes)
    if (fields.includes('\r\ncontent-encoding: ') && !fields.includes('\r\ncontent-encoding: gzip')) return () => {}
    if (!fields.includes('\r\ntransfer-encoding: chunked')) return plain
    const body = new ChunkedBody(plain)
    return (bytes) => {
      if (!body.isComplete) body.feed(bytes)
    }
  }
}

type Written = string | Uint8Array
type Write = (this: unknown, chunk: Written, ...rest: unknown[]) => boolean

function bytesOf(chunk: Written, encoding: unknown): Buffer {
  if (typeof chunk === 'string') return Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8')
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
}

function scanSocket(socket: Socket & { [SCANNED]?: true }): void {
  if (socket[SCANNED]) return
  socket[SCANNED] = true
  const scanner = new ConnectionScanner()
  const write = socket.write.bind(socket) as unknown as Write
  socket.write = (chunk: Written, ...rest: unknown[]) => {
    scanner.feed(bytesOf(chunk, rest[0]))
    return write.call(socket, chunk, ...rest)
  }
  socket.once('close', () => scanner.end())
}

function scanHttp1(): void {
  const prototype = ServerResponse.prototype as unknown as { assignSocket: (this: unknown, socket: Socket) => void }
  const { assignSocket } = prototype
  prototype.assignSocket = function (socket) {
    if (typeof socket.once === 'function') scanSocket(socket)
    assignSocket.call(this, socket)
  }
}

function scanHttp2(): void {
  const scanners = new WeakMap<object, BlockScanner>()
  const prototype = Http2ServerResponse.prototype as unknown as { write: Write }
  const { write } = prototype
  prototype.write = function (chunk, ...rest) {
    const response = this as Http2ServerResponse
    const type = response.getHeader('content-type') as string | undefined
    const isPlain = (type ?? '').startsWith('text/event-stream') && !response.hasHeader('content-encoding')
    if (isPlain) {
      const scanner = scanners.get(response) ?? new BlockScanner((block) => found.push(block))
      scanners.set(response, scanner)
      scanner.feed(bytesOf(chunk, rest[0]))
    }
    return write.call(this, chunk, ...rest)
  }
}

if (!(SCANNED in ServerResponse.prototype)) {
  ;(ServerResponse.prototype as unknown as Record<symbol, true>)[SCANNED] = true
  scanHttp1()
  scanHttp2()
}

/** Returns the violations since the last call. */
export function takeFound(): string[] {
  return found.splice(0)
}

afterEach(() => {
  const blocks = takeFound()
  if (blocks.length > 0) {
    throw new Error(`a blank line was sent without a data: line before it, after ${JSON.stringify(blocks.slice(0, 3))}`)
  }
})
