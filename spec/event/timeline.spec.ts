import { makeEpoch } from '../../lib/event/timeline.ts'

describe('makeEpoch', () => {
  it('makes epochs of 10 characters of [0-9a-z], with every character equally likely at every index', () => {
    const epochs = Array.from({ length: 36_000 }, makeEpoch)
    expect(new Set(epochs).size).toBe(epochs.length)
    expect(epochs.every((epoch) => /^[0-9a-z]{10}$/.test(epoch))).toBe(true)
    for (let index = 0; index < 10; index++) {
      const counts = new Map<string, number>()
      for (const epoch of epochs) counts.set(epoch[index] as string, (counts.get(epoch[index] as string) ?? 0) + 1)
      expect(counts.size).toBe(36)
      // 1,000 of each are expected. A deviation of 200 is more than six standard deviations.
      for (const count of counts.values()) expect(Math.abs(count - 1_000)).toBeLessThan(200)
    }
  })
})
