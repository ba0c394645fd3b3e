import { frame, FramedBytes } from '../basics/framed-bytes.ts'
import { deflate } from '../gzip/deflate.ts'
import { SharedBytes, type Window } from '../gzip/shared-bytes.ts'

/** A smaller chunk from the middle of a page is not compressed. A filter or several channels cause it, so few streams share it. */
const MIN_PIECE_BYTES = 1_024

/** The part of a log page that its chunks use. */
export interface ChunkedPage {
  /** Position of the event in each slot. */
  readonly positions: readonly number[]
  /** Number of slots. */
  readonly count: number
  /** The events from slot `start` up to but not including slot `end`, without their frames. */
  plainBytesOf(start: number, end: number): Buffer
  /** The first slot that a block of the event in `slot` may refer to. */
  segmentStart(slot: number): number
}

/**
 * Consecutive events of one page, as the bytes that are written to every subscriber whose cursor is before them. The bytes are
 * a view of the page, never a copy.
 */
export class PageChunk<Page extends ChunkedPage> extends SharedBytes {
  readonly page: Page
  /** Number of events. */
  readonly count: number
  /** Position of the last event. */
  readonly position: number
  /** Slots of the page, from `start` up to but not including `end`. */
  readonly start: number
  readonly end: number
  /** Position of the first event that the blocks of {@link deflatedSince} refer to, or `-Infinity` if there is none. */
  #referableFrom: number | null = null
  #deflatedInWindow: FramedBytes | null = null

  constructor(page: Page, framed: Buffer, start: number, end: number) {
    super(framed, framed.length >= MIN_PIECE_BYTES || end === page.count)
    this.page = page
    this.count = end - start
    this.position = page.positions[end - 1] as number
    this.start = start
    this.end = end
  }

  /** A single event is a view of the page. For several events, the page keeps a copy without frames, and this is a view of it. */
  override get bytes(): Buffer {
    return this.count === 1 ? super.bytes : this.page.plainBytesOf(this.start, this.end)
  }

  /**
   * The events as blocks of raw DEFLATE for a stream that has received every event from position `from` up to these events.
   * The blocks refer to those earlier events if `from` is early enough. They are shared, too.
   */
  deflatedSince(from: number): FramedBytes {
    const { page, start } = this
    this.#referableFrom ??= this.#findReferableFrom()
    if (from > this.#referableFrom) return this.deflated
    return (this.#deflatedInWindow ??= new FramedBytes(frame(deflate(this.bytes, page.plainBytesOf(page.segmentStart(start), start)))))
  }

  override deflatedFor(window: Window): FramedBytes {
    const { page, start } = this
    const previous = start === 0 ? 0 : (page.positions[start - 1] as number)
    if (window.endPosition !== previous) window.startPosition = page.positions[start] as number
    window.endPosition = this.position
    return this.deflatedSince(window.startPosition)
  }

  #findReferableFrom(): number {
    const first = this.page.segmentStart(this.start)
    return this.isCompressed && first < this.start ? (this.page.positions[first] as number) : -Infinity
  }
}
