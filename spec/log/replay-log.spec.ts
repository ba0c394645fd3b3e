import * as fc from 'fast-check'
import type { Chunk, LogPage } from '../../lib/log/log-page.ts'
import { noTotals } from '../../lib/log/log-totals.ts'
import { ReplayLog } from '../../lib/log/replay-log.ts'
import { replayBounds, type ReplayOptions } from '../../lib/log/replay-options.ts'
import { times } from '../support/scale.ts'

const LENGTH = 100

function makeLog(options: ReplayOptions = {}, floor = 0) {
  const totals = { bytes: 0 }
  const log = new ReplayLog(replayBounds('replay', options), floor, totals)
  let position = 1_000
  const append = (count = 1, { length = LENGTH, time = 0 } = {}): void => {
    for (let n = 0; n < count; n++) log.append('x'.repeat(length), ++position, time, true)
  }
  return { log, totals, append }
}

/** Memory that a log should account for: the buffers of its pages, and an estimate of the objects around them. */
function heldBy(log: ReplayLog, slotBytes = 50): number {
  const pages = new Set<LogPage>()
  for (let at = 0; log.seek(at); at = log.page.lastPosition) pages.add(log.page)
  return log.count === 0 ? 0 : [...pages].reduce((sum, page) => sum + 1_000 + page.capacity + page.count * slotBytes, 1_150)
}

/** The chunk of events after a position, up to a limit. */
function chunkAfter(log: ReplayLog, position: number, limit = Infinity): Chunk {
  if (!log.seek(position)) throw new Error(`the log has no event after ${position}`)
  return log.page.chunk(log.slot, log.page.endOf(log.slot, limit))
}

/** Position of the first event after another position, or `undefined` if there is none. */
const firstAfter = (log: ReplayLog, position: number) => (log.seek(position) ? log.page.positions[log.slot] : undefined)

