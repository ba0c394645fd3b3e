/** Channels of the load, the busiest first. The last has only an occasional event. */
export const CHANNELS: readonly string[] = ['c0', 'c1', 'c2', 'c3', 'c4', 'c5/ä', 'c6', 'c7', 'c8', 'quiet']

/** Channel of the large events. */
export const BULK = 'bulk'

const QUIET_EVERY = 211
/** Characters of one to four bytes, line breaks, and text that resembles fields. */
const TEXT = 'abc ä€😀\nxyz: {"id":1}\n\ndata: 7'.repeat(20)

/** Channel of an event, by its number. */
export function channelOf(seq: number): string {
  if (seq % QUIET_EVERY === 0) return CHANNELS.at(-1) ?? ''
  // The first channels receive more events than the others.
  const share = (Math.imul(seq + 1, 0x9e3779b1) >>> 0) / 4_294_967_296
  return CHANNELS[Math.floor(share * share * (CHANNELS.length - 1))] ?? ''
}

/** Data of an event: its number, and text that depends on the number, of at least `bytes` bytes. */
export function dataOf(seq: number, bytes = 0): string {
  const from = seq % 40
  const text = `${seq} ${TEXT.slice(from, from + (Math.imul(seq + 1, 0x85ebca6b) >>> 24)).toWellFormed()}|`
  return text.padEnd(bytes, '.')
}

/** Number of the event with this data, or `undefined` if no such data was published. */
export function seqOf(data: string): number | undefined {
  const seq = Number.parseInt(data, 10)
  return Number.isSafeInteger(seq) && data === dataOf(seq, data.length > 1_000 ? data.length : 0) ? seq : undefined
}
