import http from 'node:http'
import { PassThrough } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { until } from './client.ts'

/** A client that takes gzip, reads events as they can be decoded, and needs the stream to end as gzip does. */
export class GzipClient {
  readonly events: EventSourceMessage[] = []
  readonly response: http.IncomingMessage
  /** What came over the wire. */
  readonly bytes: Buffer[] = []
  text = ''
  /** How the stream ended: `'end'`, or what gunzip had against it. */
  end: string | undefined
  readonly #request: http.ClientRequest

  private constructor(request: http.ClientRequest, response: http.IncomingMessage) {
    this.#request = request
    this.response = response
    const parser = createParser({ onEvent: (event) => this.events.push(event) })
    response.on('data', (chunk: Buffer) => this.bytes.push(chunk)).on('error', () => {})
    const body = response.pipe(response.headers['content-encoding'] === 'gzip' ? createGunzip() : new PassThrough())
    body.setEncoding('utf8')
    body.on('data', (text: string) => {
      this.text += text
      parser.feed(text)
    })
    body.on('end', () => (this.end = 'end')).on('error', (error) => (this.end ??= error.message))
  }

  /** Settles when the head of the answer has come. */
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
    await until(() => this.names.filter((one) => one === name).length >= count, `${count} times ${name} came, of ${this.names.join()}`)
    return this
  }

  async over(): Promise<void> {
    await until(() => this.end !== undefined, 'the response is over')
  }

  /** Cuts the connection. */
  leave(): void {
    this.#request.destroy()
  }
}
