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

/** A stretch of a replay log: a buffer into which events are encoded once, one after the other. */
export class LogPage {
  /** The sequence number of the page's first event. */
  readonly firstSeq: number
  /** Of each event: its position, the offset at which its bytes end, when it came (monotonic ms), whether it is a plain string. */
  readonly positions: number[] = []
  readonly ends: number[] = []
  readonly times: number[] = []
  readonly strings: boolean[] = []
  readonly #buffer: Buffer
  readonly #chunks: (Chunk | undefined)[] = []
  #used = 0

  constructor(firstSeq: number, capacity: number) {
    this.firstSeq = firstSeq
    this.#buffer = Buffer.allocUnsafe(capacity)
  }

  get capacity(): number {
    return this.#buffer.length
  }

  get count(): number {
    return this.ends.length
  }

  get lastPosition(): number {
    return this.positions[this.positions.length - 1] ?? 0
  }

  hasRoomFor(length: number): boolean {
    return this.#buffer.length - this.#used >= length
  }

  append(block: string, position: number, time: number, isString: boolean): void {
    this.#used += this.#buffer.write(block, this.#used)
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
}
