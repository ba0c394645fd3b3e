import type { Socket } from 'node:net'
import { type Slice, unitsFor } from '../basics/slice.ts'
import type { Slotted } from '../basics/swap-list.ts'
import type { SharedBytes } from '../gzip/shared-bytes.ts'
import type { Chunk } from '../log/log-page.ts'
import type { ReplayLog } from '../log/replay-log.ts'
import { MAX_WRITE_BYTES } from '../stream/output.ts'

/** Where the bytes of a follower that keeps step go. */
export interface Taker {
  /** Whether it takes nothing now. */
  readonly full: boolean
  /** Whether a write calls nothing of the program's. */
  readonly isDirect: boolean
  /** Whether a chunk must not go beyond the segment of its page in which it begins. */
  readonly isGzip: boolean
  /** The socket that takes bytes as they are; `null` where others are made of them. */
  readonly socket: Socket | null
  write(shared: SharedBytes): void
  /** Bytes that were written to its socket have stayed there. */
  block(): void
}

/**
 * The members of a channel that keep step: they stand at one place of its log, have one cursor together, and are given
 * what follows it one after the other. Of each no more is touched than where its bytes go.
 *
 * A sweep gives one chunk to all; it may last for several turns. Whoever leaves meanwhile is told where it stands.
 */
export class Cohort<T extends Slotted> {
  readonly #members: T[] = []
  readonly #takers: Taker[] = []
  readonly #sockets: (Socket | null)[] = []
  #gzips = 0
  /** Everything up to here was given to all of them. */
  #position = 0
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
  add(member: T, taker: Taker, position: number): void {
    this.#position = position
    member.slot = this.#members.length
    this.#members.push(member)
    this.#takers.push(taker)
    this.#sockets.push(taker.socket)
    if (taker.isGzip) this.#gzips++
  }

  /** Up to where a member was given everything. */
  positionOf(member: T): number {
    return this.#chunk !== null && member.slot < this.#at ? this.#chunk.position : this.#position
  }

  /** Lets a member go. */
  remove(member: T): void {
    const { slot } = member
    if (this.#takers[slot]?.isGzip) this.#gzips--
    member.slot = -1
    // Nobody may come from the side that the sweep was at to the one where it was not.
    const hole = slot < this.#at ? --this.#at : slot
    if (hole !== slot) this.#move(hole, slot)
    const last = this.#members.length - 1
    if (last !== hole) this.#move(last, hole)
    this.#members.pop()
    this.#takers.pop()
    this.#sockets.pop()
    if (last === 0) this.#endSweep()
  }

  /**
   * Gives everybody what follows in the log, at least up to the position `goal`. Who is full is handed to `onFull`, which
   * must remove it, and so is everybody where the log does not have any more what follows.
   *
   * @returns `false` when the slice was over before that.
   */
  sweep(log: ReplayLog, goal: number, slice: Slice, counters: { delivered: number }, onFull: (member: T) => void): boolean {
    while (this.#chunk !== null || this.#begin(log, goal, onFull)) {
      const chunk = this.#chunk as Chunk
      while (this.#at < this.#members.length) {
        const at = this.#at
        const member = this.#members[at] as T
        if (this.#isFull(at)) {
          onFull(member)
        } else {
          this.#at = at + 1
          counters.delivered += chunk.count
          if (!this.#give(at, chunk)) onFull(member)
        }
        if (slice.spend(unitsFor(chunk.bytes.length))) return false
      }
      this.#endSweep()
    }
    return true
  }

  /** Whether somebody has left, or was sent something else that has stayed where it is. */
  #isFull(at: number): boolean {
    const socket = this.#sockets[at] as Socket | null
    return socket === null ? (this.#takers[at] as Taker).full : !socket.writable || socket.writableLength > 0
  }

  /** Gives somebody the chunk; `false` when it takes no more. */
  #give(at: number, chunk: Chunk): boolean {
    const socket = this.#sockets[at] as Socket | null
    if (socket !== null && chunk.bytes.length <= MAX_WRITE_BYTES) {
      // A write over the high-water mark says false even when the kernel took all of it.
      if (socket.write(chunk.bytes) || socket.writableLength === 0) return true
      ;(this.#takers[at] as Taker).block()
      return false
    }
    const taker = this.#takers[at] as Taker
    taker.write(chunk)
    return !taker.full
  }

  /** Hands everybody to `onLeave`, which must remove it. */
  disband(onLeave: (member: T) => void): void {
    for (let last = this.#members.at(-1); last !== undefined; last = this.#members.at(-1)) onLeave(last)
  }

  /** Begins a sweep, where something follows. */
  #begin(log: ReplayLog, goal: number, onFull: (member: T) => void): boolean {
    if (this.#members.length === 0) return false
    // A loss is told though nothing follows it.
    if (log.floor > this.#position) {
      this.disband(onFull)
      return false
    }
    if (this.#position >= goal || !log.seek(this.#position)) return false
    const { page, slot } = log
    const end = page.endOf(slot, Infinity)
    this.#chunk = page.chunk(slot, this.#gzips > 0 ? page.segmentEnd(slot, end) : end)
    return true
  }

  #endSweep(): void {
    if (this.#chunk === null) return
    this.#position = this.#chunk.position
    this.#chunk = null
    this.#at = 0
  }

  #move(from: number, to: number): void {
    const member = this.#members[from] as T
    this.#members[to] = member
    this.#takers[to] = this.#takers[from] as Taker
    this.#sockets[to] = this.#sockets[from] as Socket | null
    member.slot = to
  }
}
