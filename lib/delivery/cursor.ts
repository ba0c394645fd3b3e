import type { TimeSlice } from '../basics/time-slice.ts'
import { type EventPosition, parseId } from '../event/event-id.ts'
import type { LogHead, Timeline } from '../event/timeline.ts'
import { type Channel, ChannelCursor, type Consumer } from './channel.ts'
import type { ResetReason } from './control-events.ts'

/** The point from which a client asks to resume: after the event of its id, or now if it has none. */
export interface ResumePoint {
  /** Whether the client has no id: it begins with a snapshot, or with the last events of each channel. */
  readonly isFirst: boolean
  /** The position in its id; `undefined` without an id, and for an id that no hub can have written. */
  readonly position: EventPosition | undefined
}

/** The start of a cursor. */
export interface StartPosition {
  /** -1 if it is unknown which events the client has. */
  readonly position: number
  /** The reason for a reset of the client before its replay is complete. */
  readonly reason: ResetReason
  readonly isFirst: boolean
}

/** Reads a `Last-Event-ID`; `''` stands for none. */
export function resumePoint(lastEventId: string): ResumePoint {
  return { isFirst: lastEventId === '', position: lastEventId === '' ? undefined : parseId(lastEventId) }
}

/**
 * Translates a client's resume point into a position of this hub.
 *
 * @param now the head of the log when a client without an id asked to subscribe. If the log has begun another epoch since, the
 *   client is reset.
 */
export function startPosition({ isFirst, position }: ResumePoint, timeline: Timeline, now: LogHead = timeline): StartPosition {
  const { epoch, newest } = timeline
  if (isFirst) {
    const isRestarted = now.epoch !== epoch
    return { isFirst, position: isRestarted ? -1 : now.newest, reason: isRestarted ? 'restarted' : 'expired' }
  }
  if (position !== undefined && position.epoch !== epoch) return { isFirst, position: -1, reason: 'restarted' }
  if (position === undefined || position.position > newest) return { isFirst, position: -1, reason: 'unknown-id' }
  return { isFirst, position: position.position, reason: 'expired' }
}

/** The results of {@link Cursor.find}. */
export const NOTHING = 0
export const EVENT = 1
export const LOSS = 2

/**
 * A position in the logs of one or several channels, which it merges in order of position. The channels share one position. A channel that
 * begins at a later position has that position in `ChannelCursor.after`.
 */
export abstract class Cursor implements Consumer {
  readonly channelCursors: readonly ChannelCursor[]
  isActive = true
  /** Everything at or before it was sent, skipped as unwanted, or given up with a reset. */
  position = 0
  /**
   * The answer of {@link find}: the channel of the next event, and the position up to which its events may be taken. The answer is
   * in fields because `find` runs for every delivery and must allocate nothing.
   */
  protected next: ChannelCursor | null = null
  protected until = 0

  /** Joins the channels at once, because a channel without a consumer may be forgotten. */
  constructor(channels: readonly Channel[], position: number) {
    this.channelCursors = channels.map((channel) => new ChannelCursor(channel, this))
    // V8 changes a field in place if its first value is a number. A field that begins as undefined costs an object per change.
    this.position = position
    for (const cursor of this.channelCursors) cursor.channel.add(cursor)
  }

  abstract deliver(slice: TimeSlice | null, goal: number): boolean
  abstract restart(): void
  abstract leftLockstep(position: number): void

  get names(): string[] {
    return this.channelCursors.map(({ channel }) => channel.name)
  }

  /** Leaves all channels, for good. */
  leave(): void {
    this.isActive = false
    for (const cursor of this.channelCursors) cursor.channel.remove(cursor)
  }

  /**
   * Looks for the first event after the cursor and not after `limit`. If it returns EVENT, {@link next} and {@link until} say which events
   * to take.
   */
  protected find(limit: number): typeof NOTHING | typeof EVENT | typeof LOSS {
    const { channelCursors } = this
    // The usual case of one channel has a path of its own: there is nothing to merge.
    if (channelCursors.length === 1) {
      const cursor = channelCursors[0] as ChannelCursor
      const { log } = cursor.channel
      const from = this.after(cursor)
      if (log.floor > from) return LOSS
      if (!log.seek(from) || (limit !== Infinity && (log.page.positions[log.slot] as number) > limit)) return NOTHING
      this.next = cursor
      this.until = limit
      return EVENT
    }
    let found = NOTHING as typeof NOTHING | typeof EVENT
    let earliest = Infinity
    let second = Infinity
    for (const cursor of channelCursors) {
      const { log } = cursor.channel
      const from = this.after(cursor)
      if (log.floor > from) return LOSS
      if (log.lastPosition <= from) continue
      // An event that was found before is still there, unless a newer event has replaced it.
      if (cursor.due <= from || log.bounds.latestPerKey) {
        if (!log.seek(from)) continue
        cursor.due = log.page.positions[log.slot] as number
      }
      const at = cursor.due
      if (at < earliest) {
        second = earliest
        earliest = at
        this.next = cursor
        found = EVENT
      } else if (at < second) {
        second = at
      }
    }
    if (earliest > limit) return NOTHING
    this.until = Math.min(limit, second - 1)
    return found
  }

  /** The position up to which a channel has been dealt with. */
  protected after(cursor: ChannelCursor): number {
    return this.position > cursor.after ? this.position : cursor.after
  }

  /** The channels that have lost events after the cursor. */
  protected lost(): ChannelCursor[] {
    return this.channelCursors.filter((cursor) => cursor.channel.log.floor > this.after(cursor))
  }

  /** Gives up the events of the lost channels up to `position`. The events of the other channels stay due. */
  protected giveUp(lost: readonly ChannelCursor[], position: number): void {
    for (const cursor of lost) cursor.after = position
    if (lost.length === this.channelCursors.length) this.position = position
  }

  /** Forgets the position, so that every channel counts as lost. */
  protected forget(): void {
    for (const cursor of this.channelCursors) {
      cursor.after = -1
      cursor.due = 0
    }
    this.position = -1
  }

  /** Starts each channel at its n-th last event. */
  protected rewind(n: number): void {
    for (const cursor of this.channelCursors) cursor.after = cursor.channel.log.positionBefore(n)
    this.position = Math.min(...this.channelCursors.map(({ after }) => after))
  }
}
