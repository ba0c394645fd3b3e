import { framedLength } from '../basics/framed-bytes.ts'
import { LogPage } from './log-page.ts'
import {
  EVENT_BYTES,
  KEY_BYTES,
  LOG_BYTES,
  type LogTotals,
  MAX_PAGE_BYTES,
  MIN_PAGE_BYTES,
  PAGE_BYTES,
  pageLimit,
  powerOfTwo,
} from './log-totals.ts'
import type { ReplayBounds } from './replay-options.ts'

const NO_PAGE = new LogPage(0)
/** A page of which more is dropped than kept is continued only while it is as small as this. */
const SPARSE_PAGE_BYTES = 4_096
/** What may wait to be offered beyond four times the log's own bound, so that a small log survives a large burst. */
const WAITING_SLACK_BYTES = 4_194_304

/**
 * One channel's bounded log of encoded events, in order of position.
 *
 * An event is encoded once, into a page; every write to a subscriber, live or replayed, is a view of a page.
 *
 * An event that has not been {@link offer offered} to the channel's subscribers is kept beyond the bounds, up to a
 * ceiling of four times `maxBytes` plus 4 MiB.
 */
export class ReplayLog {
  readonly bounds: ReplayBounds
  /** Position of the newest event that the bounds dropped: the log is complete after a position that is not before it. */
  floor: number
  /** Position of the newest event ever appended; 0 before the first. */
  lastPosition = 0
  /** How many events are kept, and their bytes. */
  count = 0
  bytes = 0
  /** Bytes of the events not offered yet. */
  waitingBytes = 0
  /** What {@link seek} found: the page, and the slot in it, of the first event after the position. */
  page: LogPage = NO_PAGE
  slot = 0
  readonly #totals: LogTotals
  /** A page stays small where the log's own bound is, so that little is held in vain. */
  readonly #maxPageBytes: number
  /** Each keeps at least one event, unless it is the only one. */
  readonly #pages: LogPage[] = []
  /** Where the newest event of each key is, in a log that keeps only that one. */
  readonly #newest: Map<string, number> | null
  /** The memory of one slot of a page, beside its bytes. */
  readonly #slotBytes: number
  /** Bytes that its pages hold; and those that it has in the totals. */
  #held = 0
  #counted = 0
  /** Events at or before this position were offered to every subscriber that could take them. */
  #offered = 0
  /** What {@link seek} was asked last: everybody who keeps up asks the same. */
  #asked = -1

  /** @param floor nothing is known of events at or before this position. */
  constructor(bounds: ReplayBounds, floor: number, totals: LogTotals) {
    this.bounds = bounds
    this.floor = floor
    this.#totals = totals
    this.#newest = bounds.latestPerKey ? new Map() : null
    this.#slotBytes = bounds.latestPerKey ? EVENT_BYTES + KEY_BYTES : EVENT_BYTES
    this.#maxPageBytes = Math.min(totals.maxPageBytes ?? MAX_PAGE_BYTES, pageLimit(bounds.maxBytes, 8))
  }

  /** The position from which on nothing is there, and nothing was lost. */
  get end(): number {
    return Math.max(this.lastPosition, this.floor)
  }

  /** How many bytes may wait to be offered before the oldest of them is dropped. */
  get waitingCeiling(): number {
    return 4 * this.bounds.maxBytes + WAITING_SLACK_BYTES
  }

