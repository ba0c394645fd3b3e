import { crc32 } from 'node:zlib'

/** The polynomial of CRC-32, the lowest power in the highest bit (RFC 1952, section 8). */
const POLYNOMIAL = 0xed_b8_83_20
/** The polynomials 1 and x^8 in the same order of bits. */
const ONE = 0x80_00_00_00 | 0
const BYTE = 0x00_80_00_00
/** From so many uses on it is worth making a table, by which a use costs eight look-ups. */
const TABLE_USES = 8

/** The CRC-32 of a stretch of bytes, ready to continue the CRC-32 of whatever stood before it in a stream. */
export class Crc32Combiner {
  readonly #crc: number
  /** What the bytes' length multiplies the CRC before them by: x to the power of its bits. */
  readonly #factor: number
  #uses = 0
  #table: Int32Array | null = null

  constructor(bytes: Buffer) {
    this.#crc = crc32(bytes) | 0
    this.#factor = power(BYTE, bytes.length)
  }

  /** The CRC-32, as a signed integer, of a stream that had the CRC-32 `before` and goes on with these bytes. */
  after(before: number): number {
    if (this.#table === null && ++this.#uses < TABLE_USES) return multiply(before, this.#factor) ^ this.#crc
    const table = (this.#table ??= tableOf(this.#factor))
    let crc = this.#crc
    for (let half = 0, rest = before; half < 128; half += 16, rest >>>= 4) crc ^= table[half + (rest & 15)] as number
    return crc
  }
}

/** What a CRC-32, as a signed integer, counts for when so many bytes follow what it is of. */
export function advanced(crc: number, bytes: number): number {
  return multiply(crc, power(BYTE, bytes))
}

/** The products of a factor and each value of each of the eight half-bytes of a CRC. */
function tableOf(factor: number): Int32Array {
  const table = new Int32Array(128)
  // The highest bit stands for 1, each lower one for a power of x more.
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

/** The product of two polynomials over GF(2), modulo that of CRC-32. */
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
