import { framedLength } from '../basics/framed-bytes.ts'
import { LogPage } from './log-page.ts'
import {
  EVENT_OVERHEAD_BYTES,
  KEY_OVERHEAD_BYTES,
  LOG_OVERHEAD_BYTES,
  type LogTotals,
  MAX_PAGE_BYTES,
  MIN_PAGE_BYTES,
  PAGE_OVERHEAD_BYTES,
  pageLimit,
  powerOfTwo,
} from './log-totals.ts'
import type { ReplayBounds } from './replay-options.ts'

const NO_PAGE = new LogPage(0)
/** A page larger than this receives no more events once it has dropped more bytes than it keeps. */
const SPARSE_PAGE_BYTES = 4_096
/** Bytes that may wait to be offered in addition to four times the log's own bound, so that a small log survives a large burst. */
const WAITING_SLACK_BYTES = 4_194_304

/**
 * A channel's bounded log of encoded events, ordered by position.
 *
 * Each event is encoded once, into a page. Every write to a subscriber, live or replayed, is a view of a page.
 *
 * An event that has not been {@link offer offered} to the channel's subscribers is not subject to the bounds. The events that
 * wait to be offered have a ceiling of their own: four times `maxBytes` plus 4 MiB.
 */
export class ReplayLog {
  readonly bounds: ReplayBounds
  /** Position of the newest event that was dropped or lost. A subscriber at or past the floor has no gap. */
  floor: number
  /** Position of the newest event ever appended, or 0 before the first. */
  lastPosition = 0
  /** Number of events kept, and their length in bytes without frames. */
  count = 0
  bytes = 0
  /** Length of the events that have not been offered yet. */
  waitingBytes = 0
  /**
   * The result of {@link seek}: a page and the slot of the event in it. These are fields because `seek` is called for every
   * subscriber, and returning an object would allocate one each time.
   */
  page: LogPage = NO_PAGE
  slot = 0
  readonly #totals: LogTotals
  /** Upper limit for the capacity of a page. It is lower in a log with a low `maxBytes`, so that little memory holds dropped events. */
  readonly #maxPageBytes: number
  /** Oldest page first. Every page keeps at least one event, unless it is the only page. */
  readonly #pages: LogPage[] = []
  /** Position of the newest event of each key, or `null` if the log does not keep only the latest per key. */
  readonly #newestByKey: Map<string, number> | null
  /** Estimated memory of a slot of a page, besides the buffer. */
  readonly #slotBytes: number
  /** Estimated memory of the pages, and the part of the totals that this log accounts for. */
  #pageBytes = 0
  #countedBytes = 0
  /** Events up to this position were offered to every subscriber that could take them. */
  #offered = 0
  /** The position of the last {@link seek}, or -1. All subscribers that keep up seek the same position, so its result is reused. */
  #sought = -1

  /** @param floor the log holds no events at or before this position. */
  constructor(bounds: ReplayBounds, floor: number, totals: LogTotals) {
    this.bounds = bounds
    this.floor = floor
    this.#totals = totals
    this.#newestByKey = bounds.latestPerKey ? new Map() : null
    this.#slotBytes = bounds.latestPerKey ? EVENT_OVERHEAD_BYTES + KEY_OVERHEAD_BYTES : EVENT_OVERHEAD_BYTES
    this.#maxPageBytes = Math.min(totals.maxPageBytes ?? MAX_PAGE_BYTES, pageLimit(bounds.maxBytes, 8))
  }

  /** Position of the log's end. A subscriber there or later has nothing to read and has lost nothing. */
  get end(): number {
    return Math.max(this.lastPosition, this.floor)
  }

  /** Length that the events waiting to be offered may reach before the oldest of them is dropped. */
  get waitingCeiling(): number {
    return 4 * this.bounds.maxBytes + WAITING_SLACK_BYTES
  }

