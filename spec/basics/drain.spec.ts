import { drain } from '../../lib/basics/drain.ts'
import { turn } from '../support/fake-connection.ts'

const items = (count: number): number[] => Array.from({ length: count }, (_, n) => n)

/** Blocks the event loop for `ms` milliseconds. */
function hold(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end;);
}

/** Lets pending continuations run. */
async function turns(count = 5): Promise<void> {
  for (let n = 0; n < count; n++) await turn()
}

describe('drain', () => {
  it('resolves at once without items, whatever the time', async () => {
    const end = jest.fn()
    const setTimer = jest.spyOn(globalThis, 'setTimeout')
    await drain([], 0, end)
    await drain([], 2_147_483_647, end)
    expect(setTimer).not.toHaveBeenCalled()
    setTimer.mockRestore()
    expect(end).not.toHaveBeenCalled()
  })

  it('ends all items in order and in one turn if it has no time to spread them over', async () => {
    const ended: number[] = []
    const draining = drain(items(7), 0, (item) => ended.push(item))
    expect(ended).toEqual(items(7))
    await draining
    expect(ended).toEqual(items(7))
  })

  it('does not block the event loop if many items are due at once', async () => {
    let inTurn = 0
    const perTurn: number[] = []
    let isDone = false
    const watch = (): void => {
      perTurn.push(inTurn)
      inTurn = 0
      if (!isDone) setImmediate(watch)
    }
    setImmediate(watch)
    await drain(items(400), 0, () => {
      inTurn++
      hold(0.25)
    })
    isDone = true
    await turns(2)
    expect(perTurn.reduce((sum, count) => sum + count)).toBe(400)
    // 100 ms of work in slices of 4 ms. A slice reads the clock after every eighth item.
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(24)
    expect(perTurn.filter((count) => count > 0).length).toBeGreaterThan(10)
  })

  it('rejects with the error that `end` throws', async () => {
    const ended: number[] = []
    const fault = new Error('no')
    const draining = drain(items(5), 0, (item) => {
      if (item === 2) throw fault
      ended.push(item)
    })
    await expect(draining).rejects.toBe(fault)
    expect(ended.slice(0, 2)).toEqual([0, 1])
  })

  describe('over some time', () => {
    beforeEach(() => {
      jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] })
    })
    afterEach(() => {
      jest.useRealTimers()
    })

    /** Advances the fake clock by `ms` milliseconds, in steps of one. */
    async function pass(ms: number): Promise<void> {
      for (let step = 0; step < ms; step++) {
        jest.advanceTimersByTime(1)
        await turns(1)
      }
    }

    it.each([
      [100, 1_000],
      [3, 1_000],
      [1_000, 100],
      [10, 20],
      [10, 1],
    ])('spreads %i ends evenly over %i ms', async (count, ms) => {
      const at: number[] = []
      const startedAt = performance.now()
      const draining = drain(items(count), ms, () => at.push(performance.now() - startedAt))
      await pass(ms)
      await draining
      expect(at).toHaveLength(count)
      expect(Math.max(...at)).toBeLessThanOrEqual(ms)
      // No item ends before it is due, or more than one step of 20 ms later.
      for (const [n, time] of at.entries()) {
        expect(time).toBeGreaterThanOrEqual((n * ms) / count)
        expect(time).toBeLessThanOrEqual((n * ms) / count + 20)
      }
      expect(jest.getTimerCount()).toBe(0)
    })

    it('resolves when the last item has ended, and not before', async () => {
      const ended: number[] = []
      let isDone = false
      const draining = drain(items(3), 300, (item) => ended.push(item)).then(() => (isDone = true))
      await pass(200)
      expect([ended, isDone]).toEqual([[0, 1], false])
      await pass(20)
      expect([ended, isDone]).toEqual([[0, 1, 2], true])
      await draining
    })

    it('ends the remaining items when the time is over, even if it is not a multiple of a step', async () => {
      const ended: number[] = []
      const draining = drain(items(50), 50, (item) => ended.push(item))
      await pass(49)
      expect(ended).toHaveLength(40)
      await pass(1)
      await draining
      expect(ended).toHaveLength(50)
    })

    it('catches up after a time in which the process did not run', async () => {
      const ended: number[] = []
      const draining = drain(items(100), 1_000, (item) => ended.push(item))
      await pass(100)
      expect(ended.length).toBeGreaterThanOrEqual(8)
      expect(ended.length).toBeLessThanOrEqual(11)
      jest.advanceTimersByTime(800)
      await turns()
      expect(ended.length).toBeGreaterThanOrEqual(89)
      expect(ended.length).toBeLessThanOrEqual(91)
      jest.advanceTimersByTime(5_000)
      await draining
      expect(ended).toEqual(items(100))
    })

    it('rejects with the error that `end` throws later, and leaves no timer', async () => {
      const fault = new Error('no')
      const ended: number[] = []
      const draining = drain(items(10), 1_000, (item) => {
        if (item === 4) throw fault
        ended.push(item)
      })
      const outcome = draining.catch((error: unknown) => error)
      await pass(1_000)
      expect(await outcome).toBe(fault)
      expect(ended.slice(0, 4)).toEqual(items(4))
      expect(jest.getTimerCount()).toBe(0)
    })
  })
})
