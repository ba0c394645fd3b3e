import { crc32 } from 'node:zlib'
import type { FramedBytes } from '../basics/framed-bytes.ts'
import { advanced } from './crc32-combiner.ts'
import { deflate, store } from './deflate.ts'
import { type SharedBytes, Window } from './shared-bytes.ts'

/** A gzip header without a name or a time, from an unknown system (RFC 1952, section 2.3). */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])
/** An empty block that is the last one, then the CRC-32 and the length of what was compressed, modulo 2^32. */
const FINAL_BLOCK = [0x03, 0x00]
const TRAILER_BYTES = FINAL_BLOCK.length + 8
/** What is compressed for one stream alone has to be worth it. */
const MIN_OWN_BYTES = 256

/** What streams that keep step were given since the first of them began to: its CRC-32 as a signed integer, and its length in bytes. */
export class RunningCrc {
  readonly crc: number
  readonly length: number

  constructor(crc = 0, length = 0) {
    this.crc = crc
    this.length = length
  }

  /** The tally once they were given these bytes too. */
  after({ bytes, crc32: combiner }: SharedBytes): RunningCrc {
    return new RunningCrc(combiner.after(this.crc), this.length + bytes.length)
  }
}

/** Where a stream keeps step with others. */
export interface GroupMembership {
  /** It goes on by itself: {@link GzipBody.leave} is called. */
  part(): void
}

/**
 * The body of one response as a gzip stream, made of blocks that others are given too and of blocks of its own. What it
 * keeps is a checksum and a length: nothing is held back, and no compressor belongs to it. While it keeps step with
 * others not even these are touched, because a tally of what all are given tells them when it leaves.
 */
export class GzipBody {
  readonly #window: Window | null
  #crc = 0
  #length = 0
  /** Who it keeps step with, and what these had been given when it began to. */
  #company: GroupMembership | null = null
  #joinedAt: RunningCrc | null = null

  /** @param keepsWindow whether blocks may refer to those before them, where all who are given them have had those. */
  constructor(keepsWindow: boolean) {
    this.#window = keepsWindow ? new Window() : null
  }

  /** Its first bytes: the header, and `first`. */
  begin(first: Buffer): Buffer {
    return Buffer.concat([HEADER, this.own(first)])
  }

  /**
   * From now on, until it has a block of its own or {@link leave leaves}, it is given blocks of which it is not told.
   *
   * @param position up to where it has every event.
   * @returns the position from which on those blocks may refer to events; `Infinity` where they must stand alone.
   */
  join(company: GroupMembership, tally: RunningCrc, position: number): number {
    this.#company = company
    this.#joinedAt = tally
    if (this.#window === null) return Infinity
    if (this.#window.at !== position) this.#window.from = position + 1
    return this.#window.from
  }

  /** It has been given what the others have, up to `position`, which is what `tally` counts. */
  leave(tally: RunningCrc, position: number): void {
    const { crc, length } = this.#joinedAt as RunningCrc
    this.#company = this.#joinedAt = null
    const given = tally.length - length
    if (given === 0) return
    this.#crc = advanced(this.#crc ^ crc, given) ^ tally.crc
    this.#length = (this.#length + given) | 0
    if (this.#window !== null) this.#window.at = position
  }

  /** The block of bytes that other streams are given too. */
  shared(shared: SharedBytes): FramedBytes {
    this.#company?.part()
    this.#crc = shared.crc32.after(this.#crc)
    this.#length = (this.#length + shared.bytes.length) | 0
    return this.#window === null ? shared.deflated : shared.deflatedFor(this.#window)
  }

  /** The block of bytes that are this stream's alone. */
  own(bytes: Buffer): Buffer {
    this.#company?.part()
    this.#crc = crc32(bytes, this.#crc >>> 0) | 0
    this.#length = (this.#length + bytes.length) | 0
    if (this.#window !== null) this.#window.at = -1
    return bytes.length < MIN_OWN_BYTES ? store(bytes) : deflate(bytes)
  }

  /** Its last bytes, which some readers (Node's) miss where they do not come. */
  end(): Buffer {
    this.#company?.part()
    const trailer = Buffer.alloc(TRAILER_BYTES)
    trailer.set(FINAL_BLOCK)
    trailer.writeInt32LE(this.#crc, FINAL_BLOCK.length)
    trailer.writeInt32LE(this.#length, FINAL_BLOCK.length + 4)
    return trailer
  }
}
