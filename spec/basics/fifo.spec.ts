import { Fifo } from '../../lib/basics/fifo.ts'

describe('Fifo', () => {
  it('gives what it took in the same order, however takes and gives alternate', () => {
    const fifo = new Fifo<number>()
    const given: number[] = []
    let next = 0
    for (let round = 0; round < 200; round++) {
      for (let n = 0; n < (round * 37) % 101; n++) fifo.push(next++)
      for (let n = 0; n < (round * 53) % 97; n++) {
        const item = fifo.shift()
        if (item !== undefined) given.push(item)
      }
    }
    for (let item = fifo.shift(); item !== undefined; item = fifo.shift()) given.push(item)
    expect(given).toEqual(Array.from({ length: next }, (_, n) => n))
    expect(fifo.shift()).toBeUndefined()
  })

  it('costs per item what it cost before when it is a hundred times as long', () => {
    /** How long the process works (µs) to take a number of items out, over and over: what else the machine does is not in it. */
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
