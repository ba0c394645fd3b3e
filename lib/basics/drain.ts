import { setImmediate as nextTurn } from 'node:timers/promises'
import { TimeSlice } from './time-slice.ts'

/** Interval between the steps of a drain that is spread over time. */
const STEP_MS = 20

/**
 * Ends `items` in order, spread evenly over `ms` milliseconds. If many are due at once, it works in time slices, so that it
 * does not block the event loop. Resolves when every item has been ended or has disconnected by itself.
 *
 * @param isDisconnected whether an item has disconnected by itself. Such an item is skipped, and does not use up a turn of the spread.
 */
export async function drain<T>(
  items: readonly T[],
  ms: number,
  end: (item: T) => void,
  isDisconnected = (_item: T): boolean => false,
): Promise<void> {
  const startedAt = performance.now()
  const slice = new TimeSlice()
  slice.begin()
  let ended = 0
  while (ended < items.length) {
    const elapsedMs = performance.now() - startedAt
    const due = elapsedMs >= ms ? items.length : Math.ceil((items.length * elapsedMs) / ms)
    let isOver = false
    while (ended < items.length && !isOver) {
      const item = items[ended] as T
      if (!isDisconnected(item)) {
        if (ended >= due) break
        end(item)
      }
      ended++
      isOver = slice.spend()
    }
    if (ended === items.length) return
    await (isOver ? nextTurn() : wait(Math.min(STEP_MS, ms - elapsedMs)))
    slice.begin()
  }
}

async function wait(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)))
}
