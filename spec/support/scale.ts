/** True in the long run, `npm run test:long`. */
export const isLong = process.env['LONG'] === '1'

/** Count of random tries, or of results expected from them: all in the long run, and a tenth at every change. */
export function times(all: number): number {
  return sized(all, Math.ceil(all / 10))
}

/** Returns `full` in the long run. At every change, the smaller size guards the same promise. */
export function sized(full: number, small: number): number {
  return isLong ? full : small
}