  /**
   * Appends an encoded event. In a log that keeps the latest per key, it replaces the previous event with the same key.
   *
   * @param position must be later than all positions in the log.
   * @param time time of arrival, monotonic, in milliseconds.
   */
  append(block: string, position: number, time: number, isString: boolean, key?: string): void {
    const length = Buffer.byteLength(block)
    const page = this.#pageFor(framedLength(length))
    const before = this.#costOf(page)
    page.append(block, length, position, time, isString, key)
    this.#pageBytes += this.#costOf(page) - before
    this.lastPosition = position
    this.count++
    this.bytes += length
    this.waitingBytes += length
    if (key !== undefined && this.#newestByKey !== null) this.#replace(this.#newestByKey, key, position)
    const ceiling = this.waitingCeiling
    // The newest event is never dropped here, however large it is, because it has not been offered yet.
    while (this.waitingBytes > ceiling && this.count > 1) this.#drop()
    this.#recount()
  }

  /** Marks the events up to `position` as offered to every subscriber that could take them. From now on the bounds apply to them. */
  offer(position: number): void {
    if (position >= this.lastPosition) {
      this.waitingBytes = 0
    } else {
      while (this.#offered < position && this.seek(this.#offered)) {
        const next = this.page.positions[this.slot] as number
        if (next > position) break
        this.waitingBytes -= this.page.lengthOf(this.slot)
        this.#offered = next
      }
    }
    this.#offered = Math.max(this.#offered, position)
  }

  /** Drops the oldest events that were offered and exceed the bounds. `now` is monotonic, in milliseconds. */
  trim(now: number): void {
    const { maxEvents, maxBytes, maxAgeMs } = this.bounds
    while (this.count > 0) {
      const { positions, times, first } = this.#pages[0] as LogPage
      if ((positions[first] as number) > this.#offered) return
      if (this.count <= maxEvents && this.bytes <= maxBytes && now - (times[first] as number) < maxAgeMs) return
      this.#drop()
    }
  }

  /** Drops the events up to `position` and raises the floor to it, because some events at or before it were lost. */
  lose(position: number): void {
    while (this.count > 0) {
      const { positions, first } = this.#pages[0] as LogPage
      if ((positions[first] as number) > position) break
      this.#drop()
    }
    this.floor = Math.max(this.floor, position)
  }

  /** Removes all events and resets all positions, for another epoch. */
  clear(): void {
    while (this.count > 0) this.#drop()
    this.#forgetPages()
    this.floor = this.lastPosition = this.#offered = this.waitingBytes = 0
  }

  /** Drops the oldest event if it was offered, or if `evenWaiting` is `true`. Returns whether it dropped one. */
  dropOldest(evenWaiting: boolean): boolean {
    if (this.count === 0) return false
    const { positions, first } = this.#pages[0] as LogPage
    if (!evenWaiting && (positions[first] as number) > this.#offered) return false
    this.#drop()
    return true
  }

  /** Releases the page that an empty log keeps for its next event. */
  release(): void {
    if (this.count === 0) this.#forgetPages()
  }

  /** Finds the first event after `position`. Returns whether there is one; {@link page} and {@link slot} then identify it. */
  seek(position: number): boolean {
    if (position >= this.lastPosition || this.count === 0) return false
    if (position === this.#sought && this.slot >= this.page.first) return true
    const newest = this.#pages[this.#pages.length - 1] as LogPage
    const nearSlot = newest.slotNear(position)
    if (nearSlot >= 0) {
      this.page = newest
      this.slot = nearSlot
      this.#sought = position
      return true
    }
    const index = this.#pageIndexAfter(position)
    let page = this.#pages[index] as LogPage
    let slot = page.slotAfter(position)
    if (slot === page.count) {
      page = this.#pages[index + 1] as LogPage
      slot = page.first
    }
    this.page = page
    this.slot = slot
    this.#sought = position
    return true
  }

  /** Position before the n-th last event kept. A subscriber that starts there receives the last `n` events, or all if there are fewer. */
  positionBefore(n: number): number {
    if (n >= this.count) return this.floor
    let remaining = n
    let index = this.#pages.length - 1
    for (; (this.#pages[index] as LogPage).kept <= remaining; index--) remaining -= (this.#pages[index] as LogPage).kept
    return (this.#pages[index] as LogPage).positionBeforeLast(remaining)
  }

  /** The page for a frame of `length` bytes: the newest page, or a new one. */
  #pageFor(length: number): LogPage {
    const page = this.#pages[this.#pages.length - 1]
    if (page !== undefined && page.used + length <= this.#maxPageBytes && !isSparse(page, SPARSE_PAGE_BYTES)) return page
    if (this.count === 0) this.#forgetPages()
    const fresh = new LogPage(length > this.#maxPageBytes ? length : Math.max(MIN_PAGE_BYTES, powerOfTwo(length)))
    this.#pages.push(fresh)
    this.#pageBytes += this.#costOf(fresh)
    return fresh
  }

  /** Drops the oldest event and raises the floor to it. */
  #drop(): void {
    const page = this.#pages[0] as LogPage
    const slot = page.first
    const position = page.positions[slot] as number
    const key = page.keyOf(slot)
    // A log that keeps the latest per key has only one event with this key.
    if (key !== undefined) this.#newestByKey?.delete(key)
    this.floor = position
    this.#remove(page, slot, position)
    // The only page stays for the next event if it is small.
    if (page.kept === 0 && (this.#pages.length > 1 || page.used > SPARSE_PAGE_BYTES)) {
      this.#pages.shift()
      this.#pageBytes -= this.#costOf(page)
      this.#forgetSought()
    }
    this.#recount()
  }

  /** Removes the event that the one at `position` replaces. The floor stays, because a replaced event is not a lost one. */
  #replace(newestByKey: Map<string, number>, key: string, position: number): void {
    const replaced = newestByKey.get(key)
    newestByKey.set(key, position)
    if (replaced === undefined) return
    const index = this.#pageIndexAfter(replaced - 1)
    const page = this.#pages[index] as LogPage
    this.#remove(page, page.slotAfter(replaced - 1), replaced)
    if (page.kept === 0) {
      this.#pages.splice(index, 1)
      this.#pageBytes -= this.#costOf(page)
    } else if (isSparse(page, MIN_PAGE_BYTES)) this.#compact(index)
    this.#forgetSought()
  }

  #remove(page: LogPage, slot: number, position: number): void {
    const length = page.lengthOf(slot)
    page.remove(slot)
    this.count--
    this.bytes -= length
    if (position > this.#offered) this.waitingBytes -= length
  }

  /** Copies the kept events of a page to a page of their size, together with a small page before it, so that few pages remain. */
  #compact(index: number): void {
    const page = this.#pages[index] as LogPage
    const previous = this.#pages[index - 1]
    const isMerged =
      previous !== undefined && previous.used <= 2 * page.keptBytes && previous.keptBytes + page.keptBytes <= this.#maxPageBytes
    const compacted = new LogPage(page.keptBytes + (isMerged ? previous.keptBytes : 0))
    if (isMerged) compacted.appendAll(previous)
    compacted.appendAll(page)
    this.#pageBytes += this.#costOf(compacted) - this.#costOf(page) - (isMerged ? this.#costOf(previous) : 0)
    this.#pages.splice(isMerged ? index - 1 : index, isMerged ? 2 : 1, compacted)
  }

  /**
   * Index of the first page that has an event after `position`. Pages have a binary search of their own: a shared one would have
   * to read its numbers through a callback, which takes twice as long and allocates.
   */
  #pageIndexAfter(position: number): number {
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

  /** Estimated memory of a page, including that of removed events. */
  #costOf(page: LogPage): number {
    return PAGE_OVERHEAD_BYTES + page.capacity + page.count * this.#slotBytes
  }

  /** Updates the totals with the memory of this log, which counts as 0 while the log keeps no event. */
  #recount(): void {
    const bytes = this.count === 0 ? 0 : LOG_OVERHEAD_BYTES + this.#pageBytes
    this.#totals.bytes += bytes - this.#countedBytes
    this.#countedBytes = bytes
  }

  #forgetPages(): void {
    this.#pages.length = 0
    this.#pageBytes = 0
    this.#forgetSought()
  }

  #forgetSought(): void {
    this.#sought = -1
    this.page = NO_PAGE
  }
}

/** Whether a page has more than `fromBytes` bytes and keeps less than half of them. Its kept events should not hold so much memory. */
function isSparse(page: LogPage, fromBytes: number): boolean {
  return page.used > fromBytes && page.keptBytes * 2 < page.used
}
