import { checkInteger, checkOptions, MAX_DELAY_MS } from './options.ts'
import { type Chunk, LogPage } from './log-page.ts'

/** The bounds of a channel's replay log. Whichever is reached first drops the oldest events. */
export interface ReplayOptions {
  /** How many events are kept. `0` keeps none: live delivery only. Default 1,000. */
  readonly maxEvents?: number | undefined
  /** How long an event is kept, in milliseconds. Default 300,000 (5 minutes). */
  readonly maxAgeMs?: number | undefined
  /** How many bytes of encoded events are kept. Default 1,048,576 (1 MiB). */
  readonly maxBytes?: number | undefined
}

/** {@link ReplayOptions} that have been checked. */
export type ReplayBounds = { readonly [K in keyof ReplayOptions]-?: number }

/** Checks replay options and fills in their defaults. */
export function replayBounds(name: string, options: ReplayOptions | undefined): ReplayBounds {
  checkOptions(name, options, ['maxEvents', 'maxAgeMs', 'maxBytes'])
  return {
    maxEvents: checkInteger(`${name}.maxEvents`, options?.maxEvents, 1_000, { min: 0 }),
    maxAgeMs: checkInteger(`${name}.maxAgeMs`, options?.maxAgeMs, 300_000, { min: 1, max: MAX_DELAY_MS }),
    maxBytes: checkInteger(`${name}.maxBytes`, options?.maxBytes, 1_048_576, { min: 0 }),
  }
}

const MIN_PAGE_BYTES = 512
const MAX_PAGE_BYTES = 65_536
/** A page of which more is dropped than kept is continued only while it is as small as this. */
const SPARSE_PAGE_BYTES = 4_096
/** What may wait to be offered beyond four times the log's own bound, so that a small log survives a large burst. */
const WAITING_SLACK_BYTES = 4_194_304

/** What all logs of a hub keep together. */
export interface LogTotals {
  /** Bytes of the events they keep. */
  bytes: number
}

/**
 * One channel's bounded log of encoded events, in order of position.
 *
 * An event is encoded once, into a page; every write to a subscriber, live or replayed, is a view of a page. Events
 * have consecutive sequence numbers within the log, from {@link first} up to and without {@link next}.
 *
 * An event that has not been {@link offer offered} to the channel's subscribers is kept beyond the bounds, up to a
 * ceiling of four times `maxBytes` plus 4 MiB.
 */
export class ReplayLog {
  readonly bounds: ReplayBounds
  /** Sequence number of the oldest event kept. */
  first = 0
  /** Sequence number that the next event gets. */
  next = 0
  /** Position of the newest event dropped: the log is complete after a position that is not before it. */
  floor: number
  /** Position of the newest event ever appended; 0 before the first. */
  last = 0
  /** Bytes of the events kept. */
  bytes = 0
  readonly #totals: LogTotals
  /** A page stays small where the log's own bound is, so that little is held in vain. */
  readonly #maxPageBytes: number
  readonly #pages: LogPage[] = []
  /** Bytes of the events not offered yet. */
  waitingBytes = 0
  /** Events before this sequence number were offered to every subscriber that could take them. */
  #offered = 0
  /** The last answer of {@link seqAfter}: everybody who keeps up asks the same. */
  #askedPosition = -1
  #askedSeq = 0

  /** @param floor nothing is known of events at or before this position. */
  constructor(bounds: ReplayBounds, floor: number, totals: LogTotals) {
    this.bounds = bounds
    this.floor = floor
    this.#totals = totals
    this.#maxPageBytes = Math.min(MAX_PAGE_BYTES, Math.max(4 * MIN_PAGE_BYTES, powerOfTwo(bounds.maxBytes / 8)))
  }

  /** How many bytes may wait to be offered before the oldest of them is dropped. */
  get waitingCeiling(): number {
    return 4 * this.bounds.maxBytes + WAITING_SLACK_BYTES
  }

  /** Appends one encoded event. `position` must be later than all before it; `time` is monotonic, in ms. */
  append(block: string, position: number, time: number, isString: boolean): void {
    const length = Buffer.byteLength(block)
    this.#pageFor(length).append(block, length, position, time, isString)
    this.next++
    this.last = position
    this.bytes += length
    this.waitingBytes += length
    this.#totals.bytes += length
    const ceiling = this.waitingCeiling
    // The newest event is never its victim, however large: it has yet to be offered once.
    while (this.waitingBytes > ceiling && this.first < this.next - 1) this.#drop()
  }

