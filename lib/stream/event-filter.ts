import { SseError } from '../basics/errors.ts'
import type { OnError } from '../basics/on-error.ts'
import { isThenable } from '../basics/promises.ts'
import type { HubEvent } from '../event/channel-types.ts'

/** Whether a subscriber is given an event. */
export type EventFilter = (event: HubEvent) => boolean

/** Asks a filter. One that throws or returns a promise counts as `false`, and is reported. */
export function isWanted(filter: EventFilter, event: HubEvent, onError: OnError): boolean {
  try {
    const answer: unknown = filter(event)
    if (!isThenable(answer)) return Boolean(answer)
    answer.then(undefined, (error: unknown) => onError(error, { where: 'filter' }))
    throw new SseError('SSE_INVALID_FILTER', 'filter must return a boolean, not a promise: do what is asynchronous before subscribing')
  } catch (error) {
    onError(error, { where: 'filter' })
    return false
  }
}
