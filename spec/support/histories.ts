import * as fc from 'fast-check'

/**
 * Plays random histories, the same ones in every test run. A history that fails is reduced to a small one that fails too, unless
 * that takes so long that the test would time out.
 */
export async function playAll<T>(history: fc.Arbitrary<T>, numRuns: number, play: (history: T) => Promise<void>): Promise<void> {
  await fc.assert(fc.asyncProperty(fc.limitShrink(history, 1_000), play), { seed: 1, numRuns, plugins: [fc.unbiased()] })
}

/** An array of steps whose average length is given. */
export function stepsOf<T>(step: fc.Arbitrary<T>, averageLength: number): fc.Arbitrary<T[]> {
  return fc.array(step, { maxLength: 2 * averageLength, size: 'max' })
}

/** Any number, for a step that selects an item of a list by the remainder. */
export const anyNumber = fc.nat(1_000_000)

/** A number from 0 to 1, all of them equally likely, as those of `fc.double` are not. */
export const fraction = fc.nat(999).map((n) => n / 1_000)

export function pick<T>(items: readonly T[], number: number): T {
  return items[number % items.length] as T
}