/** All events after a position, as a subscriber reads them. */
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
  it('has the documented defaults', () => {
    expect(replayBounds('replay', undefined)).toEqual({ maxEvents: 1_000, maxAgeMs: 300_000, maxBytes: 1_048_576, latestPerKey: false })
  })

  it('drops the oldest event when it has more than maxEvents', () => {
    const { log, append } = makeLog({ maxEvents: 3 })
    append(5)
    log.offer(log.lastPosition)
    log.trim(0)
    expect([log.count, log.floor, log.lastPosition, log.bytes]).toEqual([3, 1_002, 1_005, 300])
  })

  it('drops to exactly maxBytes', () => {
    const { log, append } = makeLog({ maxBytes: 450 })
    append(5)
    log.offer(log.lastPosition)
    log.trim(0)
    expect([log.count, log.bytes]).toEqual([4, 400])
  })

  it('drops the events that have reached maxAgeMs, and no younger ones', () => {
    const { log, append } = makeLog({ maxAgeMs: 1_000 })
    append(1, { time: 0 })
    append(1, { time: 1 })
    log.offer(log.lastPosition)
    log.trim(999)
    expect(log.count).toBe(2)
    log.trim(1_000)
    expect([log.count, log.floor]).toEqual([1, 1_001])
  })

  it('keeps no offered event with maxEvents 0 or maxBytes 0', () => {
    for (const options of [{ maxEvents: 0 }, { maxBytes: 0 }]) {
      const { log, append, totals } = makeLog(options)
      append(3)
      expect(log.count).toBe(3)
      log.offer(log.lastPosition)
      log.trim(0)
      expect([log.count, log.floor, log.bytes, totals.bytes]).toEqual([0, 1_003, 0, 0])
      append(1)
      expect(chunkAfter(log, 1_003).count).toBe(1)
    }
  })

  it('keeps events that were not offered up to four times maxBytes plus 4 MiB, and then drops the oldest', () => {
    const { log, append } = makeLog({ maxEvents: 1, maxBytes: 1_000 })
    const ceiling = 4_000 + 4 * 1_048_576
    append(50, { length: 100_000 })
    log.trim(0)
    expect(log.bytes).toBeLessThanOrEqual(ceiling)
    expect(log.bytes).toBeGreaterThan(ceiling - 100_000)
    expect(log.floor).toBe(1_000 + 50 - log.count)
    append(1, { length: 9_000_000 })
    expect([log.count, log.bytes]).toEqual([1, 9_000_000])
  })

  it('adds its memory to the totals, and nothing while it keeps no event', () => {
    const { log, append, totals } = makeLog({ maxEvents: 10 })
    for (let round = 0; round < 50; round++) {
      append(7, { length: 10 + round * 400 })
      log.offer(log.lastPosition)
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

  it('limits its pages to the size that the totals ask for', () => {
    const log = new ReplayLog(replayBounds('replay', {}), 0, noTotals(1_000_000))
    for (let n = 1; n <= 2_000; n++) log.append('x'.repeat(LENGTH), n, 0, true)
    const capacities = new Set<number>()
    for (let at = 0; log.seek(at); at = log.page.lastPosition) capacities.add(log.page.capacity)
    expect(Math.max(...capacities)).toBe(16_384)
  })

  it('finds the first event after any position', () => {
    const { log, append } = makeLog({ maxEvents: 10_000 })
    append(3_000, { length: 300 })
    for (const position of [0, 1_000, 1_001, 1_500, 2_999, 3_999]) {
      expect(firstAfter(log, position)).toBe(Math.max(position + 1, 1_001))
      expect(firstAfter(log, position)).toBe(Math.max(position + 1, 1_001))
    }
    expect(log.seek(4_000)).toBe(false)
  })

  it('does not find an event that was dropped since the same position was sought', () => {
    const { log, append } = makeLog({ maxEvents: 5 })
    append(8)
    expect(firstAfter(log, 1_001)).toBe(1_002)
    log.offer(log.lastPosition)
    log.trim(0)
    expect(firstAfter(log, 1_001)).toBe(1_004)
  })

  it('shares one chunk, not a copy, among subscribers at the same position', () => {
    const { log, append } = makeLog()
    append(20)
    const chunk = chunkAfter(log, 1_005)
    expect(chunkAfter(log, 1_005)).toBe(chunk)
    expect([chunk.count, chunk.position, chunk.bytes.length]).toEqual([15, 1_020, 1_500])
    expect(chunkAfter(log, 1_005, 1_010).count).toBe(5)
    append(1)
    expect(chunkAfter(log, 1_005).count).toBe(16)
  })

  it('leaves chunks unchanged while their page grows', () => {
    const { log, append } = makeLog()
    log.append('first\n\n', 1, 0, true)
    const chunk = chunkAfter(log, 0)
    append(500)
    expect(chunk.bytes.toString()).toBe('first\n\n')
    expect(chunkAfter(log, 0, 1).bytes.toString()).toBe('first\n\n')
  })

  it('makes no chunk of several events larger than 64 KiB, and splits no event', () => {
    const { log, append } = makeLog({ maxBytes: 100_000_000, maxEvents: 100_000 })
    append(1_000, { length: 1_000 })
    append(1, { length: 200_000 })
    append(10, { length: 1_000 })
    const lengths: number[] = []
    for (let at = 0; log.seek(at);) {
      const chunk = chunkAfter(log, at)
      lengths.push(chunk.bytes.length)
      at = chunk.position
    }
    expect(lengths.reduce((sum, length) => sum + length)).toBe(1_210_000)
    expect(lengths.filter((length) => length > 65_536)).toEqual([200_000])
  })

  it('finds the position before the last n events', () => {
    const { log, append } = makeLog({ maxEvents: 4 }, 500)
    expect(log.positionBefore(2)).toBe(500)
    append(6)
    log.offer(log.lastPosition)
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

  it('does not count a replaced event as lost', () => {
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

  it('holds little more memory than its events need, however often the keys are published', () => {
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

  it('ignores keys if it does not keep the latest per key', () => {
    const { log } = makeLog()
    log.append('1', 1, 0, true, 'a')
    log.append('2', 2, 0, true, 'a')
    expect(readAfter(log, 0)).toEqual(['1', '2'])
  })

  type Step =
    | { readonly do: 'append'; readonly key: string | undefined; readonly length: number }
    | { readonly do: 'offer'; readonly upTo: number }
    | { readonly do: 'trim' }
    | { readonly do: 'dropOldest'; readonly evenWaiting: boolean }

  const fraction = fc.nat(1_000).map((n) => n / 1_000)
  const step = fc.oneof<fc.WeightedArbitrary<Step>[]>(
    { weight: 1, arbitrary: fc.constant({ do: 'trim' }) },
    {
      weight: 7,
      arbitrary: fc.record({
        do: fc.constant('append'),
        key: fc.option(
          fc.nat(11).map((n) => `key ${n}`),
          { nil: undefined, freq: 2 },
        ),
        length: fc.oneof({ weight: 9, arbitrary: fc.nat(59) }, { weight: 1, arbitrary: fc.nat(2_999) }),
      }),
    },
    // Half of the offers take everything.
    { weight: 1, arbitrary: fc.record({ do: fc.constant('offer'), upTo: fc.oneof(fc.constant(1), fraction) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('dropOldest'), evenWaiting: fc.nat(9).map((n) => n >= 7) }),
    },
  )
  /** A step, and the share of the events or positions at which the log is read after it. */
  const stepAndRead = fc.record({ step, lastShare: fraction, fromShare: fraction })

  it('agrees with a simple model after every step of 120 random histories', () => {
    let steps = 0
    const history = fc.record({
      maxEvents: fc.integer({ min: 1, max: 30 }),
      maxBytes: fc.integer({ min: 200, max: 8_199 }),
      // The average is 200 steps.
      steps: fc.array(stepAndRead, { maxLength: 400, size: 'max' }),
    })
    const agrees = fc.property(history, ({ maxEvents, maxBytes, steps: all }) => {
      const { log, totals } = makeLog({ latestPerKey: true, maxEvents, maxBytes })
      let model: { position: number; block: string; key: string | undefined }[] = []
      let floor = 0
      let position = 0
      let offered = 0
      const bytes = (): number => model.reduce((sum, { block }) => sum + block.length, 0)
      const drop = (): void => {
        floor = model.shift()?.position ?? floor
      }
      for (const { step: each, lastShare, fromShare } of all) {
        steps++
        if (each.do === 'append') {
          const { key, length } = each
          const block = `${++position} ${'x'.repeat(length)}`
          log.append(block, position, 0, true, key)
          if (key !== undefined) model = model.filter((event) => event.key !== key)
          model.push({ position, block, key })
        } else if (each.do === 'offer') {
          offered = Math.max(offered, Math.round(each.upTo * position))
          log.offer(offered)
        } else if (each.do === 'trim') {
          log.trim(0)
          while (model[0] !== undefined && model[0].position <= offered && (model.length > maxEvents || bytes() > maxBytes)) drop()
        } else {
          log.dropOldest(each.evenWaiting)
          if (model[0] !== undefined && (each.evenWaiting || model[0].position <= offered)) drop()
        }
        const n = Math.round(lastShare * (model.length + 1))
        const before = log.positionBefore(n)
        const from = Math.max(floor, Math.round(fromShare * position))
        const waiting = model.filter((event) => event.position > offered).reduce((sum, { block }) => sum + block.length, 0)
        // One comparison of a few values: `expect` costs more than all else in this loop.
        expect([
          model.filter((event) => event.position > before).length,
          readAfter(log, from).join(),
          log.count,
          log.bytes,
          totals.bytes,
          log.floor,
          log.waitingBytes,
        ]).toEqual([
          Math.min(n, model.length),
          model
            .filter((event) => event.position > from)
            .map(({ block }) => block)
            .join(),
          model.length,
          bytes(),
          heldBy(log, 150),
          floor,
          waiting,
        ])
      }
    })
    fc.assert(agrees, { seed: 1, numRuns: times(120), plugins: [fc.unbiased()] })
    expect(steps).toBeGreaterThan(times(20_000))
  })
})
