import http from 'node:http'
import { createParser, type EventSourceMessage } from 'eventsource-parser'

/** Waits for a condition, and checks it about every millisecond. The timeout is long, so that only a hang fails, and not a busy machine. */
export async function until(condition: () => boolean, what: string, timeoutMs = 60_000): Promise<void> {
  const end = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > end) throw new Error(`timed out waiting until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

/** Waits until a loop is blocked: `count`, the number of its iterations, is above 0 and does not change in many checks. */
export async function untilBlocked(count: () => number, checks = 500): Promise<void> {
  let same = 0
  let last = 0
  await until(() => {
    const now = count()
    same = now === last && now > 0 ? same + 1 : 0
    last = now
    return same > checks
  }, 'the loop is blocked')
}

export interface ClientOptions {
  readonly method?: string
  readonly headers?: http.OutgoingHttpHeaders
  readonly body?: string
}

/** A client that parses an event stream with eventsource-parser, and can pause, resume and leave. */
export class TestClient {
  readonly events: EventSourceMessage[] = []
  readonly comments: string[] = []
  readonly retries: number[] = []
  text = ''
  ended = false
  readonly response: http.IncomingMessage
  readonly #request: http.ClientRequest

  private constructor(request: http.ClientRequest, response: http.IncomingMessage) {
    this.#request = request
    this.response = response
    const parser = createParser({
      onEvent: (event) => this.events.push(event),
      onComment: (comment) => this.comments.push(comment),
      onRetry: (retry) => this.retries.push(retry),
    })
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => {
      this.text += chunk
      parser.feed(chunk)
    })
    response.on('error', () => {})
    response.on('close', () => (this.ended = true))
  }

  /** Opens a stream, and resolves when the head of the answer has arrived. */
  static async open(url: string, { method = 'GET', headers = {}, body }: ClientOptions = {}): Promise<TestClient> {
    return new Promise((resolve, reject) => {
      const request = http.request(url, { method, agent: false, headers: { accept: 'text/event-stream', ...headers } })
      request.once('response', (response) => resolve(new TestClient(request, response)))
      request.on('error', reject)
      request.end(body)
    })
  }

  get status(): number {
    return this.response.statusCode ?? 0
  }

  /** Data of {@link channelEvents}, parsed from JSON. */
  get data(): unknown[] {
    return this.channelEvents.map((event) => JSON.parse(event.data) as unknown)
  }

  /** Events of channels: all except `stream-open` and the other events of the protocol. */
  get channelEvents(): EventSourceMessage[] {
    return this.events.filter((event) => !event.event?.startsWith('stream-'))
  }

  named(name: string): EventSourceMessage[] {
    return this.events.filter((event) => event.event === name)
  }

  get lastId(): string {
    return this.events.findLast((event) => event.id !== undefined)?.id ?? ''
  }

  /** Waits for `stream-open`, after which the client is live. */
  async live(): Promise<this> {
    await until(() => this.named('stream-open').length > 0, 'the client is live')
    return this
  }

  async received(count: number): Promise<void> {
    await until(() => this.channelEvents.length >= count, `${count} events arrived (${this.channelEvents.length} have)`)
  }

  async over(): Promise<void> {
    await until(() => this.ended, 'the response has ended')
  }

  pause(): void {
    this.response.pause()
  }

  resume(): void {
    this.response.resume()
  }

  /** Cuts the connection. */
  leave(): void {
    this.#request.destroy()
  }
}
