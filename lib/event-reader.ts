import type { Channel } from './channel.ts'
import type { HubEvent } from './channel-types.ts'
import { type Deserialize, parseBlock } from './event.ts'
import { formatId } from './event-id.ts'
import type { LogPage } from './log-page.ts'

/**
 * Reads events back from the encoded log, as a client would. What was read is remembered until {@link clear}, so that a
 * thousand filters in one round cost one reading; the events are frozen, because all see the same object.
 */
export class EventReader {
  readonly #epoch: string
  readonly #deserialize: Deserialize
  readonly #read = new Map<LogPage, (HubEvent | undefined)[]>()

  constructor(epoch: string, deserialize: Deserialize) {
    this.#epoch = epoch
    this.#deserialize = deserialize
  }

  /** The event in a slot of a page. Throws what `deserialize` throws. */
  read(channel: Channel, page: LogPage, slot: number): HubEvent {
    let events = this.#read.get(page)
    if (events === undefined) this.#read.set(page, (events = []))
    return (events[slot] ??= this.#decode(channel, page, slot))
  }

  clear(): void {
    if (this.#read.size > 0) this.#read.clear()
  }

  #decode({ name }: Channel, page: LogPage, slot: number): HubEvent {
    const { event, text } = parseBlock(page.blockAt(slot))
    const data = page.strings[slot] ? text : freeze(this.#deserialize(text))
    return Object.freeze({ id: formatId(this.#epoch, page.positions[slot] as number, name), channel: name, event, data })
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
