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

  it('costs per item what it cost before when it is ten times as long', () => {
    const drain = (length: number): number => {
      const fifo = new Fifo<object>()
      for (let n = 0; n < length; n++) fifo.push({})
      const before = performance.now()
      while (fifo.shift() !== undefined);
      return (performance.now() - before) / length
    }
    // The least of several: a busy machine adds to some of them.
    const least = (length: number): number => Math.min(...Array.from({ length: 5 }, () => drain(length)))
    drain(20_000)
    const short = least(30_000)
    // An array that is shifted costs a hundred times as much.
    expect(least(300_000)).toBeLessThan(20 * short)
  })
})
