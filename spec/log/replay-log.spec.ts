import type { Chunk, LogPage } from '../../lib/log/log-page.ts'
import { noTotals, ReplayLog, replayBounds, type ReplayOptions } from '../../lib/log/replay-log.ts'
import { randomFrom } from '../support/random.ts'
import { times } from '../support/scale.ts'

const SIZE = 100

function makeLog(options: ReplayOptions = {}, floor = 0) {
  const totals = { bytes: 0 }
  const log = new ReplayLog(replayBounds('replay', options), floor, totals)
  let position = 1_000
  const append = (count = 1, { size = SIZE, time = 0 } = {}): void => {
    for (let n = 0; n < count; n++) log.append('x'.repeat(size), ++position, time, true)
  }
  return { log, totals, append }
}

const kept = (log: ReplayLog): number => log.count

/** What a log that keeps events holds: the buffers of its pages, and an estimate of the objects around them. */
function heldBy(log: ReplayLog, slotBytes = 50): number {
  const pages = new Set<LogPage>()
  for (let at = 0; log.seek(at); at = log.page.lastPosition) pages.add(log.page)
  return log.count === 0 ? 0 : [...pages].reduce((sum, page) => sum + 1_000 + page.capacity + page.count * slotBytes, 1_150)
}

/** The stretch of events after a position, up to a limit. */
function chunkAfter(log: ReplayLog, position: number, limit = Infinity): Chunk {
  if (!log.seek(position)) throw new Error(`there is nothing after ${position}`)
  return log.page.chunk(log.slot, log.page.endOf(log.slot, limit))
}

/** The position of the first event after another; `undefined` where there is none. */
const firstAfter = (log: ReplayLog, position: number) => (log.seek(position) ? log.page.positions[log.slot] : undefined)

/** Everything that follows a position, as a subscriber reads it. */
function readAfter(log: ReplayLog, position: number): string[] {
  const blocks: string[] = []
  for (let at = position; log.seek(at);) {
    const { page, slot } = log
    const chunk = chunkAfter(log, at)
    for (let n = slot; n < chunk.end; n++) blocks.push(page.blockAt(n))
    at = chunk.position
  }
  return blocks
}

