/** Whether this is the long run: `npm run test:long`. */
export const isLong = process.env['LONG'] === '1'

/** How often something random is tried, and what is expected of that: all of it in the long run, a tenth at every change. */
export function times(all: number): number {
  return sized(all, Math.ceil(all / 10))
}

/** A size that the long run has in full. At every change a smaller one guards the same promise. */
export function sized(full: number, small: number): number {
  return isLong ? full : small
}
