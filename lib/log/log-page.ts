import { frame, FramedBytes, framedLength, frameText, headBytes, payloadLength } from '../basics/framed-bytes.ts'
import { deflate } from '../gzip/deflate.ts'
import { SharedBytes, type Window } from '../gzip/shared-bytes.ts'
import { PlainEvents } from './plain-events.ts'

/**
 * A stretch of consecutive events of one page, as the very bytes that every subscriber at its start is given: a view of
 * the page, never a copy.
 */
export class Chunk extends SharedBytes {
  readonly page: LogPage
  /** How many events it holds. */
  readonly count: number
  /** The position of its last event. */
  readonly position: number = 0
  /** The slots of the page that it covers, the last one excluded. */
  readonly start: number
  readonly end: number
  /** The position of the first event that its blocks may refer to, and the blocks that do. */
  #windowFrom: number | null = null
  #deflatedInWindow: FramedBytes | null = null

  constructor(page: LogPage, framed: Buffer, start: number, end: number) {
    // What a stream of several channels, or a filter, leaves of a batch in small pieces is shared by few.
    super(framed, framed.length >= MIN_PIECE_BYTES || end === page.count)
    this.page = page
    this.count = end - start
    this.position = page.positions[end - 1] as number
    this.start = start
    this.end = end
  }

  /** A single event is a view of the page. Of several, the page keeps a copy without frames, of which this is a view. */
  override get bytes(): Buffer {
    return this.count === 1 ? super.bytes : this.page.plainBytesOf(this.start, this.end)
  }

  /** Whoever has every event from a position up to these is given blocks that refer to what comes before; these are shared as well. */
  deflatedSince(from: number): FramedBytes {
    const { page, start } = this
    this.#windowFrom ??= this.#windowStart()
    if (from > this.#windowFrom) return this.deflated
    return (this.#deflatedInWindow ??= new FramedBytes(frame(deflate(this.bytes, page.plainBytesOf(page.segmentStart(start), start)))))
  }

  override deflatedFor(window: Window): FramedBytes {
    const { page, start } = this
    const before = start === 0 ? 0 : (page.positions[start - 1] as number)
    if (window.at !== before) window.from = page.positions[start] as number
    window.at = this.position
    return this.deflatedSince(window.from)
  }

  #windowStart(): number {
    const first = this.page.segmentStart(this.start)
    return this.isWorthIt && first < this.start ? (this.page.positions[first] as number) : -Infinity
  }
}

/**
 * Where streams are compressed, no chunk goes beyond the segment of a page in which it begins: those who catch up from
 * different places soon share the same bytes, and what refers to the events before it refers to none before its segment.
 */
const SEGMENT_BYTES = 16_384
/** A smaller piece from within a page is not compressed. */
const MIN_PIECE_BYTES = 1_024

/** How many of the last events are looked at before a search is worth it. */
const NEAR = 4

/** Chunks remembered per page: enough for the groups of subscribers that stand at different places of it. */
const REMEMBERED = 8
/** The same for single events, of which a batch of several channels is made. */
const REMEMBERED_SINGLES = 64
/** How many segments a page has, unless it is that of one large event. */
const PAGE_SEGMENTS = 4

/**
 * A stretch of a replay log: a buffer into which events are encoded once, one after the other, each as a frame of a chunked
 * body. It grows by doubling, so that a channel with few events holds little; views of it that are still being written
 * stay as they are.
 *
 * Events are removed from its beginning, or from anywhere once a newer one took their place.
 */
export class LogPage {
  /** Of each event: its position, the offset at which its bytes end, when it came (monotonic ms), whether it is a plain string. */
  readonly positions: number[] = []
  readonly ends: number[] = []
  readonly times: number[] = []
  readonly strings: boolean[] = []
  /** The slot of the oldest event kept; {@link count} where none is. */
  first = 0
  /** How many events are kept, and their bytes with their frames. */
  kept = 0
  keptBytes = 0
  #buffer: Buffer
  #used = 0
  readonly #chunks: (Chunk | undefined)[] = []
  /** The keys of events that have one, and the slots after the first that hold no event any more: made when needed. */
  #keys: Map<number, string> | null = null
  #gaps: Set<number> | null = null
  /** The events without frames: made when somebody needs them. */
  #plain: PlainEvents | null = null
  /** Whether others than these events may have been given in the places that they have now. */
  #isCompacted = false

  constructor(capacity: number) {
    this.#buffer = Buffer.allocUnsafeSlow(capacity)
  }

  /** How many bytes its events took up, removed ones included. */
  get used(): number {
    return this.#used
  }

  /** The bytes of its buffer. */
  get capacity(): number {
    return this.#buffer.length
  }

  /** How many slots it has, those of removed events included. */
  get count(): number {
    return this.ends.length
  }

  get lastPosition(): number {
    return this.positions[this.positions.length - 1] ?? 0
  }

  /** Appends an event of `length` bytes. */
  append(block: string, length: number, position: number, time: number, isString: boolean, key: string | undefined): void {
    const size = framedLength(length)
    this.#reserve(size)
    this.#used += this.#buffer.write(frameText(block, length), this.#used, size, 'utf8')
    this.#added(size, position, time, isString, key)
  }

  /** Appends what another page keeps. */
  appendAll(page: LogPage): void {
    this.#isCompacted = true
    for (let slot = page.first; slot < page.count; slot = page.#after(slot)) {
      const size = page.framedLengthOf(slot)
      this.#reserve(size)
      this.#used += page.#buffer.copy(this.#buffer, this.#used, page.#startOf(slot), page.ends[slot])
      this.#added(size, page.positions[slot] as number, page.times[slot] as number, page.strings[slot] as boolean, page.keyOf(slot))
    }
  }

