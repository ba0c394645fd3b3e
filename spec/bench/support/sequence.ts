/** Stands before the number in the data of every event. */
export const MARKER = '"seq":'

/** How many digits the number has. */
export const DIGITS = 12

const FIRST = 100_000_000_000
const PER_CHANNEL = 10_000_000

/** The number that an event carries: its channel, from 0 to 9,999, and its place in it. */
export function sequenceNumber(channel: number, place: number): number {
  return FIRST + channel * PER_CHANNEL + place
}

export function channelOf(sequence: number): number {
  return Math.floor((sequence - FIRST) / PER_CHANNEL)
}

export function placeOf(sequence: number): number {
  return (sequence - FIRST) % PER_CHANNEL
}
