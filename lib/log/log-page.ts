import { framedLength, frameText, headBytes, payloadLength } from '../basics/framed-bytes.ts'
import { PageChunk } from './page-chunk.ts'
import { PlainEvents } from './plain-events.ts'

/** Consecutive events of a log page, ready to be written to subscribers. */
export type Chunk = PageChunk<LogPage>

/**
 * Length of a segment of a page. For streams that are compressed, no chunk extends beyond the segment in which it begins. This
 * has two effects: streams that catch up from different positions soon share the same chunks, and a compressed block refers
 * only to events of its own segment.
 */
const SEGMENT_BYTES = 16_384

/** Number of the newest slots that are checked one by one before a binary search. */
const NEAR = 4

/** Number of chunks that a page caches: enough for groups of subscribers at different positions. */
const CACHED_CHUNKS = 8
/** Number of chunks of one event that a page caches. A batch for a stream of several channels consists of such chunks. */
const CACHED_SINGLES = 64
/** Number of segments in a page. Only the page of a single large event has more. */
const PAGE_SEGMENTS = 4

/**
 * One page of a replay log: a buffer into which each event is encoded once, one after the other, as a frame of a chunked body.
 * The buffer grows by doubling, so that a channel with few events uses little memory. A view of the old buffer that is still
 * being written to a socket stays valid.
 *
 * Events are removed from the beginning of the page, and from any slot if a newer event with the same key replaced them.
 *
 * The properties of events are kept in parallel arrays, because an object per event would take more memory and more time in
 * the garbage collector. Methods take and return slots, which are indices in these arrays, so that a read allocates nothing.
 */
export class LogPage {
  /**
   * Properties of the event in each slot: its position, the offset at which its frame ends, the time of its arrival (monotonic,
   * in ms), and whether its data is a plain string rather than JSON.
   */
  readonly positions: number[] = []
  readonly ends: number[] = []
  readonly times: number[] = []
  readonly strings: boolean[] = []
  /** The slot of the oldest event kept, or {@link count} if no event is kept. */
  first = 0
  /** Number of events kept, and the length of their frames. */
  kept = 0
  keptBytes = 0
  #buffer: Buffer
  #used = 0
  readonly #chunks: (Chunk | undefined)[] = []
  /** Keys by slot, and the slots after {@link first} whose events were removed. Both are made when needed. */
  #keys: Map<number, string> | null = null
  #gaps: Set<number> | null = null
  /** The events without frames, made when needed. */
  #plain: PlainEvents | null = null
  /**
   * Whether the page was filled from other pages. Subscribers may then have received events that were removed from between
   * these, so that a compressed block must not refer to earlier events of the page.
   */
  #isCompacted = false

  constructor(capacity: number) {
    this.#buffer = Buffer.allocUnsafeSlow(capacity)
  }

  /** Length of the frames of all its events, including removed ones. */
  get used(): number {
    return this.#used
  }

  /** Length of its buffer. */
  get capacity(): number {
    return this.#buffer.length
  }

  /** Number of slots, including those of removed events. */
  get count(): number {
    return this.ends.length
  }

  get lastPosition(): number {
    return this.positions[this.positions.length - 1] ?? 0
  }

  /** Appends an encoded event, which has `length` bytes of UTF-8. */
  append(block: string, length: number, position: number, time: number, isString: boolean, key: string | undefined): void {
    const frameLength = framedLength(length)
    this.#reserve(frameLength)
    this.#used += this.#buffer.write(frameText(block, length), this.#used, frameLength, 'utf8')
    this.#record(frameLength, position, time, isString, key)
  }

  /** Appends the events that another page keeps. */
  appendAll(page: LogPage): void {
    this.#isCompacted = true
    for (let slot = page.first; slot < page.count; slot = page.#nextSlot(slot)) {
      const frameLength = page.framedLengthOf(slot)
      this.#reserve(frameLength)
      this.#used += page.#buffer.copy(this.#buffer, this.#used, page.#startOf(slot), page.ends[slot])
      this.#record(frameLength, page.positions[slot] as number, page.times[slot] as number, page.strings[slot] as boolean, page.keyOf(slot))
    }
  }

