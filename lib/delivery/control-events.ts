import { formatId } from '../event/event-id.ts'
import { formatEvent } from '../event/event.ts'
import type { Timeline } from '../event/timeline.ts'
import { SharedBytes } from '../gzip/shared-bytes.ts'

/**
 * The reason for which events were lost: `'expired'`, they were too old for the log; `'restarted'`, the log has begun a new epoch;
 * `'slow'`, the client read too slowly; `'unknown-id'`, the client's id is not one of this hub.
 */
export type ResetReason = 'expired' | 'restarted' | 'slow' | 'unknown-id'

const NOTHING = SharedBytes.of(Buffer.alloc(0))

/** Encodes the hub's own events: `stream-open`, `stream-reset` and `stream-position`. Their ids name no channel. */
export class ControlEvents {
  readonly #timeline: Timeline
  #epoch = ''
  #position = -1
  #positionBlock = NOTHING
  /** The last `stream-open`, and what it was made of. */
  #open = { epoch: '', position: -1, channels: [] as readonly string[], replayed: 0, keepAliveMs: 0 as number | false, block: NOTHING }

  constructor(timeline: Timeline) {
    this.#timeline = timeline
  }

  /** `stream-open`: the replay is complete, and the client is live. Clients that connect at the same time share the bytes. */
  open(position: number, channels: readonly string[], replayed: number, keepAliveMs: number | false): SharedBytes {
    const { epoch } = this.#timeline
    const last = this.#open
    const isSame = last.position === position && last.replayed === replayed && last.keepAliveMs === keepAliveMs && last.epoch === epoch
    if (isSame && areSame(last.channels, channels)) return last.block
    const block = SharedBytes.of(this.#block('stream-open', position, JSON.stringify({ channels, replayed, keepAliveMs })), false)
    this.#open = { epoch, position, channels, replayed, keepAliveMs, block }
    return block
  }

  /** `stream-reset`: events of these channels were lost. Without a position it leaves the client's id as it is. */
  reset(position: number | undefined, channels: readonly string[], reason: ResetReason): Buffer {
    return this.#block('stream-reset', position, JSON.stringify({ channels, reason }))
  }

  /** `stream-position`: moves the client's id past events that it did not want. Clients at the same position share the bytes. */
  position(position: number): SharedBytes {
    const { epoch } = this.#timeline
    if (position !== this.#position || epoch !== this.#epoch) {
      this.#positionBlock = SharedBytes.of(this.#block('stream-position', position, ''))
      this.#position = position
      this.#epoch = epoch
    }
    return this.#positionBlock
  }

  /** The `id:` line that a snapshot begins with. */
  id(position: number): Buffer {
    return Buffer.from(`id: ${formatId(this.#timeline.epoch, position)}\n`)
  }

  #block(event: string, position: number | undefined, text: string): Buffer {
    return Buffer.from(formatEvent(text, { event, id: position === undefined ? undefined : formatId(this.#timeline.epoch, position) }))
  }
}

function areSame(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((name, index) => name === others[index])
}
