import { frame, FramedBytes } from '../basics/framed-bytes.ts'
import { Crc32Combiner } from './crc32-combiner.ts'
import { deflate, store } from './deflate.ts'

/** What a stream that keeps its window has had last without anything in between, by which others can tell what it knows. */
export class Window {
  /** The position of the last event, if that was the last thing written; -1 otherwise. */
  at = -1
  /** The position of the event with which the stretch that ends there began. */
  from = -1
}

/** Bytes that many streams are given, compressed once for all who take gzip. */
export class SharedBytes extends FramedBytes {
  /** Whether they are compressed at all. */
  protected readonly isWorthIt: boolean
  #deflated: FramedBytes | null = null
  #crc32: Crc32Combiner | null = null

  /** @param isWorthIt `false` for bytes that few are given: they are not compressed. */
  constructor(framed: Buffer, isWorthIt = true) {
    super(framed)
    this.isWorthIt = isWorthIt
  }

  /** Shares bytes that have no frame yet. */
  static of(bytes: Buffer, isWorthIt = true): SharedBytes {
    return new SharedBytes(frame(bytes), isWorthIt)
  }

  /** The bytes as blocks of raw DEFLATE that can follow anything. */
  get deflated(): FramedBytes {
    return (this.#deflated ??= new FramedBytes(frame(this.isWorthIt ? deflate(this.bytes) : store(this.bytes))))
  }

  get crc32(): Crc32Combiner {
    return (this.#crc32 ??= new Crc32Combiner(this.bytes))
  }

  /** The bytes as blocks that can follow what the window tells, which is moved to their end. */
  deflatedFor(window: Window): FramedBytes {
    window.at = -1
    return this.deflated
  }
}
