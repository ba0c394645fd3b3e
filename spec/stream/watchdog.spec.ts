import { Watchdog, type Watched } from '../../lib/stream/watchdog.ts'

/** A watched object that counts its visits. */
class Counted implements Watched {
  index = -1
  visits = 0
  readonly #onVisit: (counted: Counted) => void

  constructor(onVisit: (counted: Counted) => void = () => {}) {
    this.#onVisit = onVisit
  }

  watch(): void {
    this.visits++
    this.#onVisit(this)
  }
}

const many = (count: number, onVisit?: (counted: Counted) => void) => Array.from({ length: count }, () => new Counted(onVisit))

describe('the watchdog', () => {
  beforeEach(() => void jest.useFakeTimers())
  afterEach(() => void jest.useRealTimers())

  it('uses one timer for everything that it watches, and none while it watches nothing', () => {
    const watchdog = new Watchdog([1_000])
    expect(jest.getTimerCount()).toBe(0)
    const watched = many(100)
    for (const one of watched) watchdog.add(one)
    expect(jest.getTimerCount()).toBe(1)
    for (const one of watched.slice(1)) watchdog.remove(one)
    expect(jest.getTimerCount()).toBe(1)
    watchdog.remove(watched[0] as Counted)
    expect(jest.getTimerCount()).toBe(0)
    watchdog.add(watched[0] as Counted)
    expect(jest.getTimerCount()).toBe(1)
  })

  it('visits the others in this tick and the next when a visit throws', () => {
    const watchdog = new Watchdog([1_000])
    const watched = many(20)
    const broken = new Counted(() => {
      throw new Error('broken')
    })
    for (const one of [...watched.slice(0, 10), broken, ...watched.slice(10)]) watchdog.add(one)
    for (let tick = 1; tick <= 2; tick++) {
      expect(() => jest.advanceTimersByTime(200)).toThrow('broken')
      jest.advanceTimersByTime(1)
      expect(watched.map(({ visits }) => visits)).toEqual(Array.from({ length: 20 }, () => tick))
    }
  })

  it('does not keep the process alive', () => {
    jest.useRealTimers()
    const start = jest.spyOn(globalThis, 'setInterval')
    const watchdog = new Watchdog([10_000])
    const one = new Counted()
    watchdog.add(one)
    const timer = start.mock.results[0]?.value as NodeJS.Timeout
    expect(timer.hasRef()).toBe(false)
    watchdog.remove(one)
    start.mockRestore()
  })

  it.each<[readonly (number | false)[], number, number]>([
    [[15_000, 30_000, false], 1_000, 30],
    [[100, 30_000], 20, 1_500],
    [[1, false], 10, 1],
    [[false, false, false], 1_000, 1],
    [[2_147_483_647], 1_000, 2_147_483],
  ])('measures durations of %j in ticks of %i ms', (durations, tickMs, ticks) => {
    const watchdog = new Watchdog(durations)
    const one = new Counted()
    watchdog.add(one)
    jest.advanceTimersByTime(tickMs * 10 - 1)
    expect(watchdog.tick).toBe(9)
    jest.advanceTimersByTime(1)
    expect([watchdog.tick, one.visits]).toEqual([10, 10])
    expect(watchdog.ticksIn(Math.max(...durations.map(Number), 1))).toBe(ticks)
  })

  it('visits every watched object in each tick', () => {
    const watchdog = new Watchdog([50])
    const watched = many(1_000)
    for (const one of watched) watchdog.add(one)
    jest.advanceTimersByTime(30)
    jest.runAllTicks()
    expect(new Set(watched.map(({ visits }) => visits))).toEqual(new Set([3]))
  })

  it('visits every object that stays while others remove themselves', () => {
    const watchdog = new Watchdog([50])
    const leaving = many(500, (one) => watchdog.remove(one))
    const staying = many(500)
    leaving.forEach((one, i) => {
      watchdog.add(one)
      watchdog.add(staying[i] as Counted)
    })
    jest.advanceTimersByTime(20)
    expect(new Set(staying.map(({ visits }) => visits))).toEqual(new Set([2]))
    expect(new Set(leaving.map(({ visits }) => visits))).toEqual(new Set([1]))
  })

  it('visits every object that stays while objects remove each other', () => {
    const watchdog = new Watchdog([50])
    const all: Counted[] = []
    const removed = new Set<Counted>()
    let turn = 0
    for (let i = 0; i < 300; i++) {
      all.push(
        new Counted(() => {
          const other = all[(turn++ * 7_919) % all.length] as Counted
          if (turn % 3 !== 0 || removed.size > 200) return
          removed.add(other)
          watchdog.remove(other)
        }),
      )
    }
    for (const one of all) watchdog.add(one)
    jest.advanceTimersByTime(10)
    expect(all.filter((one) => !removed.has(one) && one.visits === 0)).toEqual([])
    expect(removed.size).toBeGreaterThan(50)
    const before = new Map([...removed].map((one) => [one, one.visits]))
    jest.advanceTimersByTime(10)
    for (const [one, visits] of before) expect(one.visits).toBe(visits)
  })

  it('stops when a visit removes every object, and starts again when one is added', () => {
    const watchdog = new Watchdog([50])
    const all = many(20, () => {
      for (const one of all) watchdog.remove(one)
    })
    for (const one of all) watchdog.add(one)
    jest.advanceTimersByTime(100)
    expect(all.reduce((sum, { visits }) => sum + visits, 0)).toBe(1)
    expect(jest.getTimerCount()).toBe(0)
    const next = new Counted()
    watchdog.add(next)
    jest.advanceTimersByTime(10)
    expect(next.visits).toBe(1)
  })

  it('ignores the removal of an object that it does not watch', () => {
    const watchdog = new Watchdog([50])
    const [a, b] = many(2) as [Counted, Counted]
    watchdog.remove(a)
    watchdog.add(a)
    watchdog.add(b)
    watchdog.remove(a)
    watchdog.remove(a)
    jest.advanceTimersByTime(10)
    expect([a.visits, b.visits]).toEqual([0, 1])
    watchdog.remove(b)
  })

  it('yields to the event loop when visits take long, and resumes with the next object', () => {
    jest.useFakeTimers({ now: 0 })
    const watchdog = new Watchdog([50_000])
    // Each visit takes a millisecond of the fake clock.
    const watched = many(100, () => jest.setSystemTime(Date.now()))
    let now = 0
    const clock = jest.spyOn(performance, 'now').mockImplementation(() => now)
    const slow = watched.map((one) =>
      Object.assign(one, {
        watch: () => {
          one.visits++
          now++
        },
      }),
    )
    for (const one of slow) watchdog.add(one)
    jest.advanceTimersToNextTimer()
    const first = slow.filter(({ visits }) => visits > 0).length
    expect(first).toBeGreaterThan(0)
    expect(first).toBeLessThan(20)
    let turns = 0
    while (slow.some(({ visits }) => visits === 0) && turns < 100) {
      jest.advanceTimersToNextTimer()
      turns++
    }
    expect(turns).toBeGreaterThan(4)
    expect(new Set(slow.map(({ visits }) => visits))).toEqual(new Set([1]))
    for (const one of slow) watchdog.remove(one)
    clock.mockRestore()
  })
})
