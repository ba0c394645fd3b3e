import { crc32 } from 'node:zlib'

/*
 * Combines CRC-32 values, as zlib's `crc32_combine` does. A CRC-32 is the remainder of a division of polynomials over GF(2).
 * Appending n bytes to a stream multiplies its CRC-32 by x^(8n), and then adds (XORs) the CRC-32 of the n bytes.
 */

/** The polynomial of CRC-32, with the lowest power in the highest bit (RFC 1952, section 8). */
const POLYNOMIAL = 0xed_b8_83_20
/** The polynomials 1 and x^8, with their bits in the same order. */
const ONE = 0x80_00_00_00 | 0
const BYTE = 0x00_80_00_00
/** Number of uses that make a table worthwhile. A use of the table takes eight look-ups. */
const TABLE_USES = 8

/**
 * The CRC-32 of some bytes, which can be appended to the CRC-32 of any stream. It exists so that bytes shared by many gzip
 * streams are read once for their CRC-32, and not once per stream.
 */
export class Crc32Combiner {
  readonly #crc: number
  /** The polynomial by which appending the bytes multiplies the CRC-32 before them. */
  readonly #factor: number
  #uses = 0
  #table: Int32Array | null = null

  constructor(bytes: Buffer) {
    this.#crc = crc32(bytes) | 0
    this.#factor = power(BYTE, bytes.length)
  }

  /** The CRC-32, as a signed integer, of a stream with the CRC-32 `before` once these bytes are appended. */
  after(before: number): number {
    if (this.#table === null && ++this.#uses < TABLE_USES) return multiply(before, this.#factor) ^ this.#crc
    const table = (this.#table ??= tableOf(this.#factor))
    let crc = this.#crc
    for (let half = 0, rest = before; half < 128; half += 16, rest >>>= 4) crc ^= table[half + (rest & 15)] as number
    return crc
  }
}

/**
 * Multiplies a CRC-32 (as a signed integer) as appending `length` bytes does. XOR the result with the CRC-32 of those bytes to
 * get the CRC-32 of the whole.
 */
export function shiftCrc32(crc: number, length: number): number {
  return multiply(crc, power(BYTE, length))
}

/** Products of a factor and each of the 16 values of each of the eight half-bytes of a CRC. */
function tableOf(factor: number): Int32Array {
  const table = new Int32Array(128)
  // The highest bit stands for 1, and each lower bit for the next power of x.
  let product = factor
  for (let bit = 31; bit >= 0; bit--) {
    table[(bit >>> 2) * 16 + (1 << (bit & 3))] = product
    product = timesX(product)
  }
  for (let half = 0; half < 128; half += 16) {
    for (let value = 3; value < 16; value++) {
      const rest = value & (value - 1)
      if (rest !== 0) table[half + value] = (table[half + rest] as number) ^ (table[half + value - rest] as number)
    }
  }
  return table
}

function power(base: number, exponent: number): number {
  let product = ONE
  let square = base
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) product = multiply(square, product)
    square = multiply(square, square)
  }
  return product
}

/** The product of two polynomials over GF(2), modulo the polynomial of CRC-32. */
function multiply(a: number, b: number): number {
  let product = 0
  let shifted = b
  for (let rest = a; rest !== 0; rest <<= 1) {
    if (rest < 0) product ^= shifted
    shifted = timesX(shifted)
  }
  return product
}

function timesX(value: number): number {
  return (value >>> 1) ^ (POLYNOMIAL & -(value & 1))
}
