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
    ['no bytes', Buffer.alloc(0)],
    ['a byte', Buffer.from('a')],
    ['a small event', Buffer.from('data: 1\n\n')],
    ['repetitive text', TEXT],
    ['noise', noise(1_000)],
    ['noise, one byte more than a stored block', noise(65_536)],
    ['200,000 bytes', Buffer.alloc(200_000, TEXT)],
    ['2 MiB', Buffer.alloc(2_097_152, TEXT)],
  ])('makes blocks that can follow each other in any order: %s', (_what, bytes) => {
    expect(
      inflate(Buffer.concat([deflate(TEXT), deflate(bytes), deflate(bytes), deflate(TEXT)])).equals(
        Buffer.concat([TEXT, bytes, bytes, TEXT]),
      ),
    ).toBe(true)
  })

  it('makes compressible bytes smaller', () => {
    expect(deflate(TEXT).length).toBeLessThan(TEXT.length / 3)
    expect(deflate(Buffer.alloc(1_000_000, TEXT)).length).toBeLessThan(20_000)
  })

  it('never takes more bytes than storing does', () => {
    expect(deflate(noise(1_000))).toHaveLength(1_005)
    expect(store(noise(65_535))).toHaveLength(65_540)
    expect(store(noise(65_536))).toHaveLength(65_546)
  })

  it('stores bytes longer than 1 MiB, which would take long to compress', () => {
    expect(deflate(Buffer.alloc(1_048_577, 'a')).length).toBeGreaterThan(1_048_577)
  })

  it('refers to the bytes of its window', () => {
    const alone = deflate(TEXT.subarray(0, 100))
    const after = deflate(TEXT.subarray(0, 100), TEXT)
    expect(after.length).toBeLessThan(alone.length / 2)
    expect(inflate(Buffer.concat([deflate(TEXT), after])).toString()).toBe(`${TEXT.toString()}${TEXT.toString('utf8', 0, 100)}`)
  })

  it('holds no buffer larger than its result', () => {
    expect(deflate(TEXT).buffer.byteLength).toBe(deflate(TEXT).length)
  })
})

describe('GzipBody', () => {
  it.each([true, false])('is accepted by gunzip, with its checksum and length (keepsWindow: %p)', (keepsWindow) => {
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

  it('is accepted by gunzip without any data', () => {
    const body = new GzipBody(false)
    expect(gunzipSync(Buffer.concat([body.begin(Buffer.alloc(0)), body.end()]))).toHaveLength(0)
  })

  it('is refused by gunzip if the checksum is wrong', () => {
    const body = new GzipBody(false)
    const parts = [body.begin(Buffer.from('retry: 1\n')), body.end()]
    parts[1]!.writeUInt8(parts[1]!.readUInt8(2) ^ 1, 2)
    expect(() => gunzipSync(Buffer.concat(parts))).toThrow('incorrect data check')
  })

  it('can be decompressed block by block as it arrives', async () => {
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

  it('shares one block of shared bytes with other bodies', () => {
    const shared = SharedBytes.of(TEXT)
    expect(new GzipBody(false).shared(shared)).toBe(new GzipBody(true).shared(shared))
  })
})

describe('GzipBody in a lockstep group', () => {
  const shared = SharedBytes.of(TEXT)
  const first = Buffer.from('data: first\n\n')

  /** Makes a body that joins a group at `running` and `position`. `now` is the state of the group, and counts calls of `part`. */
  function joined(keepsWindow: boolean, running: RunningCrc, position = 7) {
    const body = new GzipBody(keepsWindow)
    const parts = [body.begin(first)]
    const now = { running, position, parted: 0 }
    const membership: GroupMembership = {
      leaveLockstep: () => {
        now.parted++
        body.leave(now.running, now.position)
      },
    }
    const from = body.join(membership, running, position)
    /** Writes shared bytes to all members of the group. */
    const write = (count: number): void => {
      for (let n = 0; n < count; n++) {
        now.running = now.running.after(shared)
        now.position++
        parts.push(shared.deflated.bytes)
      }
    }
    return { body, parts, now, write, from }
  }

  it.each([
    ['a block of its own', (body: GzipBody) => [body.own(first), first]],
    ['bytes shared with other streams', (body: GzipBody) => [body.shared(SharedBytes.of(first)).bytes, first]],
    ['its end', () => [Buffer.alloc(0), Buffer.alloc(0)]],
  ])('has the checksum of everything it received before and after it leaves with %s', (_what, act) => {
    // The group has received something before the body joins.
    const { body, parts, now, write } = joined(false, new RunningCrc().after(shared).after(SharedBytes.of(first)))
    write(3)
    const [block, plain] = act(body) as [Buffer, Buffer]
    expect(gunzipSync(Buffer.concat([...parts, block, body.end()])).toString()).toBe(
      Buffer.concat([first, TEXT, TEXT, TEXT, plain]).toString(),
    )
    expect(now.parted).toBe(1)
  })

  it('can join again after it has left', () => {
    const { body, parts, now, write } = joined(false, new RunningCrc())
    write(2)
    body.leave(now.running, now.position)
    parts.push(body.own(first))
    body.join({ leaveLockstep: () => body.leave(now.running, now.position) }, now.running, now.position)
    write(1)
    expect(gunzipSync(Buffer.concat([...parts, body.end()])).toString()).toBe(Buffer.concat([first, TEXT, TEXT, first, TEXT]).toString())
  })

  it('allows blocks to refer to no event without a window, and otherwise to the events after the one at which it joined', () => {
    expect(joined(false, new RunningCrc()).from).toBe(Infinity)
    expect(joined(true, new RunningCrc(), 7).from).toBe(8)
  })

  it('receives blocks that refer to events received in the group', () => {
    const page = new LogPage(65_536)
    for (let position = 1; position <= 4; position++) page.append(TEXT.toString(), TEXT.length, position, 0, true, undefined)
    const [alone, inWindow] = [page.chunk(3, 4).deflated, page.chunk(3, 4).deflatedSince(1)]
    expect(inWindow.bytes.length).toBeLessThan(alone.bytes.length / 2)
    const body = new GzipBody(true)
    body.begin(first)
    expect(body.join({ leaveLockstep() {} }, new RunningCrc(), 0)).toBe(1)
    body.leave(new RunningCrc().after(page.chunk(0, 3)), 3)
    expect(body.shared(page.chunk(3, 4))).toBe(inWindow)
    // A stream that joined later does not have those events.
    expect([2, 3, Infinity].map((from) => page.chunk(3, 4).deflatedSince(from) === alone)).toEqual([true, true, true])
  })

  it('receives small pieces from the middle of a page uncompressed, with a window or without', () => {
    const page = new LogPage(65_536)
    for (let position = 1; position <= 3; position++) page.append(TEXT.toString(), TEXT.length, position, 0, true, undefined)
    expect(page.chunk(1, 2).deflatedSince(1).bytes).toHaveLength(TEXT.length + 5)
    expect(page.chunk(2, 3).deflatedSince(1).bytes.length).toBeLessThan(TEXT.length / 2)
  })
})
