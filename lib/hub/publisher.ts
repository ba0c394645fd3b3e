import type { Published } from '../backplanes/backplane.ts'
import { SseError, describeValue, publishPrefix } from '../basics/errors.ts'
import { checkChannelName, checkEventName, checkKey } from '../basics/names.ts'
import { isThenable } from '../basics/promises.ts'
import { checkOptions } from '../basics/options.ts'
import type { Channel } from '../delivery/channel.ts'
import { formatId } from '../event/event-id.ts'
import { toText } from '../event/event.ts'
import type { HubContext } from './hub-context.ts'
import type { PublishOptions } from './hub-options.ts'
import type { HubSettings } from './hub-settings.ts'
import type { SetupWarnings } from './setup-warnings.ts'

const NO_OPTIONS: PublishOptions = {}

/** Checks what is published, passes it to the backplane, and slows down publishers that are faster than the delivery. */
export class Publisher {
  isClosed = false
  readonly #settings: HubSettings
  readonly #context: HubContext
  readonly #warnings: SetupWarnings

  constructor(settings: HubSettings, context: HubContext, warnings: SetupWarnings) {
    this.#settings = settings
    this.#context = context
    this.#warnings = warnings
  }

  /** See {@link Hub.publish}. It returns the id at once, rather than a promise, if nothing has to be waited for. */
  publish(channel: string, event: string, data: unknown, options: PublishOptions | undefined): string | Promise<string> {
    checkChannelName('publish', channel)
    if (typeof event !== 'string') {
      throw new SseError(
        'SSE_INVALID_EVENT',
        `publish: the second argument must be the name of the event: publish(channel, event, data), got ${describeValue(event)}`,
      )
    }
    checkEventName('publish', event)
    const { channels } = this.#context.engine
    const checked = options === undefined ? NO_OPTIONS : this.#checkOptions(channel, options)
    if (channels.find(channel) === undefined) this.#warnings.checkName('channel', channel)
    const { schemas } = this.#settings
    if (schemas === undefined) return this.#store(channel, event, data, checked)
    const payload = schemas.validate(channel, event, data)
    if (!isThenable(payload)) return this.#store(channel, event, payload, checked)
    return Promise.resolve(payload).then((valid) => this.#store(channel, event, valid, checked))
  }

  #store(channel: string, event: string, payload: unknown, { key, idempotencyKey }: PublishOptions): string | Promise<string> {
    const { backplane, serialize } = this.#settings
    const text = toText(payload, serialize, () => publishPrefix(channel, event))
    if (this.isClosed) {
      throw new SseError('SSE_HUB_CLOSED', `publish: the hub is closed, so nothing can be published to ${describeValue(channel)}`)
    }
    const bounds = this.#context.engine.channels.boundsOf(channel)
    const answer = backplane.publish({ channel, event, text, isString: typeof payload === 'string', key, idempotencyKey, bounds })
    return isThenable(answer)
      ? Promise.resolve(answer).then((published) => this.#stored(channel, event, published))
      : this.#stored(channel, event, answer)
  }

  #stored(channel: string, event: string, { epoch, position, isNew }: Published): string | Promise<string> {
    const { engine, logs, telemetry, budget } = this.#context
    const target = engine.channels.find(channel)
    const id = target === undefined ? formatId(epoch, position, channel) : `${epoch}-${position}${target.idSuffix}`
    if (!isNew) return id
    logs.stored(epoch, position)
    telemetry.published(channel, event, id)
    if (target === undefined || target.consumerCount === 0) return id
    return budget.isSpent() || isBehind(target) ? this.#slowDown(target, id) : id
  }

  /** Waits until the delivery has caught up. */
  async #slowDown(target: Channel, id: string): Promise<string> {
    const { budget, engine } = this.#context
    if (budget.isSpent()) await budget.nextTurn()
    while (isBehind(target) && !this.isClosed) await engine.pump.nextRound()
    return id
  }

  #checkOptions(channel: string, options: PublishOptions): PublishOptions {
    checkOptions('publish', options, ['key', 'idempotencyKey'])
    const checked = {
      key: checkKey('publish: key', options.key),
      idempotencyKey: checkKey('publish: idempotencyKey', options.idempotencyKey),
    }
    if (checked.key === undefined || this.#context.engine.channels.boundsOf(channel).latestPerKey) return checked
    throw new SseError(
      'SSE_INVALID_KEY',
      `publish to ${describeValue(channel)}: a key needs a channel with replay: { latestPerKey: true }, got ${describeValue(options.key)}`,
    )
  }
}

/** Whether publishers must wait: the bytes that wait to be delivered are over half of their limit. */
function isBehind({ log }: Channel): boolean {
  return log.waitingBytes > log.waitingCeiling / 2
}
