import type { Backplane } from '../backplanes/backplane.ts'
import { SseError, show } from '../basics/errors.ts'
import { isThenable } from '../basics/guard.ts'
import { checkChannelName, checkEventName, checkKey, publishing } from '../basics/names.ts'
import { checkOptions } from '../basics/options.ts'
import type { TurnBudget } from '../basics/turn-budget.ts'
import type { ChannelRegistry } from '../delivery/channel-registry.ts'
import type { Pump } from '../delivery/pump.ts'
import { formatId } from '../event/event-id.ts'
import { type Serialize, toText } from '../event/event.ts'
import type { Schemas } from '../event/schemas.ts'
import type { Counters } from './counters.ts'
import { diagnostics } from './diagnostics.ts'
import type { PublishOptions } from './hub-options.ts'

/** What a hub lends to its publisher. */
export interface PublisherParts {
  readonly hub: object
  readonly backplane: Backplane
  readonly channels: ChannelRegistry
  readonly pump: Pump
  readonly budget: TurnBudget
  readonly counters: Counters
  readonly serialize: Serialize
  readonly schemas: Schemas | undefined
  /** An event was stored in this life of the log, at this position. */
  readonly onStored: (epoch: string, position: number) => void
}

const NO_OPTIONS: PublishOptions = {}

/** Checks what is published, hands it to the backplane, and makes publishers wait who are faster than those they publish to. */
export class Publisher {
  isClosed = false
  readonly #parts: PublisherParts

  constructor(parts: PublisherParts) {
    this.#parts = parts
  }

  /** See {@link Hub.publish}. */
  async publish(channel: string, event: string, data: unknown, options: PublishOptions | undefined): Promise<string> {
    checkChannelName(channel)
    checkEventName(event)
    const { key, idempotencyKey } = options === undefined ? NO_OPTIONS : this.#checkOptions(channel, options)
    const { hub, backplane, channels, schemas, serialize, counters } = this.#parts
    let payload: unknown = data
    if (schemas !== undefined) {
      payload = schemas.validate(channel, event, data)
      if (isThenable(payload)) payload = await payload
    }
    const text = toText(payload, serialize, () => publishing(channel, event))
    if (this.isClosed) throw new SseError('SSE_HUB_CLOSED', `the hub is closed: nothing can be published to ${show(channel)} any more`)
    const bounds = channels.boundsOf(channel)
    const answer = backplane.publish({ channel, event, text, isString: typeof payload === 'string', key, idempotencyKey, bounds })
    const { epoch, position, isNew } = isThenable(answer) ? await answer : answer
    const target = channels.find(channel)
    const id = target === undefined ? formatId(epoch, position, channel) : `${epoch}-${position}${target.idSuffix}`
    if (!isNew) return id
    counters.published++
    this.#parts.onStored(epoch, position)
    if (diagnostics.publish.hasSubscribers) diagnostics.publish.publish({ hub, channel, event, id })
    if (target !== undefined && target.size > 0) {
      const { budget, pump } = this.#parts
      if (budget.isSpent()) await budget.nextTurn()
      const { log } = target
      while (log.waitingBytes > log.waitingCeiling / 2 && !this.isClosed) await pump.nextRound()
    }
    return id
  }

  #checkOptions(channel: string, options: PublishOptions): PublishOptions {
    checkOptions('publish', options, ['key', 'idempotencyKey'])
    const checked = { key: checkKey('key', options.key), idempotencyKey: checkKey('idempotencyKey', options.idempotencyKey) }
    if (checked.key === undefined || this.#parts.channels.boundsOf(channel).latestPerKey) return checked
    throw new SseError('SSE_INVALID_KEY', `publish to ${show(channel)}: a key needs a channel with replay: { latestPerKey: true }, got ${show(options.key)}`)
  }
}
