import { backoffMs } from '../../lib/basics/backoff.ts'

const BOUNDS = { min: 100, max: 2_000 }

describe('backoffMs', () => {
  afterEach(() => jest.restoreAllMocks())

  const delays = (random: number): number[] => {
    jest.spyOn(Math, 'random').mockReturnValue(random)
    return [0, 1, 2, 4, 5, 2_000].map((attempt) => backoffMs(attempt, BOUNDS))
  }

  it('doubles after each failure, up to the longest delay', () => {
    expect(delays(1)).toEqual([100, 200, 400, 1_600, 2_000, 2_000])
  })

  it('takes between half of the delay and all of it', () => {
    expect(delays(0)).toEqual([50, 100, 200, 800, 1_000, 1_000])
  })
})
