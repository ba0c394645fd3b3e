/** Text before the sequence number in the data of every event. */
export const MARKER = '"seq":'

/** Number of digits of a sequence number. */
export const DIGITS = 12

const FIRST = 100_000_000_000
const PER_CHANNEL = 10_000_000

/** Sequence number of an event, from its channel (0 to 9,999) and its index in the channel. */
export function sequenceNumber(channel: number, index: number): number {
  return FIRST + channel * PER_CHANNEL + index
}

export function channelOf(sequence: number): number {
  return Math.floor((sequence - FIRST) / PER_CHANNEL)
}

export function indexOf(sequence: number): number {
  return (sequence - FIRST) % PER_CHANNEL
}