describe('ReplayLog', () => {
  it('has defaults that are those of the documentation', () => {
    expect(replayBounds('replay', undefined)).toEqual({ maxEvents: 1_000, maxAgeMs: 300_000, maxBytes: 1_048_576, latestPerKey: false })
  })

  it('drops the oldest event when it has more than maxEvents', () => {
    const { log, append } = makeLog({ maxEvents: 3 })
    append(5)
    log.offer(log.last)
    log.trim(0)
    expect([kept(log), log.floor, log.last, log.bytes]).toEqual([3, 1_002, 1_005, 300])
  })

  it('drops to exactly maxBytes', () => {
    const { log, append } = makeLog({ maxBytes: 450 })
    append(5)
    log.offer(log.last)
    log.trim(0)
    expect([kept(log), log.bytes]).toEqual([4, 400])
  })

  it('drops what is as old as maxAgeMs, and nothing younger', () => {
    const { log, append } = makeLog({ maxAgeMs: 1_000 })
    append(1, { time: 0 })
    append(1, { time: 1 })
    log.offer(log.last)
    log.trim(999)
    expect(kept(log)).toBe(2)
    log.trim(1_000)
    expect([kept(log), log.floor]).toEqual([1, 1_001])
  })

  it('keeps nothing that was offered with maxEvents 0 or maxBytes 0', () => {
    for (const options of [{ maxEvents: 0 }, { maxBytes: 0 }]) {
      const { log, append, totals } = makeLog(options)
      append(3)
      expect(kept(log)).toBe(3)
      log.offer(log.last)
      log.trim(0)
      expect([kept(log), log.floor, log.bytes, totals.bytes]).toEqual([0, 1_003, 0, 0])
      append(1)
      expect(chunkAfter(log, 1_003).count).toBe(1)
    }
  })

  it('keeps what was not offered, up to four times maxBytes and 4 MiB, and then drops the oldest', () => {
    const { log, append } = makeLog({ maxEvents: 1, maxBytes: 1_000 })
    const ceiling = 4_000 + 4 * 1_048_576
    append(50, { size: 100_000 })
    log.trim(0)
    expect(log.bytes).toBeLessThanOrEqual(ceiling)
    expect(log.bytes).toBeGreaterThan(ceiling - 100_000)
    expect(log.floor).toBe(1_000 + 50 - kept(log))
    append(1, { size: 9_000_000 })
    expect([kept(log), log.bytes]).toEqual([1, 9_000_000])
  })

  it('counts in the totals what it holds, and nothing when it keeps no event', () => {
    const { log, append, totals } = makeLog({ maxEvents: 10 })
    for (let round = 0; round < 50; round++) {
      append(7, { size: 10 + round * 400 })
      log.offer(log.last)
      log.trim(0)
      expect(totals.bytes).toBe(heldBy(log))
      expect(totals.bytes).toBeGreaterThan(log.bytes)
    }
    while (log.dropOldest(false)) expect(totals.bytes).toBe(heldBy(log))
    expect([log.bytes, totals.bytes, log.waitingBytes]).toEqual([0, 0, 0])
    append(1)
    expect(totals.bytes).toBe(heldBy(log))
    log.clear()
    expect(totals.bytes).toBe(0)
    append(1)
    expect(totals.bytes).toBe(heldBy(log))
  })

  it('keeps its pages as small as the totals ask for', () => {
    const log = new ReplayLog(replayBounds('replay', {}), 0, noTotals(1_000_000))
    for (let n = 1; n <= 2_000; n++) log.append('x'.repeat(SIZE), n, 0, true)
    const sizes = new Set<number>()
    for (let at = 0; log.seek(at); at = log.page.lastPosition) sizes.add(log.page.capacity)
    expect(Math.max(...sizes)).toBe(16_384)
  })

  it('finds the first event after any position', () => {
    const { log, append } = makeLog({ maxEvents: 10_000 })
    append(3_000, { size: 300 })
    for (const position of [0, 1_000, 1_001, 1_500, 2_999, 3_999]) {
      expect(firstAfter(log, position)).toBe(Math.max(position + 1, 1_001))
      expect(firstAfter(log, position)).toBe(Math.max(position + 1, 1_001))
    }
    expect(log.seek(4_000)).toBe(false)
  })

  it('does not answer with an event that was dropped since it was asked before', () => {
    const { log, append } = makeLog({ maxEvents: 5 })
    append(8)
    expect(firstAfter(log, 1_001)).toBe(1_002)
    log.offer(log.last)
    log.trim(0)
    expect(firstAfter(log, 1_001)).toBe(1_004)
  })

  it('gives the same bytes, not a copy, to all who are at the same place', () => {
    const { log, append } = makeLog()
    append(20)
    const chunk = chunkAfter(log, 1_005)
    expect(chunkAfter(log, 1_005)).toBe(chunk)
    expect([chunk.count, chunk.position, chunk.bytes.length]).toEqual([15, 1_020, 1_500])
    expect(chunkAfter(log, 1_005, 1_010).count).toBe(5)
    append(1)
    expect(chunkAfter(log, 1_005).count).toBe(16)
  })

  it('keeps what was handed out as it was, while its page grows', () => {
    const { log, append } = makeLog()
    log.append('first\n\n', 1, 0, true)
    const chunk = chunkAfter(log, 0)
    append(500)
    expect(chunk.bytes.toString()).toBe('first\n\n')
    expect(chunkAfter(log, 0, 1).bytes.toString()).toBe('first\n\n')
  })

  it('makes no chunk of several events larger than 64 KiB, and splits no event', () => {
    const { log, append } = makeLog({ maxBytes: 100_000_000, maxEvents: 100_000 })
    append(1_000, { size: 1_000 })
    append(1, { size: 200_000 })
    append(10, { size: 1_000 })
    const lengths: number[] = []
    for (let at = 0; log.seek(at);) {
      const chunk = chunkAfter(log, at)
      lengths.push(chunk.bytes.length)
      at = chunk.position
    }
    expect(lengths.reduce((sum, length) => sum + length)).toBe(1_210_000)
    expect(lengths.filter((length) => length > 65_536)).toEqual([200_000])
  })

  it('knows where the last n events begin', () => {
    const { log, append } = makeLog({ maxEvents: 4 }, 500)
    expect(log.positionBefore(2)).toBe(500)
    append(6)
    log.offer(log.last)
    log.trim(0)
    expect([0, 1, 3, 4, 9].map((n) => log.positionBefore(n))).toEqual([1_006, 1_005, 1_003, 1_002, 1_002])
  })
})

