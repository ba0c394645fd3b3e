import { IdempotencyKeys } from '../../lib/log/idempotency-keys.ts'
import { turn } from '../support/fake-connection.ts'
import { collectGarbage } from '../support/garbage.ts'

const MAX_KEYS = 100_000

/** A clock that the test sets. No spy: it would remember every call, which takes longer than what is tested. */
let now = 0
const setNow = (ms: number): void => void (now = ms)
const realNow = performance.now.bind(performance)
beforeEach(() => {
  now = 0
  performance.now = () => now
})
afterEach(() => void (performance.now = realNow))

describe('IdempotencyKeys', () => {
  it('finds a position by channel and key', () => {
    const keys = new IdempotencyKeys()
    keys.remember('a', 'bc', 1, 1_000)
    keys.remember('ab', 'c', 2, 1_000)
    expect([keys.find('a', 'bc'), keys.find('ab', 'c'), keys.find('a', 'b'), keys.find('abc', '')]).toEqual([1, 2, undefined, undefined])
  })

  it('forgets a key at the end of its time, and not before', () => {
    const keys = new IdempotencyKeys()
    setNow(500)
    keys.remember('a', 'k', 1, 1_000)
    setNow(1_499.9)
    expect(keys.find('a', 'k')).toBe(1)
    setNow(1_500)
    expect(keys.find('a', 'k')).toBeUndefined()
  })

  it('forgets each key at its own time, in whatever order the keys were added', () => {
    const keys = new IdempotencyKeys()
    keys.remember('long', 'k', 1, 10_000)
    keys.remember('short', 'k', 2, 10)
    keys.remember('middle', 'k', 3, 100)
    const known = (): unknown[] => ['long', 'short', 'middle'].map((channel) => keys.find(channel, 'k'))
    setNow(10)
    expect(known()).toEqual([1, undefined, 3])
    setNow(100)
    expect(known()).toEqual([1, undefined, undefined])
  })

  it('replaces the position and the time of a key that is remembered again', () => {
    const keys = new IdempotencyKeys()
    keys.remember('a', 'k', 1, 10)
    setNow(10)
    keys.remember('a', 'k', 2, 10)
    setNow(19)
    expect(keys.find('a', 'k')).toBe(2)
  })

  it(`remembers no more than ${MAX_KEYS}, and forgets the oldest first`, () => {
    const keys = new IdempotencyKeys()
    for (let n = 0; n < MAX_KEYS; n++) keys.remember('a', `${n}`, n, 1_000)
    const first = (): (number | undefined)[] => [0, 1, 2, 3].map((n) => keys.find('a', `${n}`))
    expect(first()).toEqual([0, 1, 2, 3])
    keys.remember('a', 'one more', -1, 1_000)
    expect(first()).toEqual([undefined, 1, 2, 3])
    // A key that is remembered again becomes the newest.
    keys.remember('a', '1', 100, 1_000)
    keys.remember('a', 'two more', -2, 1_000)
    expect(first()).toEqual([undefined, 100, undefined, 3])
  })

  it('releases expired keys as new ones are added', async () => {
    const keys = new IdempotencyKeys()
    const heap = async (): Promise<number> => {
      for (let n = 0; n < 5; n++) {
        collectGarbage()
        await turn()
      }
      return process.memoryUsage().heapUsed
    }
    const before = await heap()
    for (let n = 0; n < 60_000; n++) keys.remember('a', `${n}`.padStart(250, 'x'), n, 10)
    const full = await heap()
    setNow(10)
    // Each new key removes two expired ones, long before the maximum is reached.
    for (let n = 0; n < 30_000; n++) keys.remember('b', `${n}`, n, 10)
    const after = await heap()
    expect(full - before).toBeGreaterThan(15_000_000)
    expect(after - before).toBeLessThan(8_000_000)
    expect(keys.find('b', '0')).toBe(0)
  })

  it('forgets all keys when it is cleared', () => {
    const keys = new IdempotencyKeys()
    keys.remember('a', 'k', 1, 1_000)
    keys.clear()
    expect(keys.find('a', 'k')).toBeUndefined()
  })
})
