import type { OnError } from '../basics/on-error.ts'
import type { HubEvent } from '../event/channel-types.ts'
import { epochOf, formatId } from '../event/event-id.ts'
import { type Deserialize, parseBlock } from '../event/event.ts'
import type { LogPage } from '../log/log-page.ts'
import type { Channel } from './channel.ts'

/**
 * Reads events back from the encoded log, as a client would. What was read is remembered until the next turn of the event
 * loop, so that a thousand filters cost one reading; the events are frozen, because all see the same object.
 */
export class EventReader {
  readonly #deserialize: Deserialize
  readonly #onError: OnError
  /** `null` stands for an event that could not be read. */
  readonly #read = new Map<LogPage, (HubEvent | null | undefined)[]>()
  /** The slots of events that were reported because they could not be read. */
  readonly #unreadable = new WeakMap<LogPage, Set<number>>()

  constructor(deserialize: Deserialize, onError: OnError) {
    this.#deserialize = deserialize
    this.#onError = onError
  }

  /** The event in a slot of a page; `null` where `deserialize` fails, which is reported once. */
  read(channel: Channel, page: LogPage, slot: number): HubEvent | null {
    if (this.#read.size === 0) setImmediate(() => this.#read.clear())
    let events = this.#read.get(page)
    if (events === undefined) this.#read.set(page, (events = []))
    let event = events[slot]
    if (event === undefined) events[slot] = event = this.#decode(channel, page, slot)
    return event
  }

  #decode({ name }: Channel, page: LogPage, slot: number): HubEvent | null {
    const block = page.blockAt(slot)
    const { event, text } = parseBlock(block)
    try {
      const data = page.strings[slot] ? text : freeze(this.#deserialize(text))
      return Object.freeze({ id: formatId(epochOf(block), page.positions[slot] as number, name), channel: name, event, data })
    } catch (error) {
      this.#report(error, page, slot)
      return null
    }
  }

  /** Reports a fault once, however often and when the event is looked at. */
  #report(error: unknown, page: LogPage, slot: number): void {
    const known = this.#unreadable.get(page)
    if (known?.has(slot)) return
    if (known === undefined) this.#unreadable.set(page, new Set([slot]))
    else known.add(slot)
    this.#onError(error, { where: 'deserialize' })
  }
}

/** Freezes arrays and plain objects all the way down. */
function freeze(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  const prototype: unknown = Object.getPrototypeOf(value)
  if (!Array.isArray(value) && prototype !== Object.prototype && prototype !== null) return value
  Object.freeze(value)
  for (const member of Object.values(value)) freeze(member)
  return value
}
