import { setImmediate as nextTurn } from 'node:timers/promises'
import { TimeSlice } from './time-slice.ts'

/** How often a drain that takes its time goes on. */
const STEP_MS = 20

/**
 * Ends many things one after the other, spread evenly over `ms`, and without holding the event loop where there are many
 * at once. It is over when none is left that is not gone by itself.
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
    const passed = performance.now() - startedAt
    const due = passed >= ms ? items.length : Math.ceil((items.length * passed) / ms)
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
    await (isOver ? nextTurn() : wait(Math.min(STEP_MS, ms - passed)))
    slice.begin()
  }
}

async function wait(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)))
}
