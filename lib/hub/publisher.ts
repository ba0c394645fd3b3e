import type { Backplane, Published } from '../backplanes/backplane.ts'
import { SseError, describeValue, publishPrefix } from '../basics/errors.ts'
import { isThenable } from '../basics/promises.ts'
import { checkChannelName, checkEventName, checkKey } from '../basics/names.ts'
import { checkOptions } from '../basics/options.ts'
import type { TurnBudget } from '../basics/turn-budget.ts'
import type { Channel } from '../delivery/channel.ts'
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
  /** A channel is published to that is not known here. */
  readonly onNewName: (channel: string) => void
}

const NO_OPTIONS: PublishOptions = {}

/** Checks what is published, hands it to the backplane, and makes publishers wait who are faster than those they publish to. */
export class Publisher {
  isClosed = false
  readonly #parts: PublisherParts

  constructor(parts: PublisherParts) {
    this.#parts = parts
  }

  /** See {@link Hub.publish}. It answers at once where nothing has to be waited for. */
  publish(channel: string, event: string, data: unknown, options: PublishOptions | undefined): string | Promise<string> {
    checkChannelName('publish', channel)
    if (typeof event !== 'string') {
      throw new SseError(
        'SSE_INVALID_EVENT',
        `publish: the second argument must be the name of the event: publish(channel, event, data), got ${describeValue(event)}`,
      )
    }
    checkEventName('publish', event)
    const checked = options === undefined ? NO_OPTIONS : this.#checkOptions(channel, options)
    const { schemas, channels, onNewName } = this.#parts
    if (channels.find(channel) === undefined) onNewName(channel)
    if (schemas === undefined) return this.#store(channel, event, data, checked)
    const payload = schemas.validate(channel, event, data)
    if (!isThenable(payload)) return this.#store(channel, event, payload, checked)
    return Promise.resolve(payload).then((valid) => this.#store(channel, event, valid, checked))
  }

  #store(channel: string, event: string, payload: unknown, { key, idempotencyKey }: PublishOptions): string | Promise<string> {
    const { backplane, channels, serialize } = this.#parts
    const text = toText(payload, serialize, () => publishPrefix(channel, event))
    if (this.isClosed) {
      throw new SseError('SSE_HUB_CLOSED', `publish: the hub is closed, so nothing can be published to ${describeValue(channel)}`)
    }
    const bounds = channels.boundsOf(channel)
    const answer = backplane.publish({ channel, event, text, isString: typeof payload === 'string', key, idempotencyKey, bounds })
    return isThenable(answer)
      ? Promise.resolve(answer).then((published) => this.#stored(channel, event, published))
      : this.#stored(channel, event, answer)
  }

  #stored(channel: string, event: string, { epoch, position, isNew }: Published): string | Promise<string> {
    const { hub, channels, counters, onStored, budget } = this.#parts
    const target = channels.find(channel)
    const id = target === undefined ? formatId(epoch, position, channel) : `${epoch}-${position}${target.idSuffix}`
    if (!isNew) return id
    counters.published++
    onStored(epoch, position)
    if (diagnostics.publish.hasSubscribers) diagnostics.publish.publish({ hub, channel, event, id })
    if (target === undefined || target.size === 0) return id
    return budget.isSpent() || isBehind(target) ? this.#slowDown(target, id) : id
  }

  /** Lets the delivery catch up with a publisher that is faster. */
  async #slowDown(target: Channel, id: string): Promise<string> {
    const { budget, pump } = this.#parts
    if (budget.isSpent()) await budget.nextTurn()
    while (isBehind(target) && !this.isClosed) await pump.nextRound()
    return id
  }

  #checkOptions(channel: string, options: PublishOptions): PublishOptions {
    checkOptions('publish', options, ['key', 'idempotencyKey'])
    const checked = {
      key: checkKey('publish: key', options.key),
      idempotencyKey: checkKey('publish: idempotencyKey', options.idempotencyKey),
    }
    if (checked.key === undefined || this.#parts.channels.boundsOf(channel).latestPerKey) return checked
    throw new SseError(
      'SSE_INVALID_KEY',
      `publish to ${describeValue(channel)}: a key needs a channel with replay: { latestPerKey: true }, got ${describeValue(options.key)}`,
    )
  }
}

/** Whether so much waits to be delivered that publishers have to wait too. */
function isBehind({ log }: Channel): boolean {
  return log.waitingBytes > log.waitingCeiling / 2
}
