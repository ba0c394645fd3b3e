import type { BackplaneEvent, ChannelHistory } from '../backplanes/backplane.ts'
import { EPOCH_LENGTH } from '../event/event-id.ts'

/** What Redis stores of an event, and tells of it: see the scripts. */
export interface Message {
  readonly epoch: string
  readonly event: BackplaneEvent
}

const HEAD = /^([0-9a-z]+) (\d+) (\d+) ([01])$/

/** Reads a message; throws what is wrong with one that the script cannot have written. */
export function parseMessage(message: string): Message {
  const headEnd = message.indexOf('\n')
  const eventEnd = message.indexOf('\n', headEnd + 1)
  const keyEnd = message.indexOf('\n', eventEnd + 1)
  const match = HEAD.exec(message.slice(0, Math.max(0, headEnd)))
  const [, epoch = '', position, prev, flag] = match ?? []
  if (keyEnd === -1 || epoch.length !== EPOCH_LENGTH) throw new Error(`this is not an event of a hub: ${message.slice(0, 80)}`)
  const key = message.slice(eventEnd + 1, keyEnd)
  return {
    epoch,
    event: {
      position: Number(position),
      prev: Number(prev),
      event: message.slice(headEnd + 1, eventEnd),
      text: message.slice(keyEnd + 1),
      isString: flag === '1',
      key: key === '' ? undefined : (JSON.parse(key) as string),
    },
  }
}

/** Reads what begins with an epoch and a number. */
export function parseSignal(text: string): { readonly epoch: string; readonly count: number; readonly rest: string } {
  const [, epoch, count, rest] = /^([0-9a-z]{10}) (\d+)\n([^]*)$/.exec(text) ?? []
  if (epoch === undefined || count === undefined || rest === undefined) {
    throw new Error(`this is not a signal of a hub: ${text.slice(0, 80)}`)
  }
  return { epoch, count: Number(count), rest }
}

/** The script's answer for a channel: the floor, or the newest position with the messages and what was replaced before them. */
export type RawHistory = readonly [floor: string] | readonly [newest: string, messages: readonly string[], links: readonly string[]]

/** Its answer for a channel that must not be read. */
export type RawRefusal = readonly [newest: null, reason: string]

/** The part of a channel's messages in which each names the one before it. */
export function historyOf(raw: RawHistory): ChannelHistory {
  const [first, messages, links = []] = raw
  if (messages === undefined) return { floor: Number(first), events: [] }
  const newest = Number(first)
  const replaced = new Map<number, number>()
  for (let i = 0; i < links.length; i += 2) {
    const [field = '', position] = [links[i], links[i + 1]]
    if (field.startsWith('l')) replaced.set(Number(field.slice(1)), Number(position))
  }
  const events = messages.map((message) => parseMessage(message).event)
  const before = ({ position, prev }: BackplaneEvent): number => replaced.get(position) ?? prev
  let start = events.length
  // Whatever is after it is there: the newest event, the one that it names, and so on.
  let floor = newest
  for (
    let event = events[start - 1];
    event !== undefined && (start === events.length ? event.position === newest : floor <= event.position);
    event = events[start - 1]
  ) {
    floor = before(event)
    start--
  }
  return { floor, events: events.slice(start) }
}
