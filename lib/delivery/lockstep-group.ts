import type { Socket } from 'node:net'
import { SwapList, type Indexed } from '../basics/swap-list.ts'
import { type TimeSlice, unitsFor } from '../basics/time-slice.ts'
import { type GroupMembership, RunningCrc } from '../gzip/gzip-body.ts'
import type { Chunk } from '../log/log-page.ts'
import type { ReplayLog } from '../log/replay-log.ts'
import { type DirectWriter, MAX_WRITE_BYTES, writeToSocket } from './direct-writer.ts'

/** Value of {@link LockstepMember.window} for a member that takes the bytes as they are, without compression. */
const UNCOMPRESSED = -1

/** A cursor that can be in a lockstep group. The group alone changes these fields. */
export interface LockstepMember extends Indexed, GroupMembership {
  writer: DirectWriter | null
  /** The writer's socket and framing, copied so that a delivery touches neither the writer nor the stream. */
  socket: Socket | null
  isFramed: boolean
  /** Position of the oldest event that the member's gzip blocks may refer to. */
  window: number
  /** Number of the last sweep in which the member was visited. */
  sweep: number
}

/**
 * The cursors of one channel that are at the same position of its log and receive the same chunks.
 *
 * A sweep delivers one chunk to every member and may take several turns of the event loop. This loop exists beside
 * `Subscriber.deliver` because it serves most deliveries of a busy hub: for each member it touches one small object and the
 * socket, and it neither searches the log nor calls the subscriber.
 */
export class LockstepGroup<T extends LockstepMember> {
  readonly #members = new SwapList<T>()
  /** The number of members that take gzip. */
  #gzips = 0
  /** Every member has received everything up to this position, apart from the chunk of the sweep in progress. */
  #position = 0
  /** Checksum of everything that was sent up to {@link #position} since the first gzip member joined. */
  #crc = new RunningCrc()
  /** The chunk of the sweep in progress, the number of that sweep, and the index of the member to visit next. */
  #chunk: Chunk | null = null
  #sweep = 0
  #at = -1

  get size(): number {
    return this.#members.size
  }

  /** Whether a cursor that has everything up to `position` can join now. */
  admits(position: number): boolean {
    return this.#members.size === 0 || (this.#position === position && this.#chunk === null)
  }

  /** Adds a cursor at a position that the group {@link admits}. */
  add(member: T, socket: Socket, writer: DirectWriter, position: number): void {
    const { gzip, isFramed } = writer
    this.#position = position
    member.writer = writer
    member.socket = socket
    member.isFramed = isFramed
    member.window = gzip === null ? UNCOMPRESSED : gzip.join(member, this.#crc, position)
    if (gzip !== null) this.#gzips++
    this.#members.add(member)
  }

  /** The position up to which a member has received everything. */
  positionOf(member: T): number {
    return this.#hasChunk(member) ? (this.#chunk as Chunk).position : this.#position
  }

  remove(member: T): void {
    const gzip = member.writer?.gzip ?? null
    if (gzip !== null) {
      this.#gzips--
      gzip.leave(this.#hasChunk(member) ? this.#crc.after(this.#chunk as Chunk) : this.#crc, this.positionOf(member))
    }
    this.#members.remove(member)
    member.writer = member.socket = null
    if (this.#members.size === 0) this.#endSweep()
  }

  /**
   * Delivers the events that are due to every member, at least up to the position `goal`.
   *
   * A member that cannot take the chunk is passed to `onLeave`, which must remove it. If the log has lost events that are due, or if
   * the next event is too large for one write, the group passes all members to `onLeave`, and each continues alone.
   *
   * @returns `false` if the time slice ended before the position `goal`.
   */
  sweep(log: ReplayLog, goal: number, slice: TimeSlice, counters: { delivered: number }, onLeave: (member: T) => void): boolean {
    const { items } = this.#members
    for (;;) {
      const chunk = (this.#chunk ??= this.#beginSweep(log, goal, onLeave))
      if (chunk === null) return true
      const { framed, count } = chunk
      const units = unitsFor(framed.length)
      while (this.#at >= 0) {
        const member = items[this.#at]
        this.#at--
        // A removal shortens the list, and may move a member that was visited to a lower index.
        if (member === undefined || member.sweep === this.#sweep) continue
        const socket = member.socket as Socket
        // The client has left, or earlier bytes are still in the socket's buffer.
        if (!socket.writable || socket.writableLength > 0) {
          onLeave(member)
        } else {
          member.sweep = this.#sweep
          counters.delivered += count
          const block = member.window === UNCOMPRESSED ? chunk : chunk.deflatedSince(member.window)
          if (!writeToSocket(socket, member.isFramed ? block.framed : block.bytes)) {
            member.writer?.block()
            onLeave(member)
          }
        }
        if (slice.spend(units)) return false
      }
      this.#endSweep()
    }
  }

  /** Passes every member to `onLeave`, which must remove it. */
  disband(onLeave: (member: T) => void): void {
    for (let last = this.#members.items.at(-1); last !== undefined; last = this.#members.items.at(-1)) onLeave(last)
  }

  /** Finds the next chunk, if an event is due at or before the position `goal`. */
  #beginSweep(log: ReplayLog, goal: number, onLeave: (member: T) => void): Chunk | null {
    if (this.#members.size === 0) return null
    const hasMore = this.#position < goal && log.seek(this.#position)
    // A loss must be reported to each client, even if no event follows it.
    if (log.floor > this.#position || (hasMore && log.page.framedLengthOf(log.slot) > MAX_WRITE_BYTES)) {
      this.disband(onLeave)
      return null
    }
    if (!hasMore) return null
    this.#sweep++
    this.#at = this.#members.size - 1
    const { page, slot } = log
    const end = page.endOf(slot, Infinity)
    return page.chunk(slot, this.#gzips > 0 ? page.segmentEnd(slot, end) : end)
  }

  #endSweep(): void {
    if (this.#chunk === null) return
    if (this.#gzips > 0) this.#crc = this.#crc.after(this.#chunk)
    this.#position = this.#chunk.position
    this.#chunk = null
    this.#at = -1
  }

  /** Whether a member has received the chunk of the sweep in progress. */
  #hasChunk(member: T): boolean {
    return this.#chunk !== null && member.sweep === this.#sweep
  }
}
