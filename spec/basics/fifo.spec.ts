import * as fc from 'fast-check'
import { Fifo } from '../../lib/basics/fifo.ts'

describe('Fifo', () => {
  it('returns items in the order in which they were added', () => {
    // More items are added than removed, so that many of the queues become long enough to be compacted.
    let total = 0
    const batch = fc.record({ added: fc.nat(100), removed: fc.nat(90) })
    const agrees = fc.property(fc.array(batch, { maxLength: 400, size: 'max' }), (batches) => {
      const fifo = new Fifo<number>()
      let added = 0
      let removed = 0
      for (const each of batches) {
        for (let n = 0; n < each.added; n++) fifo.push(added++)
        for (let n = 0; n < each.removed; n++) {
          const next = removed < added ? removed : undefined
          if (fifo.first !== next) throw new Error(`first is ${fifo.first}, not ${next}`)
          if (fifo.shift() !== next) throw new Error(`shift did not return ${next}`)
          if (next !== undefined) removed++
        }
        total += each.added
        if (fifo.size !== added - removed) throw new Error(`size is ${fifo.size}, not ${added - removed}`)
      }
    })
    fc.assert(agrees, { seed: 1, numRuns: 20, plugins: [fc.unbiased()] })
    expect(total).toBeGreaterThan(100_000)
  })

  it('takes far less time than Array.shift if it is long', () => {
    /** CPU time, because the clock also counts the time of other processes on a busy machine. */
    const msToDrain = (queue: { push(item: object): void; shift(): object | undefined }): number => {
      for (let n = 0; n < 80_000; n++) queue.push({})
      const before = process.cpuUsage()
      while (queue.shift() !== undefined);
      const { user, system } = process.cpuUsage(before)
      return (user + system) / 1_000
    }
    const fifo = Math.min(...Array.from({ length: 3 }, () => msToDrain(new Fifo<object>())))
    // Array.shift takes over a hundred times as long.
    expect(fifo).toBeLessThan(msToDrain([]) / 10)
  })
})