  /**
   * Appends one encoded event. `position` must be later than all before it; `time` is monotonic, in ms. In a log that
   * keeps the newest event of each key, it takes the place of the one before it with its key.
   */
  append(block: string, position: number, time: number, isString: boolean, key?: string): void {
    const length = Buffer.byteLength(block)
    const page = this.#pageFor(framedLength(length))
    const before = this.#costOf(page)
    page.append(block, length, position, time, isString, key)
    this.#held += this.#costOf(page) - before
    this.lastPosition = position
    this.count++
    this.bytes += length
    this.waitingBytes += length
    if (key !== undefined && this.#newest !== null) this.#replace(this.#newest, key, position)
    const ceiling = this.waitingCeiling
    // The newest event is never its victim, however large: it has yet to be offered once.
    while (this.waitingBytes > ceiling && this.count > 1) this.#drop()
    this.#recount()
  }

  /** Marks the events up to `position` as offered to every subscriber that could take them: the bounds hold for them now. */
  offer(position: number): void {
    if (position >= this.lastPosition) {
      this.waitingBytes = 0
    } else {
      while (this.#offered < position && this.seek(this.#offered)) {
        const at = this.page.positions[this.slot] as number
        if (at > position) break
        this.waitingBytes -= this.page.lengthOf(this.slot)
        this.#offered = at
      }
    }
    this.#offered = Math.max(this.#offered, position)
  }

  /** Drops what was offered and is beyond the bounds at the monotonic time `now`. */
  trim(now: number): void {
    const { maxEvents, maxBytes, maxAgeMs } = this.bounds
    while (this.count > 0) {
      const { positions, times, first } = this.#pages[0] as LogPage
      if ((positions[first] as number) > this.#offered) return
      if (this.count <= maxEvents && this.bytes <= maxBytes && now - (times[first] as number) < maxAgeMs) return
      this.#drop()
    }
  }

  /** Nothing is known of what was at or before this position: what is kept of it is dropped. */
  lose(position: number): void {
    while (this.count > 0) {
      const { positions, first } = this.#pages[0] as LogPage
      if ((positions[first] as number) > position) break
      this.#drop()
    }
    this.floor = Math.max(this.floor, position)
  }

  /** Begins anew, without an event. */
  clear(): void {
    while (this.count > 0) this.#drop()
    this.#forgetPages()
    this.floor = this.lastPosition = this.#offered = this.waitingBytes = 0
  }

  /** Drops the oldest event, if it was offered or `evenWaiting`; `false` where there is none. */
  dropOldest(evenWaiting: boolean): boolean {
    if (this.count === 0) return false
    const { positions, first } = this.#pages[0] as LogPage
    if (!evenWaiting && (positions[first] as number) > this.#offered) return false
    this.#drop()
    return true
  }

  /** Lets go of the page kept for the next event, where the log is empty. */
  release(): void {
    if (this.count === 0) this.#forgetPages()
  }

  /** Looks for the first event after `position`: `true` where there is one, described by {@link page} and {@link slot}. */
  seek(position: number): boolean {
    if (position >= this.lastPosition || this.count === 0) return false
    if (position === this.#asked && this.slot >= this.page.first) return true
    const newest = this.#pages[this.#pages.length - 1] as LogPage
    const near = newest.slotNear(position)
    if (near >= 0) {
      this.page = newest
      this.slot = near
      this.#asked = position
      return true
    }
    const index = this.#indexAfter(position)
    let page = this.#pages[index] as LogPage
    let slot = page.slotAfter(position)
    if (slot === page.count) {
      page = this.#pages[index + 1] as LogPage
      slot = page.first
    }
    this.page = page
    this.slot = slot
    this.#asked = position
    return true
  }

  /** The position before the n-th last event kept: whoever starts there is given the last `n`, or all there are. */
  positionBefore(n: number): number {
    if (n >= this.count) return this.floor
    let left = n
    let index = this.#pages.length - 1
    for (; (this.#pages[index] as LogPage).kept <= left; index--) left -= (this.#pages[index] as LogPage).kept
    return (this.#pages[index] as LogPage).lastBut(left)
  }

  #pageFor(length: number): LogPage {
    const page = this.#pages[this.#pages.length - 1]
    if (page !== undefined && page.used + length <= this.#maxPageBytes && !isSparse(page, SPARSE_PAGE_BYTES)) return page
    if (this.count === 0) this.#forgetPages()
    const fresh = new LogPage(length > this.#maxPageBytes ? length : Math.max(MIN_PAGE_BYTES, powerOfTwo(length)))
    this.#pages.push(fresh)
    this.#held += this.#costOf(fresh)
    return fresh
  }

  /** Drops the oldest event because of a bound. */
  #drop(): void {
    const page = this.#pages[0] as LogPage
    const slot = page.first
    const position = page.positions[slot] as number
    const key = page.keyOf(slot)
    // In a log that has a newest event for each key, what is kept of a key is that one.
    if (key !== undefined) this.#newest?.delete(key)
    this.floor = position
    this.#remove(page, slot, position)
    // The last page stays for the next event, where it is small.
    if (page.kept === 0 && (this.#pages.length > 1 || page.used > SPARSE_PAGE_BYTES)) {
      this.#pages.shift()
      this.#held -= this.#costOf(page)
      this.#forgetAnswer()
    }
    this.#recount()
  }

  /** The event at `position` takes the place of the one before it with its key: nothing is lost by that. */
  #replace(newest: Map<string, number>, key: string, position: number): void {
    const before = newest.get(key)
    newest.set(key, position)
    if (before === undefined) return
    const index = this.#indexAfter(before - 1)
    const page = this.#pages[index] as LogPage
    this.#remove(page, page.slotAfter(before - 1), before)
    if (page.kept === 0) {
      this.#pages.splice(index, 1)
      this.#held -= this.#costOf(page)
    } else if (isSparse(page, MIN_PAGE_BYTES)) this.#compact(index)
    this.#forgetAnswer()
  }

  #remove(page: LogPage, slot: number, position: number): void {
    const size = page.lengthOf(slot)
    page.remove(slot)
    this.count--
    this.bytes -= size
    if (position > this.#offered) this.waitingBytes -= size
  }

  /** Copies what a page keeps to one of its size, and a small page before it as well, so that there are few of them. */
  #compact(index: number): void {
    const page = this.#pages[index] as LogPage
    const before = this.#pages[index - 1]
    const isMerged = before !== undefined && before.used <= 2 * page.keptBytes && before.keptBytes + page.keptBytes <= this.#maxPageBytes
    const compacted = new LogPage(page.keptBytes + (isMerged ? before.keptBytes : 0))
    if (isMerged) compacted.appendAll(before)
    compacted.appendAll(page)
    this.#held += this.#costOf(compacted) - this.#costOf(page) - (isMerged ? this.#costOf(before) : 0)
    this.#pages.splice(isMerged ? index - 1 : index, isMerged ? 2 : 1, compacted)
  }

  /** The index of the first page that has an event later than `position`. */
  #indexAfter(position: number): number {
    const pages = this.#pages
    let low = 0
    let high = pages.length - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((pages[middle] as LogPage).lastPosition > position) high = middle
      else low = middle + 1
    }
    return low
  }

  /** The bytes that a page holds, whatever was removed from it. */
  #costOf(page: LogPage): number {
    return PAGE_BYTES + page.capacity + page.count * this.#slotBytes
  }

  /** Counts in the totals what the log holds, if it keeps an event. */
  #recount(): void {
    const bytes = this.count === 0 ? 0 : LOG_BYTES + this.#held
    this.#totals.bytes += bytes - this.#counted
    this.#counted = bytes
  }

  #forgetPages(): void {
    this.#pages.length = 0
    this.#held = 0
    this.#forgetAnswer()
  }

  #forgetAnswer(): void {
    this.#asked = -1
    this.page = NO_PAGE
  }
}

/** Whether a page is large, and most of it is not kept any more: what is kept should not hold it for long. */
function isSparse(page: LogPage, fromBytes: number): boolean {
  return page.used > fromBytes && page.keptBytes * 2 < page.used
}
