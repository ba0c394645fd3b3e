import net from 'node:net'
import { channelOf, DIGITS, MARKER, indexOf } from '../support/sequence.ts'
import type { ConnectOrder } from './load-process.ts'

const HEAD_END = '\r\n\r\n'
const MARK = Buffer.from(MARKER)
const WHOLE = MARK.length + DIGITS
const QUOTE = 0x22
const ZERO = 0x30
/** Number of source addresses of the loopback network. With several, the ports do not run out. */
const SOURCES = 8

/**
 * A connection to an event stream. It checks that every event is the expected one. For speed it searches the bytes for
 * the sequence numbers, and parses nothing else.
 */
export class Subscriber {
  deliveries = 0
  bytes = 0
  /** First fault, or `''`. */
  violation = ''
  readonly #channels: readonly number[]
  /** Index of the next expected event of each channel. */
  readonly #due: number[]
  readonly #order: ConnectOrder
  readonly #number: number
  readonly #shared: Buffer
  #socket: net.Socket | null = null
  #head = ''
  #onHead: (() => void) | null = null
  #onFailure: ((error: Error) => void) | null = null
  /** Start of a marker or number at the end of the last bytes. */
  #carry: Buffer | null = null
  #isClosed = false

  constructor(channels: readonly number[], order: ConnectOrder, number: number, shared: Buffer) {
    this.#channels = channels
    this.#due = channels.map(() => order.from ?? 0)
    this.#order = order
    this.#number = number
    this.#shared = shared
  }

  /** Connects, and resolves when the head of the answer has arrived. */
  async open(): Promise<void> {
    const { port, path, headers = [], named = false, reads = true } = this.#order
    const target = named ? `${path}?c=${this.#channels.join(',')}` : path
    await new Promise<void>((resolve, reject) => {
      this.#onHead = resolve
      this.#onFailure = reject
      const socket = net.connect({
        host: '127.0.0.1',
        port,
        localAddress: `127.0.0.${2 + (this.#number % SOURCES)}`,
        noDelay: true,
        onread: {
          buffer: this.#shared,
          callback: (length, buffer) => {
            this.#take((buffer as Buffer).subarray(0, length))
            return reads || this.#onHead !== null
          },
        },
      })
      this.#socket = socket
      socket.on('error', (error) => this.#fail(error.message))
      socket.on('close', () => this.#fail('the connection was closed'))
      socket.write(`${[`GET ${target} HTTP/1.1`, 'Host: bench', 'Accept: text/event-stream', ...headers].join('\r\n')}${HEAD_END}`)
    })
  }

  /** Returns true once every published event of each channel has arrived. */
  has(published: readonly number[]): boolean {
    if (this.violation !== '') throw new Error(`VIOLATION: ${this.violation}`)
    return this.#channels.every((channel, n) => (this.#due[n] ?? 0) >= (published[channel] ?? 0))
  }

  describe(published: readonly number[]): string {
    return this.#channels.map((channel, n) => `channel ${channel}: ${this.#due[n]} of ${published[channel]}`).join(', ')
  }

  close(): void {
    this.#isClosed = true
    // A reset leaves no port in TIME_WAIT.
    this.#socket?.resetAndDestroy()
  }

  #fail(reason: string): void {
    if (this.#isClosed) return
    this.violation ||= `client ${this.#number}: ${reason}`
    this.#onFailure?.(new Error(this.violation))
  }

  #take(chunk: Buffer): void {
    let bytes = chunk
    if (this.#onHead !== null) {
      this.#head += chunk.toString('latin1')
      const end = this.#head.indexOf(HEAD_END)
      if (end === -1) return
      if (!this.#head.startsWith('HTTP/1.1 200')) this.#fail(`the answer was ${this.#head.slice(0, 60)}`)
      bytes = chunk.subarray(chunk.length - (this.#head.length - end - HEAD_END.length))
      this.#onHead()
      this.#onHead = this.#onFailure = null
      this.#head = ''
    }
    this.bytes += bytes.length
    if (this.#order.opaque !== true) this.#scan(bytes)
  }

  #scan(bytes: Buffer): void {
    let from = 0
    if (this.#carry !== null) {
      const joined = Buffer.concat([this.#carry, bytes.subarray(0, WHOLE)])
      const length = this.#carry.length
      this.#carry = null
      if (joined.length < WHOLE) {
        this.#keep(joined)
        return
      }
      if (joined.indexOf(MARK) === 0) {
        this.#see(joined, MARK.length)
        from = WHOLE - length
      }
    }
    for (;;) {
      const at = bytes.indexOf(MARK, from)
      if (at === -1 || at + WHOLE > bytes.length) break
      this.#see(bytes, at + MARK.length)
      from = at + WHOLE
    }
    this.#keep(bytes.subarray(Math.max(from, bytes.length - WHOLE + 1)))
  }

  /** Keeps a possible start of a marker with its number. */
  #keep(tail: Buffer): void {
    for (let at = tail.indexOf(QUOTE); at !== -1; at = tail.indexOf(QUOTE, at + 1)) {
      const rest = tail.subarray(at)
      const marked = Math.min(rest.length, MARK.length)
      if (rest.compare(MARK, 0, marked, 0, marked) !== 0) continue
      this.#carry = Buffer.from(rest)
      return
    }
  }

  #see(bytes: Buffer, at: number): void {
    let sequence = 0
    for (let digit = at; digit < at + DIGITS; digit++) sequence = sequence * 10 + (bytes[digit] ?? 0) - ZERO
    const n = this.#channels.length === 1 && channelOf(sequence) === this.#channels[0] ? 0 : this.#channels.indexOf(channelOf(sequence))
    const due = this.#due[n]
    const index = indexOf(sequence)
    if (index !== due) {
      this.violation ||= `client ${this.#number} received event ${index} of channel ${channelOf(sequence)} instead of ${due}`
    }
    this.#due[n] = index + 1
    this.deliveries++
  }
}
