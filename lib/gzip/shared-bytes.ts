import { Checksum } from './checksum.ts'
import { deflate, store } from './deflate.ts'

/** What a stream that keeps its window has had last without anything in between, by which others can tell what it knows. */
export class Window {
  /** The position of the last event, if that was the last thing written; -1 otherwise. */
  at = -1
  /** The position of the event with which the stretch that ends there began. */
  from = -1
}

/** Bytes that many streams are given, compressed once for all who take gzip. */
export class SharedBytes {
  readonly bytes: Buffer
  /** Whether they are compressed at all. */
  protected readonly isWorthIt: boolean
  #deflated: Buffer | null = null
  #checksum: Checksum | null = null

  /** @param isWorthIt `false` for bytes that few are given: they are not compressed. */
  constructor(bytes: Buffer, isWorthIt = true) {
    this.bytes = bytes
    this.isWorthIt = isWorthIt
  }

  /** The bytes as blocks of raw DEFLATE that can follow anything. */
  get deflated(): Buffer {
    return (this.#deflated ??= this.isWorthIt ? deflate(this.bytes) : store(this.bytes))
  }

  get checksum(): Checksum {
    return (this.#checksum ??= new Checksum(this.bytes))
  }

  /** The bytes as blocks that can follow what the window tells, which is moved to their end. */
  deflatedFor(window: Window): Buffer {
    window.at = -1
    return this.deflated
  }
}
