import { makeEpoch } from '../../lib/event/timeline.ts'

describe('makeEpoch', () => {
  it('makes names of 10 characters of [0-9a-z], each character as likely as any other in every place', () => {
    const names = Array.from({ length: 36_000 }, makeEpoch)
    expect(new Set(names).size).toBe(names.length)
    expect(names.every((name) => /^[0-9a-z]{10}$/.test(name))).toBe(true)
    for (let place = 0; place < 10; place++) {
      const counts = new Map<string, number>()
      for (const name of names) counts.set(name[place] as string, (counts.get(name[place] as string) ?? 0) + 1)
      expect(counts.size).toBe(36)
      // 1,000 of each are expected; 200 more or fewer are over six standard deviations.
      for (const count of counts.values()) expect(Math.abs(count - 1_000)).toBeLessThan(200)
    }
  })
})