  /** Marks the events before `seq` as offered to every subscriber that could take them: the bounds hold for them now. */
  offer(seq: number): void {
    while (this.#offered < seq) {
      const page = this.pageOf(this.#offered)
      this.#settle(page.sizeOf(this.#offered - page.firstSeq))
    }
  }

  /** Drops what was offered and is beyond the bounds at the monotonic time `now`. */
  trim(now: number): void {
    const { maxEvents, maxBytes, maxAgeMs } = this.bounds
    while (this.first < this.#offered) {
      const page = this.pageOf(this.first)
      const age = now - (page.times[this.first - page.firstSeq] as number)
      if (this.next - this.first <= maxEvents && this.bytes <= maxBytes && age < maxAgeMs) return
      this.#drop()
    }
  }

  /** Drops the oldest event, if it was offered or `evenWaiting`; `false` where there is none. */
  dropOldest(evenWaiting: boolean): boolean {
    if (this.first >= (evenWaiting ? this.next : this.#offered)) return false
    this.#drop()
    return true
  }

  /** Lets go of the page kept for the next event, where the log is empty. */
  release(): void {
    if (this.first === this.next) this.#pages.length = 0
  }

  /** The sequence number of the first event after `position`, `next` where there is none. */
  seqAfter(position: number): number {
    if (position >= this.last) return this.next
    if (position === this.#askedPosition && this.#askedSeq >= this.first) return this.#askedSeq
    const pages = this.#pages
    let low = 0
    let high = pages.length - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((pages[middle] as LogPage).lastPosition > position) high = middle
      else low = middle + 1
    }
    const page = pages[low] as LogPage
    const seq = Math.max(page.firstSeq + page.slotAfter(position), this.first)
    this.#askedPosition = position
    this.#askedSeq = seq
    return seq
  }

  /** The page that holds the event `seq`, which must be in the log. */
  pageOf(seq: number): LogPage {
    const pages = this.#pages
    let high = pages.length - 1
    let page = pages[high] as LogPage
    if (seq >= page.firstSeq) return page
    let low = 0
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if ((pages[middle] as LogPage).firstSeq <= seq) low = middle
      else high = middle - 1
    }
    page = pages[low] as LogPage
    return page
  }

  /** The position of the event `seq`, which must be in the log. */
  positionOf(seq: number): number {
    const page = this.pageOf(seq)
    return page.positions[seq - page.firstSeq] as number
  }

  /**
   * The events from `seq` on, as far as one page and the position `limit` go. The event `seq` must be in the log
   * and not after `limit`.
   */
  chunk(seq: number, limit: number): Chunk {
    const page = this.pageOf(seq)
    const end = page.lastPosition <= limit ? page.count : page.slotAfter(limit)
    return page.chunk(seq - page.firstSeq, end)
  }

  /** The position before the n-th last event kept: whoever starts there is given the last `n`, or all there are. */
  positionBefore(n: number): number {
    const kept = this.next - this.first
    if (n >= kept) return this.floor
    return n === 0 ? this.last : this.positionOf(this.next - n - 1)
  }

  #pageFor(length: number): LogPage {
    const page = this.#pages[this.#pages.length - 1]
    if (page !== undefined && page.used + length <= this.#maxPageBytes && !this.#isSparse(page)) return page
    if (this.first === this.next) this.#pages.length = 0
    const fresh = new LogPage(this.next, length > this.#maxPageBytes ? length : Math.max(MIN_PAGE_BYTES, powerOfTwo(length)))
    this.#pages.push(fresh)
    return fresh
  }

  #drop(): void {
    const page = this.#pages[0] as LogPage
    const slot = this.first - page.firstSeq
    const size = page.sizeOf(slot)
    this.floor = page.positions[slot] as number
    this.bytes -= size
    this.#totals.bytes -= size
    if (this.first === this.#offered) this.#settle(size)
    this.first++
    // The last page stays for the next event, where it is small.
    if (slot + 1 === page.count && (this.#pages.length > 1 || page.used > SPARSE_PAGE_BYTES)) this.#pages.shift()
  }

  /** The first event that waits, of that size, does so no more. */
  #settle(size: number): void {
    this.#offered++
    this.waitingBytes -= size
  }

  /** Whether a page is large, and most of its events are dropped: what is kept should not hold it for long. */
  #isSparse(page: LogPage): boolean {
    return page.used > SPARSE_PAGE_BYTES && (this.first - page.firstSeq) * 2 > page.count
  }
}

/** The smallest power of two that is not below `value`. */
function powerOfTwo(value: number): number {
  return value <= 1 ? 1 : 2 ** Math.ceil(Math.log2(value))
}
