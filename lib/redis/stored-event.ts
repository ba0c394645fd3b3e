import type { BackplaneEvent, ChannelHistory } from '../backplanes/backplane.ts'
import { describeValue } from '../basics/errors.ts'
import { EPOCH_LENGTH } from '../event/event-id.ts'

/** An event as Redis stores and announces it; key-schema.ts describes its text. */
export interface StoredEvent {
  readonly epoch: string
  readonly event: BackplaneEvent
}

const HEADER = /^([0-9a-z]+) (\d+) (\d+) ([01])$/

/**
 * Parses a stored event.
 *
 * @throws {Error} for a text that the publish script cannot have written.
 */
export function parseStoredEvent(text: string): StoredEvent {
  const headerEnd = text.indexOf('\n')
  const eventEnd = text.indexOf('\n', headerEnd + 1)
  const keyEnd = text.indexOf('\n', eventEnd + 1)
  const match = HEADER.exec(text.slice(0, Math.max(0, headerEnd)))
  const [, epoch = '', position, prev, isString] = match ?? []
  if (keyEnd === -1 || epoch.length !== EPOCH_LENGTH) {
    throw new Error(`RedisBackplane: received a text that is not an event of a hub: ${describeValue(text)}`)
  }
  const key = text.slice(eventEnd + 1, keyEnd)
  return {
    epoch,
    event: {
      position: Number(position),
      prev: Number(prev),
      event: text.slice(headerEnd + 1, eventEnd),
      text: text.slice(keyEnd + 1),
      isString: isString === '1',
      key: key === '' ? undefined : (JSON.parse(key) as string),
    },
  }
}

/**
 * Answer of the read script for a channel: a floor and no events, or the newest position, the stored events, and the fields and
 * values of the keys hash.
 */
export type RawHistory = readonly [floor: string] | readonly [newest: string, storedEvents: readonly string[], keyFields: readonly string[]]

/** Answer of the read script for a channel that the ACL denies to the user. */
export type RawRefusal = readonly [newest: null, reason: string]

const PREVIOUS_FIELD = 'previous:'

/** The longest unbroken part of a channel's log: its newest event, the event that this names as the previous one, and so on. */
export function parseHistory(raw: RawHistory): ChannelHistory {
  const [first, storedEvents, keyFields = []] = raw
  if (storedEvents === undefined) return { floor: Number(first), events: [] }
  const newest = Number(first)
  const events = storedEvents.map((text) => parseStoredEvent(text).event)
  const corrected = correctedPositions(keyFields)
  let start = events.length
  let floor = newest
  for (let event = events[start - 1]; event !== undefined; event = events[start - 1]) {
    const isNewest = start === events.length
    // An older event ends the part if it lies before the position that the later one names: what was there is gone.
    if (isNewest ? event.position !== newest : event.position < floor) break
    floor = corrected.get(event.position) ?? event.prev
    start--
  }
  return { floor, events: events.slice(start) }
}

/** By position of an event, the previous position that replaces the one in the event. */
function correctedPositions(keyFields: readonly string[]): ReadonlyMap<number, number> {
  const corrected = new Map<number, number>()
  for (let i = 0; i < keyFields.length; i += 2) {
    const [field = '', position] = [keyFields[i], keyFields[i + 1]]
    if (field.startsWith(PREVIOUS_FIELD)) corrected.set(Number(field.slice(PREVIOUS_FIELD.length)), Number(position))
  }
  return corrected
}
