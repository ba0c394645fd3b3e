import { ReplayLog, replayBounds, type ReplayOptions } from '../lib/replay-log.ts'

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

const kept = (log: ReplayLog): number => log.next - log.first

describe('ReplayLog', () => {
  it('has defaults that are those of the documentation', () => {
    expect(replayBounds('replay', undefined)).toEqual({ maxEvents: 1_000, maxAgeMs: 300_000, maxBytes: 1_048_576 })
  })

  it('drops the oldest event when it has more than maxEvents', () => {
    const { log, append } = makeLog({ maxEvents: 3 })
    append(5)
    log.offer(log.next)
    log.trim(0)
    expect([kept(log), log.floor, log.last, log.bytes]).toEqual([3, 1_002, 1_005, 300])
  })

  it('drops to exactly maxBytes', () => {
    const { log, append } = makeLog({ maxBytes: 450 })
    append(5)
    log.offer(log.next)
    log.trim(0)
    expect([kept(log), log.bytes]).toEqual([4, 400])
  })

  it('drops what is as old as maxAgeMs, and nothing younger', () => {
    const { log, append } = makeLog({ maxAgeMs: 1_000 })
    append(1, { time: 0 })
    append(1, { time: 1 })
    log.offer(log.next)
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
      log.offer(log.next)
      log.trim(0)
      expect([kept(log), log.floor, log.bytes, totals.bytes]).toEqual([0, 1_003, 0, 0])
      append(1)
      expect(log.chunk(log.seqAfter(1_003), Infinity).count).toBe(1)
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

  it('counts the same bytes for itself and for all logs together', () => {
    const { log, append, totals } = makeLog({ maxEvents: 10 })
    for (let round = 0; round < 50; round++) {
      append(7, { size: 10 + round * 40 })
      log.offer(log.next)
      log.trim(0)
      expect(totals.bytes).toBe(log.bytes)
    }
    while (log.dropOldest(false));
    expect([log.bytes, totals.bytes, log.waitingBytes]).toEqual([0, 0, 0])
  })

  it('finds the first event after any position', () => {
    const { log, append } = makeLog({ maxEvents: 10_000 })
    append(3_000, { size: 300 })
    for (const position of [0, 1_000, 1_001, 1_500, 2_999, 3_999]) {
      const seq = log.seqAfter(position)
      expect(log.positionOf(seq)).toBe(Math.max(position + 1, 1_001))
      expect(log.seqAfter(position)).toBe(seq)
    }
    expect(log.seqAfter(4_000)).toBe(log.next)
  })

  it('does not answer with an event that was dropped since it was asked before', () => {
    const { log, append } = makeLog({ maxEvents: 5 })
    append(8)
    expect(log.seqAfter(1_001)).toBe(1)
    log.offer(log.next)
    log.trim(0)
    expect(log.seqAfter(1_001)).toBe(3)
  })

  it('gives the same bytes, not a copy, to all who are at the same place', () => {
    const { log, append } = makeLog()
    append(20)
    const chunk = log.chunk(5, Infinity)
    expect(log.chunk(5, Infinity)).toBe(chunk)
    expect([chunk.count, chunk.position, chunk.bytes.length]).toEqual([15, 1_020, 1_500])
    expect(log.chunk(5, 1_010).count).toBe(5)
    append(1)
    expect(log.chunk(5, Infinity).count).toBe(16)
  })

  it('keeps what was handed out as it was, while its page grows', () => {
    const { log, append } = makeLog()
    log.append('first\n\n', 1, 0, true)
    const chunk = log.chunk(0, Infinity)
    append(500)
    expect(chunk.bytes.toString()).toBe('first\n\n')
    expect(log.chunk(0, 1).bytes.toString()).toBe('first\n\n')
  })

  it('makes no chunk of several events larger than 64 KiB, and splits no event', () => {
    const { log, append } = makeLog({ maxBytes: 100_000_000, maxEvents: 100_000 })
    append(1_000, { size: 1_000 })
    append(1, { size: 200_000 })
    append(10, { size: 1_000 })
    const lengths: number[] = []
    for (let seq = log.first; seq < log.next; ) {
      const chunk = log.chunk(seq, Infinity)
      lengths.push(chunk.bytes.length)
      seq += chunk.count
    }
    expect(lengths.reduce((sum, length) => sum + length)).toBe(1_210_000)
    expect(lengths.filter((length) => length > 65_536)).toEqual([200_000])
  })

  it('knows where the last n events begin', () => {
    const { log, append } = makeLog({ maxEvents: 4 }, 500)
    expect(log.positionBefore(2)).toBe(500)
    append(6)
    log.offer(log.next)
    log.trim(0)
    expect([0, 1, 3, 4, 9].map((n) => log.positionBefore(n))).toEqual([1_006, 1_005, 1_003, 1_002, 1_002])
  })
})
