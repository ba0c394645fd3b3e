import { crc32 } from 'node:zlib'
import { deflate, store } from './deflate.ts'
import { type SharedBytes, Window } from './shared-bytes.ts'

/** A gzip header without a name or a time, from an unknown system (RFC 1952, section 2.3). */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])
/** An empty block that is the last one, then the CRC-32 and the length of what was compressed, modulo 2^32. */
const FINAL_BLOCK = [0x03, 0x00]
const TRAILER_BYTES = FINAL_BLOCK.length + 8
/** What is compressed for one stream alone has to be worth it. */
const MIN_OWN_BYTES = 256

/**
 * The body of one response as a gzip stream, made of blocks that others are given too and of blocks of its own. What it
 * keeps is a checksum and a length: nothing is held back, and no compressor belongs to it.
 */
export class GzipBody {
  readonly #window: Window | null
  #crc = 0
  #length = 0

  /** @param keepsWindow whether blocks may refer to those before them, where all who are given them have had those. */
  constructor(keepsWindow: boolean) {
    this.#window = keepsWindow ? new Window() : null
  }

  /** Its first bytes: the header, and `first`. */
  begin(first: Buffer): Buffer {
    return Buffer.concat([HEADER, this.own(first)])
  }

  /** The block of bytes that other streams are given too. */
  shared(shared: SharedBytes): Buffer {
    this.#crc = shared.checksum.after(this.#crc)
    this.#length = (this.#length + shared.bytes.length) | 0
    return this.#window === null ? shared.deflated : shared.deflatedFor(this.#window)
  }

  /** The block of bytes that are this stream's alone. */
  own(bytes: Buffer): Buffer {
    this.#crc = crc32(bytes, this.#crc >>> 0) | 0
    this.#length = (this.#length + bytes.length) | 0
    if (this.#window !== null) this.#window.at = -1
    return bytes.length < MIN_OWN_BYTES ? store(bytes) : deflate(bytes)
  }

  /** Its last bytes, which some readers (Node's) miss where they do not come. */
  end(): Buffer {
    const trailer = Buffer.alloc(TRAILER_BYTES)
    trailer.set(FINAL_BLOCK)
    trailer.writeInt32LE(this.#crc, FINAL_BLOCK.length)
    trailer.writeInt32LE(this.#length, FINAL_BLOCK.length + 4)
    return trailer
  }
}
