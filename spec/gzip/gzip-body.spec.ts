import { constants, createGunzip, gunzipSync, inflateRawSync } from 'node:zlib'
import { deflate, store } from '../../lib/gzip/deflate.ts'
import { type GroupMembership, GzipBody, RunningCrc } from '../../lib/gzip/gzip-body.ts'
import { SharedBytes } from '../../lib/gzip/shared-bytes.ts'
import { LogPage } from '../../lib/log/log-page.ts'
import { randomFrom } from '../support/random.ts'

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
    expect(
      inflate(Buffer.concat([deflate(TEXT), deflate(bytes), deflate(bytes), deflate(TEXT)])).equals(
        Buffer.concat([TEXT, bytes, bytes, TEXT]),
      ),
    ).toBe(true)
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
    const shared = SharedBytes.of(TEXT)
    const parts = [
      body.begin(Buffer.from('retry: 1\n')),
      body.shared(shared).bytes,
      body.own(Buffer.from('data: own\n\n')),
      body.shared(shared).bytes,
      body.own(TEXT),
      body.end(),
    ]
    expect(gunzipSync(Buffer.concat(parts)).toString()).toBe(
      `retry: 1\n${TEXT.toString()}data: own\n\n${TEXT.toString()}${TEXT.toString()}`,
    )
  })

  it('is taken without a first part', () => {
    const body = new GzipBody(false)
    expect(gunzipSync(Buffer.concat([body.begin(Buffer.alloc(0)), body.end()]))).toHaveLength(0)
  })

  it('is refused by gunzip when the checksum is wrong', () => {
    const body = new GzipBody(false)
    const parts = [body.begin(Buffer.from('retry: 1\n')), body.end()]
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
    expect(await read(body.begin(Buffer.from('retry: 1\n')))).toBe('retry: 1\n')
    expect(await read(body.shared(SharedBytes.of(TEXT)).bytes)).toBe(TEXT.toString())
    expect(await read(body.own(Buffer.from('data: own\n\n')))).toBe('data: own\n\n')
    gunzip.close()
  })

  it('gives the very same block to all who take shared bytes', () => {
    const shared = SharedBytes.of(TEXT)
    expect(new GzipBody(false).shared(shared)).toBe(new GzipBody(true).shared(shared))
  })
})

describe('gzip bodies that keep step', () => {
  const shared = SharedBytes.of(TEXT)
  const first = Buffer.from('data: first\n\n')

  /** A body that is given the same as others from the beginning of `tally` on, and what it is told when it goes on by itself. */
  function joined(keepsWindow: boolean, tally: RunningCrc, position = 7) {
    const body = new GzipBody(keepsWindow)
    const parts = [body.begin(first)]
    const now = { tally, position, parted: 0 }
    const company: GroupMembership = {
      part: () => {
        now.parted++
        body.leave(now.tally, now.position)
      },
    }
    const from = body.join(company, tally, position)
    /** Gives it what all are given. */
    const give = (count: number): void => {
      for (let n = 0; n < count; n++) {
        now.tally = now.tally.after(shared)
        now.position++
        parts.push(shared.deflated.bytes)
      }
    }
    return { body, parts, now, give, from }
  }

  it.each([
    ['a block of its own', (body: GzipBody) => [body.own(first), first]],
    ['bytes that others are given too', (body: GzipBody) => [body.shared(SharedBytes.of(first)).bytes, first]],
    ['its end', () => [Buffer.alloc(0), Buffer.alloc(0)]],
  ])('have the checksum of all they were given, up to %s', (_what, act) => {
    // Others had been given something before.
    const { body, parts, now, give } = joined(false, new RunningCrc().after(shared).after(SharedBytes.of(first)))
    give(3)
    const [block, plain] = act(body) as [Buffer, Buffer]
    expect(gunzipSync(Buffer.concat([...parts, block, body.end()])).toString()).toBe(
      Buffer.concat([first, TEXT, TEXT, TEXT, plain]).toString(),
    )
    expect(now.parted).toBe(1)
  })

  it('join again where they left', () => {
    const { body, parts, now, give } = joined(false, new RunningCrc())
    give(2)
    body.leave(now.tally, now.position)
    parts.push(body.own(first))
    body.join({ part: () => body.leave(now.tally, now.position) }, now.tally, now.position)
    give(1)
    expect(gunzipSync(Buffer.concat([...parts, body.end()])).toString()).toBe(Buffer.concat([first, TEXT, TEXT, first, TEXT]).toString())
  })

  it('say from where on blocks may refer to events: never, or from after where they joined', () => {
    expect(joined(false, new RunningCrc()).from).toBe(Infinity)
    expect(joined(true, new RunningCrc(), 7).from).toBe(8)
  })

  it('are given blocks that refer to what they were given with others', () => {
    const page = new LogPage(65_536)
    for (let position = 1; position <= 4; position++) page.append(TEXT.toString(), TEXT.length, position, 0, true, undefined)
    const [alone, inWindow] = [page.chunk(3, 4).deflated, page.chunk(3, 4).deflatedSince(1)]
    expect(inWindow.bytes.length).toBeLessThan(alone.bytes.length / 2)
    const body = new GzipBody(true)
    body.begin(first)
    expect(body.join({ part() {} }, new RunningCrc(), 0)).toBe(1)
    body.leave(new RunningCrc().after(page.chunk(0, 3)), 3)
    expect(body.shared(page.chunk(3, 4))).toBe(inWindow)
    // Which one that came later is not.
    expect([2, 3, Infinity].map((from) => page.chunk(3, 4).deflatedSince(from) === alone)).toEqual([true, true, true])
  })

  it('are given small pieces from within a page as they are, window or not', () => {
    const page = new LogPage(65_536)
    for (let position = 1; position <= 3; position++) page.append(TEXT.toString(), TEXT.length, position, 0, true, undefined)
    expect(page.chunk(1, 2).deflatedSince(1).bytes).toHaveLength(TEXT.length + 5)
    expect(page.chunk(2, 3).deflatedSince(1).bytes.length).toBeLessThan(TEXT.length / 2)
  })
})
