import { constants, deflateRawSync } from 'node:zlib'

/** Maximum length of a stored block (RFC 1951, section 3.2.4), and the length of the header before its bytes. */
const MAX_STORED_BYTES = 65_535
const STORED_HEADER_BYTES = 5
/** Shorter bytes do not get smaller. */
const MIN_DEFLATED_BYTES = 64
/** Longer bytes are compressed at the fastest level, or not at all, because compressing them would block the event loop for too long. */
const MAX_DEFAULT_LEVEL_BYTES = 65_536
const MAX_DEFLATED_BYTES = 1_048_576

/**
 * Compresses bytes into whole blocks of raw DEFLATE that end at a byte boundary. Blocks that were made independently can
 * therefore follow each other in one stream. Bytes that would not get smaller, or that are longer than 1 MiB, are
 * {@link store stored}.
 *
 * @param window the bytes that precede these in every stream that receives the blocks. The blocks may refer to them. Without
 *   a window the blocks can follow any bytes.
 */
export function deflate(bytes: Buffer, window?: Buffer): Buffer {
  const { length } = bytes
  if (length < MIN_DEFLATED_BYTES || length > MAX_DEFLATED_BYTES) return store(bytes)
  const deflated = deflateRawSync(bytes, {
    level: length > MAX_DEFAULT_LEVEL_BYTES ? 1 : constants.Z_DEFAULT_COMPRESSION,
    finishFlush: constants.Z_SYNC_FLUSH,
    chunkSize: Math.max(constants.Z_MIN_CHUNK, length),
    dictionary: window,
  })
  if (deflated.length >= length + STORED_HEADER_BYTES) return store(bytes)
  // zlib returns a view of a buffer as large as the input, which must not stay in memory.
  const exact = Buffer.allocUnsafeSlow(deflated.length)
  deflated.copy(exact)
  return exact
}

/** Puts bytes into stored (uncompressed) blocks of raw DEFLATE. */
export function store(bytes: Buffer): Buffer {
  const blocks = Math.ceil(bytes.length / MAX_STORED_BYTES)
  const stored = Buffer.allocUnsafeSlow(bytes.length + blocks * STORED_HEADER_BYTES)
  let offset = 0
  for (let from = 0; from < bytes.length; from += MAX_STORED_BYTES) {
    const length = Math.min(MAX_STORED_BYTES, bytes.length - from)
    stored[offset] = 0
    stored.writeUInt16LE(length, offset + 1)
    stored.writeUInt16LE(MAX_STORED_BYTES - length, offset + 3)
    offset += STORED_HEADER_BYTES
    offset += bytes.copy(stored, offset, from, from + length)
  }
  return stored
}
