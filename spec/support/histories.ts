import * as fc from 'fast-check'

/**
 * Plays random histories, the same ones in every test run. A history that fails is reduced to a small one that fails too, unless
 * that takes so long that the test would time out.
 */
export async function playAll<T>(history: fc.Arbitrary<T>, numRuns: number, play: (history: T) => Promise<void>): Promise<void> {
  await fc.assert(fc.asyncProperty(fc.limitShrink(history, 500), play), { seed: 1, numRuns, plugins: [fc.unbiased()] })
}

/** An array of steps whose average length is given. */
export function stepsOf<T>(step: fc.Arbitrary<T>, averageLength: number): fc.Arbitrary<T[]> {
  return fc.array(step, { maxLength: 2 * averageLength, size: 'max' })
}

/** Any number, for a step that selects an item of a list by the remainder. */
export const anyNumber = fc.nat(1_000_000)

/** A number from 0 to 1. */
export const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

export function pick<T>(items: readonly T[], number: number): T {
  return items[number % items.length] as T
}
