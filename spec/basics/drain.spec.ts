import { drain } from '../../lib/basics/drain.ts'
import { turn } from '../support/fake-connection.ts'

const items = (count: number): number[] => Array.from({ length: count }, (_, n) => n)

/** Keeps the event loop for so long, by the clock that is real or faked. */
function hold(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end;);
}

/** Lets whatever was waited for go on. */
async function turns(count = 5): Promise<void> {
  for (let n = 0; n < count; n++) await turn()
}

describe('drain', () => {
  it('is over at once where there is nothing, whatever the time', async () => {
    const end = jest.fn()
    const setTimer = jest.spyOn(globalThis, 'setTimeout')
    await drain([], 0, end)
    await drain([], 2_147_483_647, end)
    expect(setTimer).not.toHaveBeenCalled()
    setTimer.mockRestore()
    expect(end).not.toHaveBeenCalled()
  })

  it('ends everything in order and in one turn where there is no time to spread it over', async () => {
    const ended: number[] = []
    const draining = drain(items(7), 0, (item) => ended.push(item))
    expect(ended).toEqual(items(7))
    await draining
    expect(ended).toEqual(items(7))
  })

  it('does not hold the event loop where there are many at once', async () => {
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
    // 100 ms of work, in slices of 4 ms: a slice looks at the clock after every eighth item.
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(24)
    expect(perTurn.filter((count) => count > 0).length).toBeGreaterThan(10)
  })

  it('rejects with what `end` throws', async () => {
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

    /** Lets so much time pass, in small steps. */
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
      // Never before its time, and one step of 20 ms after it at most.
      for (const [n, time] of at.entries()) {
        expect(time).toBeGreaterThanOrEqual((n * ms) / count)
        expect(time).toBeLessThanOrEqual((n * ms) / count + 20)
      }
      expect(jest.getTimerCount()).toBe(0)
    })

    it('is over when the last is ended, and no sooner', async () => {
      const ended: number[] = []
      let isDone = false
      const draining = drain(items(3), 300, (item) => ended.push(item)).then(() => (isDone = true))
      await pass(200)
      expect([ended, isDone]).toEqual([[0, 1], false])
      await pass(20)
      expect([ended, isDone]).toEqual([[0, 1, 2], true])
      await draining
    })

    it('ends whoever is left when the time is over, also where that is no multiple of a step', async () => {
      const ended: number[] = []
      const draining = drain(items(50), 50, (item) => ended.push(item))
      await pass(49)
      expect(ended).toHaveLength(40)
      await pass(1)
      await draining
      expect(ended).toHaveLength(50)
    })

    it('makes up for time in which the process did not get to run', async () => {
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

    it('rejects with what `end` throws later, and leaves no timer', async () => {
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
