import type { TimeSlice } from '../basics/time-slice.ts'
import { type Channel, type Consumer, ChannelCursor } from './channel.ts'

/** What {@link Cursor.find} found. */
export const NOTHING = 0
export const EVENT = 1
export const LOSS = 2

/**
 * A place in the logs of one or several channels, which it merges: whatever follows it, in order of position. All its
 * channels share one position; where one of them may only begin later, its member says so.
 */
export abstract class Cursor implements Consumer {
  readonly members: readonly ChannelCursor[]
  isActive = true
  /** Everything at or before it was sent, found unwanted, or given up with a reset. */
  position = 0
  /** The run that was found to come next: its channel, and the position up to which it may go. */
  protected next: ChannelCursor | null = null
  protected until = 0

  /** It follows its channels from here on: nothing may come in between, or a channel that nobody follows is forgotten. */
  constructor(channels: readonly Channel[], position: number) {
    this.members = channels.map((channel) => new ChannelCursor(channel, this))
    // A field that begins as a number is changed in place; one that begins as `undefined` costs an object for each change.
    this.position = position
    for (const member of this.members) member.channel.add(member)
  }

  abstract deliver(slice: TimeSlice | null, goal: number): boolean
  abstract restart(): void
  abstract leftLockstep(position: number): void

  get names(): string[] {
    return this.members.map(({ channel }) => channel.name)
  }

  /** The cursor is over, and follows nothing any more. */
  leave(): void {
    this.isActive = false
    for (const member of this.members) member.channel.remove(member)
  }

  /**
   * Looks for the first event after the cursor and not after `limit`. An EVENT is described by {@link next} and
   * {@link until}, and lies where the log of its channel found it.
   */
  protected find(limit: number): typeof NOTHING | typeof EVENT | typeof LOSS {
    const { members } = this
    if (members.length === 1) {
      const member = members[0] as ChannelCursor
      const { log } = member.channel
      const from = this.after(member)
      if (log.floor > from) return LOSS
      if (!log.seek(from) || (limit !== Infinity && (log.page.positions[log.slot] as number) > limit)) return NOTHING
      this.next = member
      this.until = limit
      return EVENT
    }
    let found = NOTHING as typeof NOTHING | typeof EVENT
    let earliest = Infinity
    let second = Infinity
    for (const member of members) {
      const { log } = member.channel
      const from = this.after(member)
      if (log.floor > from) return LOSS
      if (log.lastPosition <= from) continue
      // What was found before is still there, unless a newer event took its place.
      if (member.due <= from || log.bounds.latestPerKey) {
        if (!log.seek(from)) continue
        member.due = log.page.positions[log.slot] as number
      }
      const at = member.due
      if (at < earliest) {
        second = earliest
        earliest = at
        this.next = member
        found = EVENT
      } else if (at < second) {
        second = at
      }
    }
    if (earliest > limit) return NOTHING
    this.until = Math.min(limit, second - 1)
    return found
  }

  /** Up to where a channel was dealt with. */
  protected after(member: ChannelCursor): number {
    return this.position > member.after ? this.position : member.after
  }

  /** The channels of which events were lost. */
  protected lost(): ChannelCursor[] {
    return this.members.filter((member) => member.channel.log.floor > this.after(member))
  }

  /** Gives up what the lost channels had up to `position`; what the others have stays due. */
  protected giveUp(lost: readonly ChannelCursor[], position: number): void {
    for (const member of lost) member.after = position
    if (lost.length === this.members.length) this.position = position
  }

  /** Nothing is known any more of what was dealt with: every channel has a loss. */
  protected forget(): void {
    for (const member of this.members) {
      member.after = -1
      member.due = 0
    }
    this.position = -1
  }

  /** Starts each channel at its n-th last event. */
  protected rewind(n: number): void {
    for (const member of this.members) member.after = member.channel.log.positionBefore(n)
    this.position = Math.min(...this.members.map((member) => member.after))
  }
}
