import { crc32 } from 'node:zlib'
import type { FramedBytes } from '../basics/framed-bytes.ts'
import { shiftCrc32 } from './crc32-combiner.ts'
import { deflate, store } from './deflate.ts'
import { type SharedBytes, Window } from './shared-bytes.ts'

/** A gzip header without a file name or time, from an unknown operating system (RFC 1952, section 2.3). */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])
/** An empty DEFLATE block that is marked as the last one. The CRC-32 and the length of the data (modulo 2^32) follow it. */
const FINAL_BLOCK = [0x03, 0x00]
const TRAILER_BYTES = FINAL_BLOCK.length + 8
/** Shorter bytes for a single stream are stored, because compressing them costs more CPU time than it is worth. */
const MIN_OWN_BYTES = 256

/**
 * The CRC-32 (as a signed integer) and the length in bytes of everything that a lockstep group has received since the group
 * began.
 */
export class RunningCrc {
  readonly crc: number
  readonly length: number

  constructor(crc = 0, length = 0) {
    this.crc = crc
    this.length = length
  }

  /** The value after the group has received these bytes as well. */
  after({ bytes, crc32: combiner }: SharedBytes): RunningCrc {
    return new RunningCrc(combiner.after(this.crc), this.length + bytes.length)
  }
}

/** A stream's membership in a lockstep group. */
export interface GroupMembership {
  /** Takes the stream out of the group. It must call {@link GzipBody.leave}. */
  leaveLockstep(): void
}

/**
 * The body of one response as a gzip stream. It consists of blocks that other streams receive too, and of blocks of its own.
 *
 * The state of a body is a CRC-32 and a length. It has no compressor and buffers nothing. While the stream is in a lockstep
 * group, a write does not even update these two numbers: the group keeps a {@link RunningCrc} for all its members, from which
 * a member catches up when it leaves.
 */
export class GzipBody {
  readonly #window: Window | null
  #crc = 0
  #length = 0
  /** The group that the stream is in, and the group's running CRC when the stream joined it. */
  #membership: GroupMembership | null = null
  #crcAtJoin: RunningCrc | null = null

  /** @param keepsWindow whether a block may refer to earlier events that all its receivers have received. */
  constructor(keepsWindow: boolean) {
    this.#window = keepsWindow ? new Window() : null
  }

  /** The first bytes of the body: the gzip header and a block with `first`. */
  begin(first: Buffer): Buffer {
    return Buffer.concat([HEADER, this.own(first)])
  }

  /**
   * Joins a lockstep group. From now on the group writes blocks to the stream without calling this object, until the stream
   * writes a block of its own or {@link leave leaves}.
   *
   * @param running the group's running CRC.
   * @param position the position up to which the stream has received all events.
   * @returns the position of the first event that the group's blocks may refer to, or `Infinity` if they must refer to none.
   */
  join(membership: GroupMembership, running: RunningCrc, position: number): number {
    this.#membership = membership
    this.#crcAtJoin = running
    if (this.#window === null) return Infinity
    if (this.#window.endPosition !== position) this.#window.startPosition = position + 1
    return this.#window.startPosition
  }

  /** Leaves the group, after the stream has received the group's events up to `position`. `running` covers those events. */
  leave(running: RunningCrc, position: number): void {
    const { crc, length } = this.#crcAtJoin as RunningCrc
    this.#membership = this.#crcAtJoin = null
    const received = running.length - length
    if (received === 0) return
    this.#crc = shiftCrc32(this.#crc ^ crc, received) ^ running.crc
    this.#length = (this.#length + received) | 0
    if (this.#window !== null) this.#window.endPosition = position
  }

  /** The block for bytes that other streams receive too. */
  shared(shared: SharedBytes): FramedBytes {
    this.#membership?.leaveLockstep()
    this.#crc = shared.crc32.after(this.#crc)
    this.#length = (this.#length + shared.bytes.length) | 0
    return this.#window === null ? shared.deflated : shared.deflatedFor(this.#window)
  }

  /** The block for bytes that only this stream receives. */
  own(bytes: Buffer): Buffer {
    this.#membership?.leaveLockstep()
    this.#crc = crc32(bytes, this.#crc >>> 0) | 0
    this.#length = (this.#length + bytes.length) | 0
    if (this.#window !== null) this.#window.endPosition = -1
    return bytes.length < MIN_OWN_BYTES ? store(bytes) : deflate(bytes)
  }

  /** The last bytes of the body. Some readers, such as Node's, report an error if a body ends without them. */
  end(): Buffer {
    this.#membership?.leaveLockstep()
    const trailer = Buffer.alloc(TRAILER_BYTES)
    trailer.set(FINAL_BLOCK)
    trailer.writeInt32LE(this.#crc, FINAL_BLOCK.length)
    trailer.writeInt32LE(this.#length, FINAL_BLOCK.length + 4)
    return trailer
  }
}
