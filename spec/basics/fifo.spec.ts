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

  it('costs per item what it cost before when it is a hundred times as long', () => {
    /** The CPU time in µs to remove all items, repeatedly. Other processes do not affect it. */
    const drain = (length: number, rounds: number): number => {
      let spent = 0
      for (let round = 0; round < rounds; round++) {
        const fifo = new Fifo<object>()
        for (let n = 0; n < length; n++) fifo.push({})
        const before = process.cpuUsage()
        while (fifo.shift() !== undefined);
        const { user, system } = process.cpuUsage(before)
        spent += user + system
      }
      return spent
    }
    drain(3_000, 10)
    const short = drain(3_000, 100)
    // An array that is shifted costs a hundred times as much.
    expect(drain(300_000, 1)).toBeLessThan(20 * short)
  })
})
