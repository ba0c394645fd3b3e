import { gunzipSync } from 'node:zlib'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { GzipBody } from '../../lib/gzip/gzip-body.ts'
import type { SharedBytes } from '../../lib/gzip/shared-bytes.ts'
import type { Connection, Feed } from '../../lib/stream/connection.ts'

/** A connection without a socket: it keeps every write, and is full when the test says so. */
export class FakeConnection {
  readonly context = { keepAliveMs: 15_000 as const }
  readonly writes: Buffer[] = []
  /** Becomes full after so many more writes. */
  room = Infinity
  isOpen = true
  feed: Feed | null = null
  onWrite: (chunk: Buffer) => void = () => {}
  /** The same writes as a gzip stream, where it has one. */
  readonly gzipped: Buffer[] = []
  readonly output
  readonly #gzip: GzipBody | null

  constructor(gzip: GzipBody | null = null) {
    this.#gzip = gzip
    if (gzip !== null) this.gzipped.push(gzip.begin(Buffer.alloc(0)))
    this.output = {
      full: false,
      isGzip: gzip !== null,
      isDirect: true,
      socket: null,
      touched: 0,
      block: (): void => {},
      write: (shared: SharedBytes): void => {
        if (gzip !== null) this.gzipped.push(gzip.shared(shared))
        this.#take(shared.bytes)
      },
      writeOwn: (bytes: Buffer): void => {
        if (gzip !== null) this.gzipped.push(gzip.own(bytes))
        this.#take(bytes)
      },
      cork: (): void => {},
      uncork: (): void => {},
    }
  }

  /** The same object, as the hub knows it. */
  get asConnection(): Connection {
    return this as unknown as Connection
  }

  feedFrom(feed: Feed): void {
    this.feed = feed
  }

  unfeed(): void {
    this.feed = null
  }

  end(): void {
    this.feed?.flush()
    this.leave()
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

  /** What a client that takes gzip makes of the writes. */
  get gunzipped(): Buffer {
    return gunzipSync(Buffer.concat([...this.gzipped, this.#gzip?.end() ?? Buffer.alloc(0)]))
  }

  get events(): EventSourceMessage[] {
    return parse(Buffer.concat(this.writes).toString())
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

/** Numbers from 0 to 1 that can be had again from the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