  /** Removes the event in a slot. */
  remove(slot: number): void {
    this.kept--
    this.keptBytes -= this.framedLengthOf(slot)
    this.#keys?.delete(slot)
    if (slot === this.first) this.first = this.#after(slot)
    else (this.#gaps ??= new Set()).add(slot)
  }

  /** The bytes of the event in a slot, with its frame. */
  framedLengthOf(slot: number): number {
    return (this.ends[slot] as number) - this.#startOf(slot)
  }

  /** The bytes of the event in a slot, without its frame. */
  lengthOf(slot: number): number {
    return payloadLength(this.framedLengthOf(slot))
  }

  keyOf(slot: number): string | undefined {
    return this.#keys?.get(slot)
  }

  blockAt(slot: number): string {
    const size = this.lengthOf(slot)
    const start = this.#startOf(slot) + headBytes(size)
    return this.#buffer.toString('utf8', start, start + size)
  }

  /** The same as {@link slotAfter} where that is one of the last few and has one before it, as for all who keep up; -1 elsewhere. */
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

  /** The slot of the first event kept whose position is later than `position`; `count` where there is none. */
  slotAfter(position: number): number {
    const slot = this.#search(position)
    if (slot <= this.first) return this.first
    return this.#gaps?.has(slot) ? this.#after(slot) : slot
  }

  /** The position of the event that has `n` kept events of this page after it. */
  lastBut(n: number): number {
    let slot = this.count
    for (let left = n; left >= 0; left--) {
      slot--
      while (this.#gaps?.has(slot)) slot--
    }
    return this.positions[slot] as number
  }

  /** Where the stretch of events that begins in `slot` ends: at the position `limit`, or where an event was removed. */
  endOf(slot: number, limit: number): number {
    const end = this.lastPosition <= limit ? this.count : this.#search(limit)
    if (this.#gaps === null) return end
    let to = slot + 1
    while (to < end && !this.#gaps.has(to)) to++
    return to
  }

  /** Where a stretch from `slot` to `end` leaves the segment that it begins in, or else `end`. */
  segmentEnd(slot: number, end: number): number {
    const limit = (this.#segmentOf(slot) + 1) * SEGMENT_BYTES
    return this.#startOf(end - 1) < limit ? end : this.#slotFrom(limit)
  }

  /** The slot in which the segment of `slot` begins, as far as those before it can be referred to. */
  segmentStart(slot: number): number {
    return this.#isCompacted ? slot : this.#slotFrom(this.#segmentOf(slot) * SEGMENT_BYTES)
  }

  /** The bytes from slot `start` up to and without slot `end`, removed events included, without their frames. */
  plainBytesOf(start: number, end: number): Buffer {
    this.#plain ??= new PlainEvents()
    this.#plain.extend(this.#buffer, this.ends, end)
    return this.#plain.bytesOf(start, end)
  }

  /** The events from slot `start` up to and without slot `end`. Asked again, the same object comes back. */
  chunk(start: number, end: number): Chunk {
    const place = this.#placeOf(start, end)
    const known = this.#chunks[place]
    if (known !== undefined && known.start === start && known.end === end) return known
    const chunk = new Chunk(this, this.#buffer.subarray(this.#startOf(start), this.ends[end - 1]), start, end)
    this.#chunks[place] = chunk
    return chunk
  }

  /** Where a chunk is remembered: whole segments and single events apart from what happens to be live. */
  #placeOf(start: number, end: number): number {
    if (end === start + 1) return PAGE_SEGMENTS + REMEMBERED + (start % REMEMBERED_SINGLES)
    const segment = this.#segmentOf(start)
    return segment < PAGE_SEGMENTS && this.#slotFrom(segment * SEGMENT_BYTES) === start ? segment : PAGE_SEGMENTS + (start % REMEMBERED)
  }

  #segmentOf(slot: number): number {
    return Math.floor(this.#startOf(slot) / SEGMENT_BYTES)
  }

  /** The first slot that begins at `offset` or later. */
  #slotFrom(offset: number): number {
    return offset === 0 ? 0 : firstOver(this.ends, offset - 1) + 1
  }

  #startOf(slot: number): number {
    return slot === 0 ? 0 : (this.ends[slot - 1] as number)
  }

  /** The next slot that holds an event. */
  #after(slot: number): number {
    let next = slot + 1
    while (this.#gaps?.has(next)) next++
    return next
  }

  /** The first slot, whatever it holds, whose position is later than `position`. */
  #search(position: number): number {
    return firstOver(this.positions, position)
  }

  #added(size: number, position: number, time: number, isString: boolean, key: string | undefined): void {
    if (key !== undefined) (this.#keys ??= new Map()).set(this.count, key)
    this.positions.push(position)
    this.ends.push(this.#used)
    this.times.push(time)
    this.strings.push(isString)
    this.kept++
    this.keptBytes += size
  }

  #reserve(size: number): void {
    const needed = this.#used + size
    let capacity = this.#buffer.length
    if (needed <= capacity) return
    while (capacity < needed) capacity *= 2
    // Not from the pool that Node shares among small buffers: one page that is kept would keep others that are not.
    const grown = Buffer.allocUnsafeSlow(capacity)
    this.#buffer.copy(grown, 0, 0, this.#used)
    this.#buffer = grown
    this.#chunks.length = 0
  }
}

/** The index of the first of ascending numbers that is greater than `limit`. */
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
