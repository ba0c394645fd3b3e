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
  it('knows what was remembered, by channel and key', () => {
    const keys = new IdempotencyKeys()
    keys.remember('a', 'bc', 1, 1_000)
    keys.remember('ab', 'c', 2, 1_000)
    expect([keys.find('a', 'bc'), keys.find('ab', 'c'), keys.find('a', 'b'), keys.find('abc', '')]).toEqual([1, 2, undefined, undefined])
  })

  it('forgets a key when its time is over, and not before', () => {
    const keys = new IdempotencyKeys()
    setNow(500)
    keys.remember('a', 'k', 1, 1_000)
    setNow(1_499.9)
    expect(keys.find('a', 'k')).toBe(1)
    setNow(1_500)
    expect(keys.find('a', 'k')).toBeUndefined()
  })

  it('forgets each in its own time, in whatever order they came', () => {
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

  it('remembers a key anew, with its new event and its new time', () => {
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
    // What is remembered anew is the newest again.
    keys.remember('a', '1', 100, 1_000)
    keys.remember('a', 'two more', -2, 1_000)
    expect(first()).toEqual([undefined, 100, undefined, 3])
  })

  it('holds a key whose time is over no longer than until another comes', async () => {
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
    // Two go for each that comes: these are far from all that may be remembered.
    for (let n = 0; n < 30_000; n++) keys.remember('b', `${n}`, n, 10)
    const after = await heap()
    expect(full - before).toBeGreaterThan(15_000_000)
    expect(after - before).toBeLessThan(8_000_000)
    expect(keys.find('b', '0')).toBe(0)
  })

  it('knows nothing any more when it was cleared', () => {
    const keys = new IdempotencyKeys()
    keys.remember('a', 'k', 1, 1_000)
    keys.clear()
    expect(keys.find('a', 'k')).toBeUndefined()
  })
})
