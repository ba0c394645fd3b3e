import { SseError } from '../basics/errors.ts'
import { isThenable } from '../basics/promises.ts'
import { type OnError } from '../basics/on-error.ts'
import type { HubEvent } from '../event/channel-types.ts'
import { epochOf, formatId } from '../event/event-id.ts'
import { type Deserialize, parseBlock } from '../event/event.ts'
import type { LogPage } from '../log/log-page.ts'
import type { Channel } from './channel.ts'
import type { EventFilter } from './subscribe-options.ts'

/**
 * Decodes events of the log, as a client would, for filters and `events()`. A decoded event is cached until the next turn of the
 * event loop, so that a thousand filters cost one decoding. Events are frozen, because all consumers share one object.
 */
export class EventReader {
  readonly #deserialize: Deserialize
  readonly #onError: OnError
  /** The events of each page by slot; `null` for an event that could not be decoded. */
  readonly #cache = new Map<LogPage, (HubEvent | null | undefined)[]>()
  /** The slots of events that were reported because they could not be decoded. */
  readonly #reported = new WeakMap<LogPage, Set<number>>()

  constructor(deserialize: Deserialize, onError: OnError) {
    this.#deserialize = deserialize
    this.#onError = onError
  }

  /** The event in a slot of a page; `null` if `deserialize` fails, which is reported once. */
  read(channel: Channel, page: LogPage, slot: number): HubEvent | null {
    if (this.#cache.size === 0) setImmediate(() => this.#cache.clear())
    let events = this.#cache.get(page)
    if (events === undefined) this.#cache.set(page, (events = []))
    let event = events[slot]
    if (event === undefined) events[slot] = event = this.#decode(channel, page, slot)
    return event
  }

  /** Whether a filter wants an event. A filter that throws or returns a promise counts as `false`, and is reported. */
  isWanted(filter: EventFilter, channel: Channel, page: LogPage, slot: number): boolean {
    const event = this.read(channel, page, slot)
    if (event === null) return false
    const onError = this.#onError
    try {
      const answer: unknown = filter(event)
      if (!isThenable(answer)) return Boolean(answer)
      answer.then(undefined, (error: unknown) => onError(error, { where: 'filter' }))
      throw new SseError('SSE_INVALID_FILTER', 'filter must return a boolean, not a promise: do asynchronous work before subscribing')
    } catch (error) {
      onError(error, { where: 'filter' })
      return false
    }
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

  #report(error: unknown, page: LogPage, slot: number): void {
    const reported = this.#reported.get(page)
    if (reported?.has(slot)) return
    if (reported === undefined) this.#reported.set(page, new Set([slot]))
    else reported.add(slot)
    this.#onError(error, { where: 'deserialize' })
  }
}

/** Freezes an array or a plain object, with everything in it. */
function freeze(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  const prototype: unknown = Object.getPrototypeOf(value)
  if (!Array.isArray(value) && prototype !== Object.prototype && prototype !== null) return value
  Object.freeze(value)
  for (const item of Object.values(value)) freeze(item)
  return value
}
