import { formatId } from '../event/event-id.ts'
import { formatEvent } from '../event/event.ts'
import type { Timeline } from '../event/timeline.ts'
import { SharedBytes } from '../gzip/shared-bytes.ts'

/** Why events were lost: too old for the log, another life of the hub, a slow client, or an id that is not of this hub. */
export type ResetReason = 'expired' | 'restarted' | 'slow' | 'unknown-id'

const NOTHING = SharedBytes.of(Buffer.alloc(0))

/** The blocks by which a hub tells its subscribers where they stand. Their ids belong to no channel. */
export class ControlEvents {
  readonly #timeline: Timeline
  #epoch = ''
  #position = -1
  #positionBlock = NOTHING
  /** The last `stream-open`, and what it tells. */
  #open = { epoch: '', position: -1, channels: [] as readonly string[], replayed: 0, keepAliveMs: 0 as number | false, block: NOTHING }

  constructor(timeline: Timeline) {
    this.#timeline = timeline
  }

  /** `stream-open`: the replay is over, and the client is live from here. Those who come together are given the same bytes. */
  open(position: number, channels: readonly string[], replayed: number, keepAliveMs: number | false): SharedBytes {
    const { epoch } = this.#timeline
    const last = this.#open
    const isSame = last.position === position && last.replayed === replayed && last.keepAliveMs === keepAliveMs && last.epoch === epoch
    if (isSame && areSame(last.channels, channels)) return last.block
    const block = SharedBytes.of(this.#block('stream-open', position, JSON.stringify({ channels, replayed, keepAliveMs })), false)
    this.#open = { epoch, position, channels, replayed, keepAliveMs, block }
    return block
  }

  /** `stream-reset`: events of these channels were lost. Without a position it leaves the client's id where it is. */
  reset(position: number | undefined, channels: readonly string[], reason: ResetReason): Buffer {
    return this.#block('stream-reset', position, JSON.stringify({ channels, reason }))
  }

  /** `stream-position`: moves the client's id over events that it did not want. All who are told the same are given the same bytes. */
  position(position: number): SharedBytes {
    const { epoch } = this.#timeline
    if (position !== this.#position || epoch !== this.#epoch) {
      this.#positionBlock = SharedBytes.of(this.#block('stream-position', position, ''))
      this.#position = position
      this.#epoch = epoch
    }
    return this.#positionBlock
  }

  /** The `id:` line that begins an event. */
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
