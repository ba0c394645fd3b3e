import { constants, deflateRawSync } from 'node:zlib'

/** The longest stored block there is (RFC 1951, section 3.2.4), and what comes before its bytes. */
const MAX_STORED_BYTES = 65_535
const STORED_HEADER_BYTES = 5
/** Less than this does not become smaller. */
const MIN_DEFLATED_BYTES = 64
/** More than this is compressed in haste, and more than that not at all: it would hold the event loop for too long. */
const HASTE_BYTES = 65_536
const MAX_DEFLATED_BYTES = 1_048_576

/**
 * Compresses bytes into whole blocks of raw DEFLATE that end at the boundary of a byte, so that blocks made apart follow
 * each other in one stream. What would not become smaller, and what is more than 1 MiB, is {@link store stored}.
 *
 * @param window what stands before the bytes in the stream: they are compressed with regard to it. Without it they can
 *   follow anything.
 */
export function deflate(bytes: Buffer, window?: Buffer): Buffer {
  const { length } = bytes
  if (length < MIN_DEFLATED_BYTES || length > MAX_DEFLATED_BYTES) return store(bytes)
  const deflated = deflateRawSync(bytes, {
    level: length > HASTE_BYTES ? 1 : constants.Z_DEFAULT_COMPRESSION,
    finishFlush: constants.Z_SYNC_FLUSH,
    chunkSize: Math.max(constants.Z_MIN_CHUNK, length),
    dictionary: window,
  })
  if (deflated.length >= length + STORED_HEADER_BYTES) return store(bytes)
  // The buffer that it was compressed into is as large as what it was made of.
  const exact = Buffer.allocUnsafeSlow(deflated.length)
  deflated.copy(exact)
  return exact
}

/** Puts bytes as they are into blocks of raw DEFLATE. */
export function store(bytes: Buffer): Buffer {
  const blocks = Math.ceil(bytes.length / MAX_STORED_BYTES)
  const stored = Buffer.allocUnsafeSlow(bytes.length + blocks * STORED_HEADER_BYTES)
  let at = 0
  for (let from = 0; from < bytes.length; from += MAX_STORED_BYTES) {
    const length = Math.min(MAX_STORED_BYTES, bytes.length - from)
    stored[at] = 0
    stored.writeUInt16LE(length, at + 1)
    stored.writeUInt16LE(MAX_STORED_BYTES - length, at + 3)
    at += STORED_HEADER_BYTES
    at += bytes.copy(stored, at, from, from + length)
  }
  return stored
}
