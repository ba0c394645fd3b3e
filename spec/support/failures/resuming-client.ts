import net from 'node:net'
import { StringDecoder } from 'node:string_decoder'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { parseId } from '../../../lib/event/event-id.ts'
import type { Received } from './delivery-check.ts'
import { BlockScanner } from '../block-scanner.ts'
import { ChunkedBody } from '../chunked-body.ts'
import { seqOf } from './load.ts'

/** How long a client waits before it comes back: after a cut, and after it was told to come back later. Far less than real ones do. */
const BACK_MS = 30
const REFUSED_MS = 200

/** A client that comes back with its Last-Event-ID whenever its connection ends, and notes what it is given. */
export class ResumingClient {
  readonly channels: readonly string[]
  readonly received: Received[] = []
  lastEventId = ''
  /** Whether it was told that it is live, on the connection that it has. */
  isLive = false
  resets = 0
  connects = 0
  /** How often it was answered politely that it should come back later. */
  refusals = 0
  /** Answers that are not event streams. */
  readonly wrong: string[] = []
  /** How many of its channels have reached the end. */
  ends = 0
  /** The number of the event that ends the load of each channel. */
  endsAt = Infinity
  /** The port that it goes to. `null`: it stays away for a while. */
  #port: number | null
  readonly #random: () => number
  #socket: net.Socket | null = null
  #timer: NodeJS.Timeout | undefined
  #isStopped = false

  constructor(channels: readonly string[], port: number, random: () => number) {
    this.channels = channels
    this.#port = port
    this.#random = random
    this.#connect()
  }

  /** Cuts its connection, and stays away until {@link comeBack}. */
  stayAway(): void {
    this.#port = null
    this.#socket?.destroy()
  }

  /** Goes to this port from now on, at once where it has no connection. */
  comeBack(port: number): void {
    this.#port = port
    if (this.#socket?.destroyed !== false) this.#connect()
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
    this.#socket?.destroy()
  }

  #connect(): void {
    clearTimeout(this.#timer)
    if (this.#port === null || this.#isStopped) return
    this.connects++
    const socket = net.connect({ port: this.#port, host: '127.0.0.1', noDelay: true })
    this.#socket = socket
    const query = this.channels.map((channel) => `channel=${encodeURIComponent(channel)}`).join('&')
    const id = this.lastEventId === '' ? '' : `Last-Event-ID: ${this.lastEventId}\r\n`
    socket.write(`GET /events?${query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n${id}\r\n`)
    let isRefused = false
    let head: Buffer | null = Buffer.alloc(0)
    const parser = createParser({ onEvent: (event) => (event.event === 'stream-end' ? (isRefused = true) : this.#take(event)) })
    const decoder = new StringDecoder('utf8')
    const scanner = new BlockScanner((block) => this.wrong.push(`a blank line without a data: line before it, after ${block}`))
    const body = new ChunkedBody((bytes) => {
      scanner.feed(bytes)
      parser.feed(decoder.write(bytes))
    })
    socket.on('data', (bytes: Buffer) => {
      if (head === null) return body.feed(bytes)
      head = Buffer.concat([head, bytes])
      const end = head.indexOf('\r\n\r\n')
      if (end === -1) return undefined
      const fields = head.toString('latin1', 0, end)
      if (!isEventStream(fields)) this.wrong.push(fields)
      body.feed(head.subarray(end + 4))
      head = null
      return undefined
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.isLive = false
      if (isRefused) this.refusals++
      const ms = isRefused ? REFUSED_MS * (0.5 + this.#random()) : BACK_MS * this.#random()
      clearTimeout(this.#timer)
      this.#timer = setTimeout(() => this.#connect(), ms)
    })
  }

  #take({ id, event, data }: EventSourceMessage): void {
    const place = parseId(id ?? '')
    if (id === undefined || place === undefined) {
      this.wrong.push(`an event without an id: ${event} ${id} ${data.slice(0, 80)}`)
      return
    }
    this.lastEventId = id
    if (event === 'stream-reset') {
      const { channels, reason } = JSON.parse(data) as { channels: string[]; reason: string }
      this.resets++
      this.received.push({ kind: 'reset', channels, reason, ...place, at: Date.now() * 1_000 })
    } else if (event?.startsWith('stream-')) {
      if (event === 'stream-open') this.isLive = true
      this.received.push({ kind: 'place', ...place })
    } else {
      const seq = seqOf(data)
      this.received.push({ kind: 'event', channel: decodeURIComponent(id.slice(id.indexOf('/') + 1)), ...place, seq })
      if (seq !== undefined && seq >= this.endsAt) this.ends++
    }
  }
}

/** Whether these are the status and the fields of an event stream with a chunked body. */
function isEventStream(head: string): boolean {
  const fields = `${head.toLowerCase()}\r\n`
  return (
    fields.startsWith('http/1.1 200 ') &&
    fields.includes('\r\ncontent-type: text/event-stream; charset=utf-8\r\n') &&
    fields.includes('\r\ntransfer-encoding: chunked\r\n')
  )
}
