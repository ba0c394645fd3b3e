/** A stretch of consecutive events of one page, as the very bytes that every subscriber at its start is given. */
export class Chunk {
  /** The encoded events: a view of the page, never a copy. */
  readonly bytes: Buffer
  /** How many events it holds. */
  readonly count: number
  /** The position of its last event. */
  readonly position: number
  readonly start: number
  readonly end: number

  constructor(bytes: Buffer, start: number, end: number, position: number) {
    this.bytes = bytes
    this.count = end - start
    this.position = position
    this.start = start
    this.end = end
  }
}

/** Chunks remembered per page: enough for the groups of subscribers that stand at different places of it. */
const REMEMBERED = 8

/**
 * A stretch of a replay log: a buffer into which events are encoded once, one after the other. It grows by doubling, so
 * that a channel with few events holds little; views of it that are still being written stay as they are.
 */
export class LogPage {
  /** The sequence number of the page's first event. */
  readonly firstSeq: number
  /** Of each event: its position, the offset at which its bytes end, when it came (monotonic ms), whether it is a plain string. */
  readonly positions: number[] = []
  readonly ends: number[] = []
  readonly times: number[] = []
  readonly strings: boolean[] = []
  #buffer: Buffer
  readonly #chunks: (Chunk | undefined)[] = []
  #used = 0

  constructor(firstSeq: number, capacity: number) {
    this.firstSeq = firstSeq
    this.#buffer = Buffer.allocUnsafe(capacity)
  }

  /** How many bytes its events take up. */
  get used(): number {
    return this.#used
  }

  get count(): number {
    return this.ends.length
  }

  get lastPosition(): number {
    return this.positions[this.positions.length - 1] ?? 0
  }

  /** Appends an event of `length` bytes. */
  append(block: string, length: number, position: number, time: number, isString: boolean): void {
    if (this.#used + length > this.#buffer.length) this.#grow(this.#used + length)
    this.#used += this.#buffer.write(block, this.#used, length, 'utf8')
    this.positions.push(position)
    this.ends.push(this.#used)
    this.times.push(time)
    this.strings.push(isString)
  }

  startOf(slot: number): number {
    return slot === 0 ? 0 : (this.ends[slot - 1] as number)
  }

  sizeOf(slot: number): number {
    return (this.ends[slot] as number) - this.startOf(slot)
  }

  blockAt(slot: number): string {
    return this.#buffer.toString('utf8', this.startOf(slot), this.ends[slot])
  }

  /** The first slot whose position is later than `position`; `count` where there is none. */
  slotAfter(position: number): number {
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

  /** The events from slot `start` up to and without slot `end`. Asked again, the same object comes back. */
  chunk(start: number, end: number): Chunk {
    const place = start % REMEMBERED
    const known = this.#chunks[place]
    if (known !== undefined && known.start === start && known.end === end) return known
    const bytes = this.#buffer.subarray(this.startOf(start), this.ends[end - 1])
    const chunk = new Chunk(bytes, start, end, this.positions[end - 1] as number)
    this.#chunks[place] = chunk
    return chunk
  }

  #grow(needed: number): void {
    let capacity = this.#buffer.length * 2
    while (capacity < needed) capacity *= 2
    const grown = Buffer.allocUnsafe(capacity)
    this.#buffer.copy(grown, 0, 0, this.#used)
    this.#buffer = grown
    this.#chunks.length = 0
  }
}
