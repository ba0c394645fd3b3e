/** The channels of the load, the busiest first: of the last there is an event only now and then. */
export const CHANNELS: readonly string[] = ['c0', 'c1', 'c2', 'c3', 'c4', 'c5/ä', 'c6', 'c7', 'c8', 'quiet']

/** A channel of its own, for what is large. */
export const BULK = 'bulk'

const QUIET_EVERY = 211
/** Characters of one to four bytes, line breaks, and what looks like fields. */
const TEXT = 'abc ä€😀\nxyz: {"id":1}\n\ndata: 7'.repeat(20)

/** The channel of an event, by its number. */
export function channelOf(seq: number): string {
  if (seq % QUIET_EVERY === 0) return CHANNELS.at(-1) ?? ''
  // The first channels have more than the others.
  const share = (Math.imul(seq + 1, 0x9e3779b1) >>> 0) / 4_294_967_296
  return CHANNELS[Math.floor(share * share * (CHANNELS.length - 1))] ?? ''
}

/** The data of an event: its number, and a text that follows from it, of at least so many bytes. */
export function dataOf(seq: number, bytes = 0): string {
  const from = seq % 40
  const text = `${seq} ${TEXT.slice(from, from + (Math.imul(seq + 1, 0x85ebca6b) >>> 24)).toWellFormed()}|`
  return text.padEnd(bytes, '.')
}

/** The number of an event that came with this data; `undefined` where it is not as it was published. */
export function seqOf(data: string): number | undefined {
  const seq = Number.parseInt(data, 10)
  return Number.isSafeInteger(seq) && data === dataOf(seq, data.length > 1_000 ? data.length : 0) ? seq : undefined
}
