import type { Socket } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { GzipBody } from '../../lib/gzip/gzip-body.ts'
import type { SharedBytes } from '../../lib/gzip/shared-bytes.ts'
import type { ClientConnection, ConnectionFeed } from '../../lib/hub/client-connection.ts'

/** A connection whose socket keeps every write, and is full when the test says so. */
export class FakeConnection {
  readonly keepAliveMs = 15_000
  /** What went out: blocks of a gzip stream where it takes gzip. */
  readonly writes: Buffer[] = []
  /** Becomes full after so many more writes. */
  room = Infinity
  isOpen = true
  /** Whether its end told the client not to come back. */
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

  /** The same object, as the hub knows it. */
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

  /** Takes bytes again, for `room` writes. */
  drain(room = Infinity): void {
    this.room = room
    this.output.full = false
    this.feed?.drained()
  }

  /** The client goes away. */
  leave(): void {
    this.isOpen = false
    this.feed?.released()
    this.feed?.finished()
    this.feed = null
  }

  /** What the client reads: of gzip once it has left. */
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

/** The next turn of the event loop. */
export async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}
