import { frame, FramedBytes } from '../basics/framed-bytes.ts'
import { Crc32Combiner } from './crc32-combiner.ts'
import { deflate, store } from './deflate.ts'

/**
 * The consecutive events that a stream received last. The receiver still has them in its DEFLATE window, so the next block may
 * refer to them.
 */
export class Window {
  /** Position of the first of these events. */
  startPosition = -1
  /** Position of the last of these events, or -1 if something else was written since. */
  endPosition = -1
}

/** Bytes that are written to many streams, and compressed once for all streams that accept gzip. */
export class SharedBytes extends FramedBytes {
  /** Whether {@link deflated} compresses the bytes or only stores them. */
  protected readonly isCompressed: boolean
  #deflated: FramedBytes | null = null
  #crc32: Crc32Combiner | null = null

  /** @param isCompressed `false` for bytes with so few receivers that compressing them is not worth the CPU time. */
  constructor(framed: Buffer, isCompressed = true) {
    super(framed)
    this.isCompressed = isCompressed
  }

  /** Shares bytes that have no frame yet. */
  static of(bytes: Buffer, isCompressed = true): SharedBytes {
    return new SharedBytes(frame(bytes), isCompressed)
  }

  /** The bytes as blocks of raw DEFLATE that refer to nothing before them. */
  get deflated(): FramedBytes {
    return (this.#deflated ??= new FramedBytes(frame(this.isCompressed ? deflate(this.bytes) : store(this.bytes))))
  }

  get crc32(): Crc32Combiner {
    return (this.#crc32 ??= new Crc32Combiner(this.bytes))
  }

  /** The bytes as blocks that may refer to the events in `window`. Updates `window`, because they end or extend it. */
  deflatedFor(window: Window): FramedBytes {
    window.endPosition = -1
    return this.deflated
  }
}
