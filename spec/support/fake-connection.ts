import type { Socket } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { GzipBody } from '../../lib/gzip/gzip-body.ts'
import type { SharedBytes } from '../../lib/gzip/shared-bytes.ts'
import type { ClientConnection, ConnectionFeed } from '../../lib/hub/client-connection.ts'

/** A connection without a network. Its socket keeps every write, and is full when the test says so. */
export class FakeConnection {
  readonly keepAliveMs = 15_000
  /** The bytes of each write; the blocks of a gzip stream if the client accepts gzip. */
  readonly writes: Buffer[] = []
  /** The number of writes after which the socket is full. */
  room = Infinity
  isOpen = true
  /** Whether the stream was ended with `stream-close`, so that the client does not reconnect. */
  isEndedForGood = false
  feed: ConnectionFeed | null = null
  onWrite: (chunk: Buffer) => void = () => {}
  readonly output
  readonly #gzip: GzipBody | null

  constructor(gzip: GzipBody | null = null) {
    this.#gzip = gzip
    if (gzip !== null) this.writes.push(gzip.begin(Buffer.alloc(0)))
    const isFull = (): boolean => this.output.full
    const socket = {
      writable: true,
      get writableLength() {
        return isFull() ? 1 : 0
      },
      write: (bytes: Buffer): boolean => {
        this.#take(bytes)
        return !isFull()
      },
    }
    this.output = {
      full: false,
      gzip,
      isFramed: false,
      socket: socket as unknown as Socket,
      touched: 0,
      block: (): void => {},
      write: (shared: SharedBytes): void => this.#take((gzip === null ? shared : gzip.shared(shared)).bytes),
      writeOwn: (bytes: Buffer): void => this.#take(gzip === null ? bytes : gzip.own(bytes)),
      cork: (): void => {},
      uncork: (): void => {},
    }
  }

  /** The same object, as the type that the hub takes. */
  get asConnection(): ClientConnection {
    return this
  }

  attach(feed: ConnectionFeed): void {
    this.feed = feed
  }

  detach(): void {
    this.feed = null
  }

  ticksIn(): number {
    return Infinity
  }

  end(): void {
    this.feed?.flush()
    this.leave()
  }

  endForGood(): void {
    this.isEndedForGood = true
    if (this.feed === null || this.feed.finish(() => this.leave())) this.leave()
  }

  destroy(): void {
    this.leave()
  }

  /** Empties the socket, which then takes `room` writes. */
  drain(room = Infinity): void {
    this.room = room
    this.output.full = false
    this.feed?.drained()
  }

  /** Disconnects the client. */
  leave(): void {
    this.isOpen = false
    this.feed?.released()
    this.feed?.finished()
    this.feed = null
  }

  /** Everything that the client has received. With gzip, read it only after the client has left. */
  get text(): string {
    const wire = Buffer.concat(this.writes)
    return (this.#gzip === null ? wire : gunzipSync(Buffer.concat([wire, this.#gzip.end()]))).toString()
  }

  get events(): EventSourceMessage[] {
    return parse(this.text)
  }

  get channelEvents(): EventSourceMessage[] {
    return this.events.filter((event) => !event.event?.startsWith('stream-'))
  }

  #take(chunk: Buffer): void {
    this.writes.push(chunk)
    this.onWrite(chunk)
    this.room--
    if (this.room <= 0) this.output.full = true
  }
}

export function parse(text: string): EventSourceMessage[] {
  const events: EventSourceMessage[] = []
  createParser({ onEvent: (event) => events.push(event) }).feed(text)
  return events
}

/** Resolves in the next turn of the event loop. */
export async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

export async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n++) await turn()
}
