/** What an event's id says: which life of which log, and where in it. */
export interface EventPosition {
  /** The life of the log that the position belongs to: 10 characters of `[0-9a-z]`. */
  readonly epoch: string
  /** The place in the hub's one order: microseconds since 1970, unless the hub ran ahead of its clock. */
  readonly position: number
}

/** How long the name of an epoch is. */
export const EPOCH_LENGTH = 10

/** Beyond any id the hub writes: a channel's name of 256 UTF-16 units is at most 2,304 characters when encoded. */
const MAX_LENGTH = 2_400
const ID = /^([0-9a-z]{10})-(0|[1-9]\d{0,15})\/([\w.!~*'()%-]*)$/

/**
 * The id of an event: `<epoch>-<position>/<encodeURIComponent(channel)>`. Without a channel it is a place
 * between events, as control events carry it.
 */
export function formatId(epoch: string, position: number, channel = ''): string {
  return `${epoch}-${position}/${encodeURIComponent(channel)}`
}

/** The epoch of an encoded event of a hub: it begins with the line of its id. */
export function epochOf(block: string): string {
  return block.slice('id: '.length, 'id: '.length + EPOCH_LENGTH)
}

/** Reads an id that came back from a client. `undefined` for anything that {@link formatId} cannot have written. */
export function parseId(id: string): EventPosition | undefined {
  if (id.length > MAX_LENGTH) return undefined
  const match = ID.exec(id)
  if (match === null) return undefined
  const [, epoch = '', digits, channel = ''] = match
  const position = Number(digits)
  return Number.isSafeInteger(position) && isEncoded(channel) ? { epoch, position } : undefined
}

/**
 * The channel that an event of a hub came from, read from its id. `''` for an event of the hub's own (`stream-open` and its
 * like), which belongs to no channel; `undefined` for text that is not the id of a hub.
 *
 * Apart from the channel, ids are opaque.
 *
 * @example
 * source.onmessage = (event) => console.log(channelOf(event.lastEventId), event.data)
 */
export function channelOf(id: string): string | undefined {
  return typeof id === 'string' && parseId(id) !== undefined ? decodeURIComponent(id.slice(id.indexOf('/') + 1)) : undefined
}

function isEncoded(component: string): boolean {
  try {
    return encodeURIComponent(decodeURIComponent(component)) === component
  } catch {
    return false
  }
}
