import { parseId } from '../../lib/event/event-id.ts'
import { parse } from './fake-connection.ts'
import type { SimulatedEngine } from './simulated-engine.ts'

/** What is known of a channel: everything up to `position`, or of what came after that moment, from the next event on. */
interface Known {
  position: number
  /** The life that the position is of: nothing is known of another. */
  epoch: string
  isExact: boolean
}

/** A client that compares what it is given with what was published, over all its connections. */
export class Witness {
  lastEventId = ''
  resets = 0
  readonly reasons = new Set<string>()
  readonly #engine: SimulatedEngine
  readonly #channels: readonly string[]
  readonly #known = new Map<string, Known>()
  #epoch = ''
  #newestId = -1

  constructor(engine: SimulatedEngine, channels: readonly string[]) {
    this.#engine = engine
    this.#channels = channels
    for (const channel of channels) this.#known.set(channel, { position: engine.last, epoch: engine.epoch, isExact: false })
  }

  /** A connection begins. Without an id everything from now on is due. */
  begin(): void {
    this.#newestId = parseId(this.lastEventId)?.position ?? -1
    this.#epoch = parseId(this.lastEventId)?.epoch ?? ''
    if (this.lastEventId !== '') return
    for (const known of this.#known.values()) {
      Object.assign(known, { position: this.#engine.last, epoch: this.#engine.epoch, isExact: false })
    }
  }

  take(bytes: Buffer): void {
    for (const { id = '', event, data } of parse(bytes.toString())) {
      const place = parseId(id)
      if (place === undefined) throw new Error(`an event without an id: ${event} ${data}`)
      if (event === 'stream-reset') this.#reset(JSON.parse(data) as { channels: string[]; reason: string }, place.epoch)
      if (this.#epoch === '') this.#epoch = place.epoch
      if (place.epoch !== this.#epoch) throw new Error(`the epoch changed from ${this.#epoch} to ${place.epoch} without a word`)
      if (place.position < this.#newestId) throw new Error(`the id went back from ${this.#newestId} to ${place.position}`)
      this.#newestId = place.position
      this.lastEventId = id
      if (!event?.startsWith('stream-')) this.#see(decodeURIComponent(id.slice(id.indexOf('/') + 1)), place.position)
    }
  }

  /** Whether everything that was published came, or was told to be lost. */
  check(): void {
    if (this.#epoch !== this.#engine.epoch) throw new Error(`it is in the epoch ${this.#epoch}, which is over`)
    for (const [channel, known] of this.#known) {
      const missed = this.#published(channel).find(({ position }) => position > known.position)
      if (missed !== undefined) throw new Error(`${channel}: ${missed.position} never came; known up to ${known.position}`)
    }
  }

  #see(channel: string, position: number): void {
    const known = this.#known.get(channel)
    if (known === undefined) throw new Error(`an event of ${channel}, which was not asked for`)
    if (known.isExact && known.epoch === this.#epoch && position <= known.position) {
      throw new Error(`${channel}: ${position} came again, or late; known up to ${known.position}`)
    }
    const missed = this.#published(channel).find((published) => published.position > known.position && published.position < position)
    if (known.epoch === this.#epoch && missed !== undefined) {
      throw new Error(`${channel}: ${missed.position} is missing before ${position}; known up to ${known.position}`)
    }
    Object.assign(known, { position, epoch: this.#epoch, isExact: true })
  }

  #reset({ channels, reason }: { readonly channels: readonly string[]; readonly reason: string }, epoch: string): void {
    this.resets++
    this.reasons.add(reason)
    if (epoch !== this.#epoch) {
      if (this.#epoch !== '' && channels.length !== this.#channels.length) {
        throw new Error(`another epoch, and a reset of ${channels.join()} alone`)
      }
      this.#epoch = epoch
      this.#newestId = -1
    }
    // An id that nobody knows is given up.
    if (reason === 'unknown-id') this.#newestId = -1
    for (const channel of channels) {
      // What was published up to now may be lost, or come in part.
      Object.assign(this.#known.get(channel) ?? {}, { position: this.#engine.last, epoch: this.#engine.epoch, isExact: false })
    }
  }

  #published(channel: string): readonly { readonly position: number }[] {
    return (this.#engine.published.get(channel) ?? []).filter(({ epoch }) => epoch === this.#epoch)
  }
}
