import http from 'node:http'
import { PassThrough } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { until } from './client.ts'

/** A client that accepts gzip, parses events as soon as they can be decompressed, and records how the stream ends. */
export class GzipClient {
  readonly events: EventSourceMessage[] = []
  readonly comments: string[] = []
  readonly response: http.IncomingMessage
  /** Chunks received over the wire, still compressed. */
  readonly bytes: Buffer[] = []
  text = ''
  /** `'end'` after a complete stream, or the error message of gunzip. */
  end: string | undefined
  readonly #request: http.ClientRequest

  private constructor(request: http.ClientRequest, response: http.IncomingMessage) {
    this.#request = request
    this.response = response
    const parser = createParser({ onEvent: (event) => this.events.push(event), onComment: (comment) => this.comments.push(comment) })
    response.on('data', (chunk: Buffer) => this.bytes.push(chunk)).on('error', () => {})
    const body = response.pipe(response.headers['content-encoding'] === 'gzip' ? createGunzip() : new PassThrough())
    body.setEncoding('utf8')
    body.on('data', (text: string) => {
      this.text += text
      parser.feed(text)
    })
    body.on('end', () => (this.end = 'end')).on('error', (error) => (this.end ??= error.message))
  }

  /** Opens a stream, and resolves when the head of the answer has arrived. */
  static async open(url: string, headers: http.OutgoingHttpHeaders = {}): Promise<GzipClient> {
    const request = http.get(url, {
      agent: false,
      headers: { accept: 'text/event-stream', 'accept-encoding': 'gzip, deflate, br', ...headers },
    })
    return new Promise((resolve, reject) => {
      request.once('response', (response) => resolve(new GzipClient(request, response))).on('error', reject)
    })
  }

  get wire(): Buffer {
    return Buffer.concat(this.bytes)
  }

  get names(): string[] {
    return this.events.map(({ event }) => event ?? 'message')
  }

  get lastId(): string {
    return this.events.findLast(({ id }) => id !== undefined)?.id ?? ''
  }

  /** The data of the events with this name, parsed from JSON. */
  data(name: string): unknown[] {
    return this.events.filter(({ event }) => event === name).map(({ data }) => JSON.parse(data) as unknown)
  }

  async received(name: string, count = 1): Promise<this> {
    await until(() => this.names.filter((one) => one === name).length >= count, `${count} events ${name} arrived, of ${this.names.join()}`)
    return this
  }

  async over(): Promise<void> {
    await until(() => this.end !== undefined, 'the response has ended')
  }

  /** Cuts the connection. */
  leave(): void {
    this.#request.destroy()
  }
}
