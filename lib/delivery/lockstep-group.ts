import type { Socket } from 'node:net'
import { type TimeSlice, unitsFor } from '../basics/time-slice.ts'
import type { Indexed } from '../basics/swap-list.ts'
import { type GroupMembership, type GzipBody, RunningCrc } from '../gzip/gzip-body.ts'
import type { Chunk } from '../log/log-page.ts'
import type { ReplayLog } from '../log/replay-log.ts'
import { MAX_WRITE_BYTES, writeAll } from '../stream/output.ts'

/** Where the bytes of a consumer that may keep step go. */
export interface DirectWriter {
  /** Whether it takes nothing now. */
  readonly full: boolean
  /** The socket that takes them; `null` where writing may call something of the program's. */
  readonly socket: Socket | null
  /** Whether its socket takes bytes that are framed as chunks. */
  readonly isFramed: boolean
  /** What makes a gzip stream of them. */
  readonly gzip: GzipBody | null
  /** Bytes that were written to its socket have stayed there. */
  block(): void
}

/** In place of the position from which on blocks may refer to events: there are no blocks, but the bytes as they are. */
const PLAIN = -1

/**
 * The members of a channel that keep step: they stand at one place of its log, have one cursor together, and are given
 * what follows it one after the other. Of each no more is touched than its socket.
 *
 * A sweep gives one chunk to all; it may last for several turns. Whoever leaves meanwhile is told where it stands.
 */
export class LockstepGroup<T extends Indexed & GroupMembership> {
  readonly #members: T[] = []
  readonly #writers: DirectWriter[] = []
  readonly #sockets: Socket[] = []
  /** The position from which on the blocks that each is given may refer to events, or {@link PLAIN}. */
  readonly #windows: number[] = []
  readonly #areFramed: boolean[] = []
  #gzips = 0
  /** Everything up to here was given to all of them, which is what is counted where some take gzip. */
  #position = 0
  #tally = new RunningCrc()
  /** What the sweep in progress gives, and whom it comes to next: in the order in which they joined, as memory is read best. */
  #chunk: Chunk | null = null
  #at = 0

  get size(): number {
    return this.#members.length
  }

  /** Whether all of them have what somebody has who has everything up to `position`. */
  admits(position: number): boolean {
    return this.#members.length === 0 || this.#position === position
  }

  /** Takes in a member at a position that it {@link admits}. */
  add(member: T, socket: Socket, directWriter: DirectWriter, position: number): void {
    const { gzip } = directWriter
    this.#position = position
    member.index = this.#members.length
    this.#members.push(member)
    this.#writers.push(directWriter)
    this.#sockets.push(socket)
    this.#windows.push(gzip === null ? PLAIN : gzip.join(member, this.#tally, position))
    this.#areFramed.push(directWriter.isFramed)
    if (gzip !== null) this.#gzips++
  }

  /** Up to where a member was given everything. */
  positionOf(member: T): number {
    return this.#hasChunk(member) ? (this.#chunk as Chunk).position : this.#position
  }

  /** Lets a member go. */
  remove(member: T): void {
    const { index } = member
    const gzip = (this.#writers[index] as DirectWriter).gzip
    if (gzip !== null) {
      this.#gzips--
      gzip.leave(this.#hasChunk(member) ? this.#tally.after(this.#chunk as Chunk) : this.#tally, this.positionOf(member))
    }
    member.index = -1
    // Nobody may come from the side that the sweep was at to the one where it was not.
    const hole = index < this.#at ? --this.#at : index
    if (hole !== index) this.#move(hole, index)
    const last = this.#members.length - 1
    if (last !== hole) this.#move(last, hole)
    this.#members.pop()
    this.#writers.pop()
    this.#sockets.pop()
    this.#windows.pop()
    this.#areFramed.pop()
    if (last === 0) this.#endSweep()
  }

  /**
   * Gives everybody what follows in the log, at least up to the position `goal`. Who is full is handed to `onLeave`,
   * which must remove it, and so is everybody where the log does not have any more what follows, or that is too large.
   *
   * @returns `false` when the slice was over before that.
   */
  sweep(log: ReplayLog, goal: number, slice: TimeSlice, counters: { delivered: number }, onLeave: (member: T) => void): boolean {
    for (;;) {
      const chunk = (this.#chunk ??= this.#next(log, goal, onLeave))
      if (chunk === null) return true
      const { framed, count } = chunk
      const units = unitsFor(framed.length)
      while (this.#at < this.#members.length) {
        const at = this.#at
        const socket = this.#sockets[at] as Socket
        const window = this.#windows[at] as number
        // Somebody who has left, or was sent something else that has stayed where it is, is given nothing.
        if (!socket.writable || socket.writableLength > 0) {
          onLeave(this.#members[at] as T)
        } else {
          this.#at = at + 1
          counters.delivered += count
          const block = window === PLAIN ? chunk : chunk.deflatedSince(window)
          if (!writeAll(socket, this.#areFramed[at] ? block.framed : block.bytes)) this.#blocked(at, onLeave)
        }
        if (slice.spend(units)) return false
      }
      this.#endSweep()
    }
  }

  /** Hands everybody to `onLeave`, which must remove it. */
  disband(onLeave: (member: T) => void): void {
    for (let last = this.#members.at(-1); last !== undefined; last = this.#members.at(-1)) onLeave(last)
  }

  /** The chunk that follows, if any does up to the position `goal`. */
  #next(log: ReplayLog, goal: number, onLeave: (member: T) => void): Chunk | null {
    if (this.#members.length === 0) return null
    const hasMore = this.#position < goal && log.seek(this.#position)
    // A loss is told though nothing follows it, and what does not go out in one write is given to each by itself.
    if (log.floor > this.#position || (hasMore && log.page.framedLengthOf(log.slot) > MAX_WRITE_BYTES)) {
      this.disband(onLeave)
      return null
    }
    if (!hasMore) return null
    const { page, slot } = log
    const end = page.endOf(slot, Infinity)
    return page.chunk(slot, this.#gzips > 0 ? page.segmentEnd(slot, end) : end)
  }

  #blocked(at: number, onLeave: (member: T) => void): void {
    ;(this.#writers[at] as DirectWriter).block()
    onLeave(this.#members[at] as T)
  }

  #endSweep(): void {
    if (this.#chunk === null) return
    if (this.#gzips > 0) this.#tally = this.#tally.after(this.#chunk)
    this.#position = this.#chunk.position
    this.#chunk = null
    this.#at = 0
  }

  /** Whether the sweep in progress has come to a member. */
  #hasChunk(member: T): boolean {
    return this.#chunk !== null && member.index < this.#at
  }

  #move(from: number, to: number): void {
    const member = this.#members[from] as T
    this.#members[to] = member
    this.#writers[to] = this.#writers[from] as DirectWriter
    this.#sockets[to] = this.#sockets[from] as Socket
    this.#windows[to] = this.#windows[from] as number
    this.#areFramed[to] = this.#areFramed[from] as boolean
    member.index = to
  }
}