  /** Removes the event in a slot. */
  remove(slot: number): void {
    this.kept--
    this.keptBytes -= this.framedLengthOf(slot)
    this.#keys?.delete(slot)
    if (slot === this.first) this.first = this.#nextSlot(slot)
    else (this.#gaps ??= new Set()).add(slot)
  }

  /** Length of the event in a slot, with its frame. */
  framedLengthOf(slot: number): number {
    return (this.ends[slot] as number) - this.#startOf(slot)
  }

  /** Length of the event in a slot, without its frame. */
  lengthOf(slot: number): number {
    return payloadLength(this.framedLengthOf(slot))
  }

  keyOf(slot: number): string | undefined {
    return this.#keys?.get(slot)
  }

  /** The encoded event in a slot, as text. */
  blockAt(slot: number): string {
    const length = this.lengthOf(slot)
    const start = this.#startOf(slot) + headBytes(length)
    return this.#buffer.toString('utf8', start, start + length)
  }

  /**
   * Returns the same as {@link slotAfter} if that is one of the newest slots and not {@link first}; otherwise -1. For the
   * subscribers that keep up, checking a few slots is faster than a search.
   */
  slotNear(position: number): number {
    if (this.#gaps !== null) return -1
    const { positions } = this
    const last = positions.length - 1
    const least = Math.max(this.first, last - NEAR)
    for (let slot = last; slot > least; slot--) {
      if ((positions[slot - 1] as number) <= position) return slot
    }
    return -1
  }

  /** The slot of the first event kept after `position`, or {@link count} if there is none. */
  slotAfter(position: number): number {
    const slot = this.#search(position)
    if (slot <= this.first) return this.first
    return this.#gaps?.has(slot) ? this.#nextSlot(slot) : slot
  }

  /** Position of the event before the last `n` events kept. The page must keep more than `n`. */
  positionBeforeLast(n: number): number {
    let slot = this.count
    for (let left = n; left >= 0; left--) {
      slot--
      while (this.#gaps?.has(slot)) slot--
    }
    return this.positions[slot] as number
  }

  /** End (exclusive) of the consecutive events from `slot` on. They end after the position `limit` or before a removed event. */
  endOf(slot: number, limit: number): number {
    const end = this.lastPosition <= limit ? this.count : this.#search(limit)
    if (this.#gaps === null) return end
    let next = slot + 1
    while (next < end && !this.#gaps.has(next)) next++
    return next
  }

  /** The first slot between `slot` and `end` that begins in another segment than `slot`, or `end` if there is none. */
  segmentEnd(slot: number, end: number): number {
    const limit = (this.#segmentOf(slot) + 1) * SEGMENT_BYTES
    return this.#startOf(end - 1) < limit ? end : this.#slotFrom(limit)
  }

  /** The first slot that a compressed block of the event in `slot` may refer to: the first one of its segment, or `slot` itself. */
  segmentStart(slot: number): number {
    return this.#isCompacted ? slot : this.#slotFrom(this.#segmentOf(slot) * SEGMENT_BYTES)
  }

  /** The events from slot `start` up to but not including slot `end`, removed ones included, without their frames. */
  plainBytesOf(start: number, end: number): Buffer {
    this.#plain ??= new PlainEvents()
    this.#plain.extend(this.#buffer, this.ends, end)
    return this.#plain.bytesOf(start, end)
  }

  /** The events from slot `start` up to but not including slot `end`. Chunks are cached, so that subscribers share one object. */
  chunk(start: number, end: number): Chunk {
    const cacheIndex = this.#cacheIndexOf(start, end)
    const cached = this.#chunks[cacheIndex]
    if (cached !== undefined && cached.start === start && cached.end === end) return cached
    const chunk = new PageChunk<LogPage>(this, this.#buffer.subarray(this.#startOf(start), this.ends[end - 1]), start, end)
    this.#chunks[cacheIndex] = chunk
    return chunk
  }

  /** Index of a chunk in the cache. Segments and single events have indices of their own, so that live chunks do not evict them. */
  #cacheIndexOf(start: number, end: number): number {
    if (end === start + 1) return PAGE_SEGMENTS + CACHED_CHUNKS + (start % CACHED_SINGLES)
    const segment = this.#segmentOf(start)
    return segment < PAGE_SEGMENTS && this.#slotFrom(segment * SEGMENT_BYTES) === start ? segment : PAGE_SEGMENTS + (start % CACHED_CHUNKS)
  }

  #segmentOf(slot: number): number {
    return Math.floor(this.#startOf(slot) / SEGMENT_BYTES)
  }

  /** The first slot whose frame begins at `offset` or later. */
  #slotFrom(offset: number): number {
    return offset === 0 ? 0 : firstOver(this.ends, offset - 1) + 1
  }

  #startOf(slot: number): number {
    return slot === 0 ? 0 : (this.ends[slot - 1] as number)
  }

  /** The next slot that holds an event, or {@link count} if there is none. */
  #nextSlot(slot: number): number {
    let next = slot + 1
    while (this.#gaps?.has(next)) next++
    return next
  }

  /** The first slot after `position`, whether its event is kept or was removed. */
  #search(position: number): number {
    return firstOver(this.positions, position)
  }

  #record(frameLength: number, position: number, time: number, isString: boolean, key: string | undefined): void {
    if (key !== undefined) (this.#keys ??= new Map()).set(this.count, key)
    this.positions.push(position)
    this.ends.push(this.#used)
    this.times.push(time)
    this.strings.push(isString)
    this.kept++
    this.keptBytes += frameLength
  }

  #reserve(bytes: number): void {
    const needed = this.#used + bytes
    let capacity = this.#buffer.length
    if (needed <= capacity) return
    while (capacity < needed) capacity *= 2
    // `allocUnsafe` would use Node's pool for small buffers, in which one page that is kept holds the memory of dropped pages.
    const grown = Buffer.allocUnsafeSlow(capacity)
    this.#buffer.copy(grown, 0, 0, this.#used)
    this.#buffer = grown
    this.#chunks.length = 0
  }
}

/** Index of the first number greater than `limit` in an ascending list, or its length if there is none. */
function firstOver(numbers: readonly number[], limit: number): number {
  let low = 0
  let high = numbers.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((numbers[middle] as number) > limit) high = middle
    else low = middle + 1
  }
  return low
}
