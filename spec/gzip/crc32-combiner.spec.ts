import { crc32 } from 'node:zlib'
import * as fc from 'fast-check'
import { Crc32Combiner, shiftCrc32 } from '../../lib/gzip/crc32-combiner.ts'

describe('Crc32Combiner', () => {
  it('appends its bytes to any CRC-32, with a product or with a table', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 3_000 }),
        fc.array(fc.uint8Array({ maxLength: 50 }), { minLength: 20, maxLength: 20 }),
        (bytes, befores) => {
          const combiner = new Crc32Combiner(Buffer.from(bytes))
          // 20 uses: the table is made at the eighth.
          for (const before of befores) {
            expect(combiner.after(crc32(before) | 0) >>> 0).toBe(crc32(Buffer.concat([before, bytes])))
          }
        },
      ),
      { seed: 1 },
    )
  })

  it.each([0, 1, 255, 65_536, 1_048_577, 5_000_000])('is correct for %i bytes', (length) => {
    const bytes = Buffer.alloc(length, 'checksum')
    const combiner = new Crc32Combiner(bytes)
    const before = crc32('before') | 0
    for (let use = 0; use < 10; use++) expect(combiner.after(before) >>> 0).toBe(crc32(bytes, before >>> 0))
  })
})

describe('shiftCrc32', () => {
  it('yields the CRC-32 of a whole, even past 4 GiB', () => {
    const [one, two] = [Buffer.from('one'), Buffer.from('and two')]
    expect((shiftCrc32(crc32(one) | 0, two.length) ^ crc32(two)) >>> 0).toBe(crc32(Buffer.concat([one, two])))
    expect(shiftCrc32(shiftCrc32(12_345, 3_000_000_000), 3_000_000_000)).toBe(shiftCrc32(12_345, 6_000_000_000))
    expect(shiftCrc32(12_345, 6_000_000_000)).not.toBe(shiftCrc32(12_345, 6_000_000_000 - 2 ** 32))
  })
})
