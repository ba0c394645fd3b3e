import net from 'node:net'
import { StringDecoder } from 'node:string_decoder'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { parseId } from '../../../lib/event/event-id.ts'
import type { Received } from './delivery-check.ts'
import { BlockScanner } from '../block-scanner.ts'
import { ChunkedBody } from '../chunked-body.ts'
import { seqOf } from './load.ts'

/** Delays before a reconnect, after a cut and after a refusal. Real clients wait much longer. */
const BACK_MS = 30
const REFUSED_MS = 200

/** A client that reconnects with its Last-Event-ID whenever its connection ends, and records every item that it receives. */
export class ResumingClient {
  readonly channels: readonly string[]
  readonly received: Received[] = []
  lastEventId = ''
  /** True after `stream-open` on the current connection. */
  isLive = false
  resets = 0
  connects = 0
  /** Number of `stream-end` events, which ask the client to reconnect later. */
  refusals = 0
  /** Answers that are not event streams. */
  readonly wrong: string[] = []
  /** Number of channels whose last event has arrived. */
  ends = 0
  /** Number of the event from which on an event ends the load of its channel. */
  endsAt = Infinity
  /** Port of the server, or `null` while the client stays away. */
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

  /** Cuts the connection, and stays away until {@link comeBack}. */
  stayAway(): void {
    this.#port = null
    this.#socket?.destroy()
  }

  /** Uses this port from now on, immediately if there is no connection. */
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
    const at = parseId(id ?? '')
    if (id === undefined || at === undefined) {
      this.wrong.push(`an event without an id: ${event} ${id} ${data.slice(0, 80)}`)
      return
    }
    this.lastEventId = id
    if (event === 'stream-reset') {
      const { channels, reason } = JSON.parse(data) as { channels: string[]; reason: string }
      this.resets++
      this.received.push({ kind: 'reset', channels, reason, ...at, at: Date.now() * 1_000 })
    } else if (event?.startsWith('stream-')) {
      if (event === 'stream-open') this.isLive = true
      this.received.push({ kind: 'place', ...at })
    } else {
      const seq = seqOf(data)
      this.received.push({ kind: 'event', channel: decodeURIComponent(id.slice(id.indexOf('/') + 1)), ...at, seq })
      if (seq !== undefined && seq >= this.endsAt) this.ends++
    }
  }
}

/** Returns true for the status and the fields of an event stream with a chunked body. */
function isEventStream(head: string): boolean {
  const fields = `${head.toLowerCase()}\r\n`
  return (
    fields.startsWith('http/1.1 200 ') &&
    fields.includes('\r\ncontent-type: text/event-stream; charset=utf-8\r\n') &&
    fields.includes('\r\ntransfer-encoding: chunked\r\n')
  )
}
