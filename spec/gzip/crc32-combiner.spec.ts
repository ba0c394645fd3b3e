import { crc32 } from 'node:zlib'
import { array, assert, property, uint8Array } from 'fast-check'
import { shiftCrc32, Crc32Combiner } from '../../lib/gzip/crc32-combiner.ts'

describe('a checksum', () => {
  it('continues the CRC-32 of whatever came before, by a product and by a table', () => {
    assert(
      property(
        uint8Array({ maxLength: 3_000 }),
        array(uint8Array({ maxLength: 50 }), { minLength: 20, maxLength: 20 }),
        (bytes, befores) => {
          const checksum = new Crc32Combiner(Buffer.from(bytes))
          // More uses than it takes to make the table.
          for (const before of befores) {
            expect(checksum.after(crc32(before) | 0) >>> 0).toBe(crc32(Buffer.concat([before, bytes])))
          }
        },
      ),
      { seed: 1 },
    )
  })

  it.each([0, 1, 255, 65_536, 1_048_577, 5_000_000])('is right for %i bytes', (length) => {
    const bytes = Buffer.alloc(length, 'checksum')
    const checksum = new Crc32Combiner(bytes)
    const before = crc32('before') | 0
    for (let use = 0; use < 10; use++) expect(checksum.after(before) >>> 0).toBe(crc32(bytes, before >>> 0))
  })

  it('counts for what it does when more follows, also past 4 GiB', () => {
    const [one, two] = [Buffer.from('one'), Buffer.from('and two')]
    expect((shiftCrc32(crc32(one) | 0, two.length) ^ crc32(two)) >>> 0).toBe(crc32(Buffer.concat([one, two])))
    expect(shiftCrc32(shiftCrc32(12_345, 3_000_000_000), 3_000_000_000)).toBe(shiftCrc32(12_345, 6_000_000_000))
    expect(shiftCrc32(12_345, 6_000_000_000)).not.toBe(shiftCrc32(12_345, 6_000_000_000 - 2 ** 32))
  })
})
