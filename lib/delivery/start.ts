import { parseId } from '../event/event-id.ts'
import type { LogHead } from '../event/timeline.ts'
import type { SubscribeSettings } from '../stream/subscription.ts'
import type { ResetReason } from './control-events.ts'

/** Where and how a subscriber begins. */
export interface Start {
  readonly settings: SubscribeSettings
  /** The cursor; -1 where the client's place is not known any more. */
  readonly position: number
  /** Why the client is reset, should it have to be before the replay is over. */
  readonly reason: ResetReason
  /** Whether the client has nothing yet: it begins with a snapshot, or with the last events of each channel. */
  readonly isFirst: boolean
}

/**
 * Where and how a client begins that comes with this id; without one, at the moment `now`, or told of a loss where that belongs
 * to a life of the hub that is over.
 */
export function startFrom(lastEventId: string, settings: SubscribeSettings, timeline: LogHead, now: LogHead = timeline): Start {
  const { epoch } = timeline
  if (lastEventId === '') {
    const isOver = now.epoch !== epoch
    return { settings, position: isOver ? -1 : now.newest, reason: isOver ? 'restarted' : 'expired', isFirst: true }
  }
  const place = parseId(lastEventId)
  const isFirst = false
  if (place === undefined) return { settings, position: -1, reason: 'unknown-id', isFirst }
  if (place.epoch !== epoch) return { settings, position: -1, reason: 'restarted', isFirst }
  if (place.position > timeline.newest) return { settings, position: -1, reason: 'unknown-id', isFirst }
  return { settings, position: place.position, reason: 'expired', isFirst }
}