describe('a ReplayLog that keeps the latest per key', () => {
  const options = { latestPerKey: true, maxEvents: 1_000_000, maxBytes: 100_000_000 }

  it('keeps only the newest event of each key, and every event without one', () => {
    const { log, totals } = makeLog(options)
    const append = (position: number, key?: string): void => log.append(`${position}`, position, 0, true, key)
    append(1, 'a')
    append(2)
    append(3, 'b')
    append(4, 'a')
    append(5)
    append(6, 'a')
    expect(readAfter(log, 0)).toEqual(['2', '3', '5', '6'])
    expect(readAfter(log, 3)).toEqual(['5', '6'])
    expect([log.count, log.bytes, totals.bytes, log.waitingBytes]).toEqual([4, 4, heldBy(log, 150), 4])
  })

  it('counts nothing as lost that a newer event took the place of', () => {
    const { log } = makeLog({ ...options, maxEvents: 2 })
    for (let n = 1; n <= 10; n++) log.append(`${n}`, n, 0, true, 'a')
    log.offer(10)
    log.trim(0)
    expect([log.floor, log.count]).toEqual([0, 1])
    log.append('11', 11, 0, true, 'b')
    log.append('12', 12, 0, true, 'c')
    log.offer(12)
    log.trim(0)
    expect([log.floor, log.count]).toEqual([10, 2])
  })

  it('holds little more than what it keeps, however often the keys are published', () => {
    const { log } = makeLog(options)
    const pages = new Set<object>()
    for (let n = 1; n <= 200_000; n++) log.append(`${'x'.repeat(100)}${n}`, n, 0, true, `key ${(n * 7) % 500}`)
    let held = 0
    for (let at = 0; log.seek(at); at = chunkAfter(log, at).position) {
      if (!pages.has(log.page)) held += log.page.used
      pages.add(log.page)
    }
    expect(log.count).toBe(500)
    expect(held).toBeLessThan(2 * log.bytes + 65_536)
    expect(pages.size).toBeLessThan(20)
  })

  it('ignores keys where it is not asked to keep the latest', () => {
    const { log } = makeLog()
    log.append('1', 1, 0, true, 'a')
    log.append('2', 2, 0, true, 'a')
    expect(readAfter(log, 0)).toEqual(['1', '2'])
  })

  it('agrees with a simple model in random lives', () => {
    for (let seed = 1; seed <= times(120); seed++) {
      const random = randomFrom(seed)
      const below = (n: number): number => Math.floor(random() * n)
      const maxEvents = 1 + below(30)
      const maxBytes = 200 + below(8_000)
      const { log, totals } = makeLog({ latestPerKey: true, maxEvents, maxBytes })
      let model: { position: number; block: string; key: string | undefined }[] = []
      let floor = 0
      let position = 0
      let offered = 0
      const bytes = (): number => model.reduce((sum, { block }) => sum + block.length, 0)
      const drop = (): void => {
        floor = model.shift()?.position ?? floor
      }
      for (let step = 0; step < 200; step++) {
        const dice = random()
        if (dice < 0.7) {
          const key = random() < 0.7 ? `key ${below(12)}` : undefined
          const block = `${++position} ${'x'.repeat(below(random() < 0.1 ? 3_000 : 60))}`
          log.append(block, position, 0, true, key)
          if (key !== undefined) model = model.filter((event) => event.key !== key)
          model.push({ position, block, key })
        } else if (dice < 0.8) {
          offered = Math.max(offered, below(2) === 0 ? position : below(position + 1))
          log.offer(offered)
        } else if (dice < 0.9) {
          log.trim(0)
          while (model[0] !== undefined && model[0].position <= offered && (model.length > maxEvents || bytes() > maxBytes)) drop()
        } else {
          const evenWaiting = random() < 0.3
          log.dropOldest(evenWaiting)
          if (model[0] !== undefined && (evenWaiting || model[0].position <= offered)) drop()
        }
        const n = below(model.length + 2)
        const before = log.positionBefore(n)
        expect(model.filter((event) => event.position > before)).toHaveLength(Math.min(n, model.length))
        const from = Math.max(floor, below(position + 1))
        expect(readAfter(log, from)).toEqual(model.filter((event) => event.position > from).map(({ block }) => block))
        const waiting = model.filter((event) => event.position > offered).reduce((sum, { block }) => sum + block.length, 0)
        expect([log.count, log.bytes, totals.bytes, log.floor, log.waitingBytes]).toEqual([
          model.length,
          bytes(),
          heldBy(log, 150),
          floor,
          waiting,
        ])
      }
    }
  })
})
