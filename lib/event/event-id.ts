/** The content of an event id: a position and the epoch that it belongs to. */
export interface EventPosition {
  /** Epoch of the log that the position belongs to: 10 characters of `[0-9a-z]`. */
  readonly epoch: string
  /** Position in the total order of the hub's events: microseconds since 1970, or more if positions run ahead of the clock. */
  readonly position: number
}

/** Length of an epoch. */
export const EPOCH_LENGTH = 10

/** An upper limit for ids. A channel name of 256 UTF-16 units takes at most 2,304 characters when encoded. */
const MAX_LENGTH = 2_400
const ID = /^([0-9a-z]{10})-(0|[1-9]\d{0,15})\/([\w.!~*'()%-]*)$/

/**
 * Formats the id of an event: `<epoch>-<position>/<encodeURIComponent(channel)>`. Control events have an id without a
 * channel, which stands for a position in the log rather than for an event.
 */
export function formatId(epoch: string, position: number, channel = ''): string {
  return `${epoch}-${position}/${encodeURIComponent(channel)}`
}

/** The epoch of an encoded event of a hub, whose first line is the id. */
export function epochOf(block: string): string {
  return block.slice('id: '.length, 'id: '.length + EPOCH_LENGTH)
}

/** Parses an id that a client sent. Returns `undefined` for any text that {@link formatId} cannot have written. */
export function parseId(id: string): EventPosition | undefined {
  if (id.length > MAX_LENGTH) return undefined
  const match = ID.exec(id)
  if (match === null) return undefined
  const [, epoch = '', digits, channel = ''] = match
  const position = Number(digits)
  return Number.isSafeInteger(position) && isEncoded(channel) ? { epoch, position } : undefined
}

/**
 * Reads the channel of an event from the event's id.
 *
 * Returns `''` for a control event of the hub (such as `stream-open`), which belongs to no channel, and `undefined` for text
 * that is not an id of a hub. Apart from the channel, ids are opaque.
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
