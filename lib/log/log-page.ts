/** A stretch of consecutive events of one page, as the very bytes that every subscriber at its start is given. */
export class Chunk {
  readonly page: LogPage
  /** The encoded events: a view of the page, never a copy. */
  readonly bytes: Buffer
  /** How many events it holds. */
  readonly count: number
  /** The position of its last event. */
  readonly position: number = 0
  /** The slots of the page that it covers, the last one excluded. */
  readonly start: number
  readonly end: number

  constructor(page: LogPage, bytes: Buffer, start: number, end: number) {
    this.page = page
    this.bytes = bytes
    this.count = end - start
    this.position = page.positions[end - 1] as number
    this.start = start
    this.end = end
  }
}

/** Chunks remembered per page: enough for the groups of subscribers that stand at different places of it. */
const REMEMBERED = 8

/**
 * A stretch of a replay log: a buffer into which events are encoded once, one after the other. It grows by doubling, so
 * that a channel with few events holds little; views of it that are still being written stay as they are.
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
  /** How many events are kept, and their bytes. */
  kept = 0
  keptBytes = 0
  #buffer: Buffer
  #used = 0
  readonly #chunks: (Chunk | undefined)[] = []
  /** The keys of events that have one, and the slots after the first that hold no event any more: made when needed. */
  #keys: Map<number, string> | null = null
  #gaps: Set<number> | null = null

  constructor(capacity: number) {
    this.#buffer = Buffer.allocUnsafeSlow(capacity)
  }

  /** How many bytes its events took up, removed ones included. */
  get used(): number {
    return this.#used
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
    this.#reserve(length)
    this.#used += this.#buffer.write(block, this.#used, length, 'utf8')
    this.#added(length, position, time, isString, key)
  }

  /** Appends what another page keeps. */
  appendAll(page: LogPage): void {
    for (let slot = page.first; slot < page.count; slot = page.#after(slot)) {
      const size = page.sizeOf(slot)
      this.#reserve(size)
      this.#used += page.#buffer.copy(this.#buffer, this.#used, page.#startOf(slot), page.ends[slot])
      this.#added(size, page.positions[slot] as number, page.times[slot] as number, page.strings[slot] as boolean, page.keyOf(slot))
    }
  }

  /** Removes the event in a slot. */
  remove(slot: number): void {
    this.kept--
    this.keptBytes -= this.sizeOf(slot)
    this.#keys?.delete(slot)
    if (slot === this.first) this.first = this.#after(slot)
    else (this.#gaps ??= new Set()).add(slot)
  }

  sizeOf(slot: number): number {
    return (this.ends[slot] as number) - this.#startOf(slot)
  }

  keyOf(slot: number): string | undefined {
    return this.#keys?.get(slot)
  }

  blockAt(slot: number): string {
    return this.#buffer.toString('utf8', this.#startOf(slot), this.ends[slot])
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

  /** The events from slot `start` up to and without slot `end`. Asked again, the same object comes back. */
  chunk(start: number, end: number): Chunk {
    const place = start % REMEMBERED
    const known = this.#chunks[place]
    if (known !== undefined && known.start === start && known.end === end) return known
    const bytes = this.#buffer.subarray(this.#startOf(start), this.ends[end - 1])
    const chunk = new Chunk(this, bytes, start, end)
    this.#chunks[place] = chunk
    return chunk
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
    const { positions } = this
    let low = 0
    let high = positions.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((positions[middle] as number) > position) high = middle
      else low = middle + 1
    }
    return low
  }

  #added(length: number, position: number, time: number, isString: boolean, key: string | undefined): void {
    if (key !== undefined) (this.#keys ??= new Map()).set(this.count, key)
    this.positions.push(position)
    this.ends.push(this.#used)
    this.times.push(time)
    this.strings.push(isString)
    this.kept++
    this.keptBytes += length
  }

  #reserve(length: number): void {
    const needed = this.#used + length
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
