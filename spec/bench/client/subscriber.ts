import net from 'node:net'
import { channelOf, DIGITS, MARKER, placeOf } from '../support/sequence.ts'
import type { ConnectOrder } from './load-process.ts'

const HEAD_END = '\r\n\r\n'
const MARK = Buffer.from(MARKER)
const WHOLE = MARK.length + DIGITS
const QUOTE = 0x22
const ZERO = 0x30
/** Source addresses of the loopback network, so that ports do not run out. */
const SOURCES = 8

/**
 * One connection to an event stream, which checks that every event is the one that is due: it looks for the sequence
 * numbers in the bytes, and parses nothing else.
 */
export class Subscriber {
  deliveries = 0
  bytes = 0
  /** What was wrong first, or `''`. */
  violation = ''
  readonly #channels: readonly number[]
  /** The place that is due next, of each channel. */
  readonly #due: number[]
  readonly #order: ConnectOrder
  readonly #number: number
  readonly #shared: Buffer
  #socket: net.Socket | null = null
  #head = ''
  #onHead: (() => void) | null = null
  #onFailure: ((error: Error) => void) | null = null
  /** The beginning of a marker or number at the end of the last bytes. */
  #carry: Buffer | null = null
  #isClosed = false

  constructor(channels: readonly number[], order: ConnectOrder, number: number, shared: Buffer) {
    this.#channels = channels
    this.#due = channels.map(() => order.from ?? 0)
    this.#order = order
    this.#number = number
    this.#shared = shared
  }

  /** Settles when the head of the answer is there. */
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

  /** Whether all that each channel was given has come. */
  has(published: readonly number[]): boolean {
    if (this.violation !== '') throw new Error(`VIOLATION: ${this.violation}`)
    return this.#channels.every((channel, slot) => (this.#due[slot] ?? 0) >= (published[channel] ?? 0))
  }

  describe(published: readonly number[]): string {
    return this.#channels.map((channel, slot) => `channel ${channel}: ${this.#due[slot]} of ${published[channel]}`).join(', ')
  }

  close(): void {
    this.#isClosed = true
    // Leaves no port in TIME_WAIT behind.
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

  /** Keeps what may be the beginning of a marker with its number. */
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
    for (let n = at; n < at + DIGITS; n++) sequence = sequence * 10 + (bytes[n] ?? 0) - ZERO
    const slot = this.#channels.length === 1 && channelOf(sequence) === this.#channels[0] ? 0 : this.#channels.indexOf(channelOf(sequence))
    const due = this.#due[slot]
    const place = placeOf(sequence)
    if (place !== due) this.violation ||= `client ${this.#number} got event ${place} of channel ${channelOf(sequence)} where ${due} was due`
    this.#due[slot] = place + 1
    this.deliveries++
  }
}
