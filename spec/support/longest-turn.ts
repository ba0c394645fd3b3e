import { turn } from './fake-connection.ts'

/** Runs work on a clock that the work itself moves on, and gives the longest that a turn of the event loop took. */
export async function longestTurn(work: (spend: (ms: number) => void) => Promise<void>): Promise<number> {
  let clock = performance.now()
  const now = jest.spyOn(performance, 'now').mockImplementation(() => clock)
  try {
    let longest = 0
    let since = clock
    let isOver = false
    const count = (): void => {
      longest = Math.max(longest, clock - since)
      since = clock
      if (!isOver) setImmediate(count)
    }
    setImmediate(count)
    await work((ms) => (clock += ms))
    isOver = true
    await turn()
    return longest
  } finally {
    now.mockRestore()
  }
}
