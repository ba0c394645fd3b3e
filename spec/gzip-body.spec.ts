import { constants, createGunzip, gunzipSync, inflateRawSync } from 'node:zlib'
import { deflate, store } from '../lib/gzip/deflate.ts'
import { GzipBody } from '../lib/gzip/gzip-body.ts'
import { SharedBytes } from '../lib/gzip/shared-bytes.ts'
import { randomFrom } from './support/fake-connection.ts'

/** Decodes blocks that are not the end of a stream. */
const inflate = (blocks: Buffer): Buffer => inflateRawSync(blocks, { finishFlush: constants.Z_SYNC_FLUSH })

function noise(length: number): Buffer {
  const random = randomFrom(length)
  return Buffer.from(Uint8Array.from({ length }, () => Math.floor(random() * 256)))
}

const TEXT = Buffer.from('event: update\ndata: {"name":"one","name":"two","name":"three"}\n\n'.repeat(5))

describe('deflate', () => {
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['a byte', Buffer.from('a')],
    ['a small event', Buffer.from('data: 1\n\n')],
    ['what repeats itself', TEXT],
    ['noise', noise(1_000)],
    ['noise of a stored block and a byte', noise(65_536)],
    ['200,000 bytes', Buffer.alloc(200_000, TEXT)],
    ['2 MiB', Buffer.alloc(2_097_152, TEXT)],
  ])('makes blocks that follow each other in any order: %s', (_what, bytes) => {
    expect(inflate(Buffer.concat([deflate(TEXT), deflate(bytes), deflate(bytes), deflate(TEXT)])).equals(Buffer.concat([TEXT, bytes, bytes, TEXT]))).toBe(true)
  })

  it('makes smaller what can be', () => {
    expect(deflate(TEXT).length).toBeLessThan(TEXT.length / 3)
    expect(deflate(Buffer.alloc(1_000_000, TEXT)).length).toBeLessThan(20_000)
  })

  it('never makes more of anything than storing it takes', () => {
    expect(deflate(noise(1_000))).toHaveLength(1_005)
    expect(store(noise(65_535))).toHaveLength(65_540)
    expect(store(noise(65_536))).toHaveLength(65_546)
  })

  it('leaves what is larger than 1 MiB as it is, which takes long to compress', () => {
    expect(deflate(Buffer.alloc(1_048_577, 'a')).length).toBeGreaterThan(1_048_577)
  })

  it('refers to the window that it is given', () => {
    const alone = deflate(TEXT.subarray(0, 100))
    const after = deflate(TEXT.subarray(0, 100), TEXT)
    expect(after.length).toBeLessThan(alone.length / 2)
    expect(inflate(Buffer.concat([deflate(TEXT), after])).toString()).toBe(`${TEXT.toString()}${TEXT.toString('utf8', 0, 100)}`)
  })

  it('keeps no buffer larger than what came out', () => {
    expect(deflate(TEXT).buffer.byteLength).toBe(deflate(TEXT).length)
  })
})

describe('a gzip body', () => {
  it.each([true, false])('is what gunzip takes, with its checksum and length (window kept: %p)', (keepsWindow) => {
    const body = new GzipBody(keepsWindow)
    const shared = new SharedBytes(TEXT)
    const parts = [body.begin(Buffer.from('retry: 1\n\n')), body.shared(shared), body.own(Buffer.from('data: own\n\n')), body.shared(shared), body.own(TEXT), body.end()]
    expect(gunzipSync(Buffer.concat(parts)).toString()).toBe(`retry: 1\n\n${TEXT.toString()}data: own\n\n${TEXT.toString()}${TEXT.toString()}`)
  })

  it('is taken without a first part', () => {
    const body = new GzipBody(false)
    expect(gunzipSync(Buffer.concat([body.begin(Buffer.alloc(0)), body.end()]))).toHaveLength(0)
  })

  it('is refused by gunzip when the checksum is wrong', () => {
    const body = new GzipBody(false)
    const parts = [body.begin(Buffer.from('retry: 1\n\n')), body.end()]
    parts[1]!.writeUInt8(parts[1]!.readUInt8(2) ^ 1, 2)
    expect(() => gunzipSync(Buffer.concat(parts))).toThrow('incorrect data check')
  })

  it('can be read up to where it is, block by block', async () => {
    const body = new GzipBody(false)
    const gunzip = createGunzip({ flush: constants.Z_SYNC_FLUSH })
    const read = async (block: Buffer): Promise<string> => {
      const data = new Promise<Buffer>((resolve) => gunzip.once('data', resolve))
      gunzip.write(block)
      return (await data).toString()
    }
    expect(await read(body.begin(Buffer.from('retry: 1\n\n')))).toBe('retry: 1\n\n')
    expect(await read(body.shared(new SharedBytes(TEXT)))).toBe(TEXT.toString())
    expect(await read(body.own(Buffer.from('data: own\n\n')))).toBe('data: own\n\n')
    gunzip.close()
  })

  it('gives the very same block to all who take shared bytes', () => {
    const shared = new SharedBytes(TEXT)
    expect(new GzipBody(false).shared(shared)).toBe(new GzipBody(true).shared(shared))
  })
})
