import type { Backplane } from '../backplanes/backplane.ts'
import { MemoryBackplane } from '../backplanes/memory.ts'
import { describeValue } from '../basics/errors.ts'
import { safeOnError, warn } from '../basics/on-error.ts'
import { checkFunction, checkInteger, checkOptions } from '../basics/options.ts'
import type { DeliverySettings } from '../delivery/delivery-engine.ts'
import { type HubSchemas, Schemas } from '../event/schemas.ts'
import { type ReplayBounds, replayBounds } from '../log/replay-options.ts'
import type { HubOptions, SchemaHubOptions } from './hub-options.ts'

/** The most streams that may be subscribed; `Infinity` for no limit. */
export interface SubscriberLimits {
  readonly maxSubscribers: number
  readonly maxPerOwner: number
  /** Whether a stream past an owner's limit replaces the owner's oldest stream instead of being refused. */
  readonly closesOldest: boolean
}

/** {@link HubOptions} that have been checked. */
export interface HubSettings extends DeliverySettings {
  readonly backplane: Backplane
  /** Whether the program passed the backplane. */
  readonly hasBackplane: boolean
  readonly schemas: Schemas | undefined
  readonly limits: SubscriberLimits
}

/**
 * Checks the options of a hub and fills in their defaults.
 *
 * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
 */
export function hubSettings(options: HubOptions | SchemaHubOptions<HubSchemas>): HubSettings {
  checkOptions('Hub', options, [
    'replay',
    'maxTotalBytes',
    'schemas',
    'maxSubscribers',
    'maxSubscribersPerOwner',
    'serialize',
    'deserialize',
    'backplane',
    'onError',
  ])
  const { backplane = new MemoryBackplane() } = options
  const settings = {
    boundsOf: boundsFrom(options.replay),
    serialize: checkFunction('Hub: serialize', options.serialize, JSON.stringify),
    deserialize: checkFunction('Hub: deserialize', options.deserialize, JSON.parse),
    schemas: 'schemas' in options && options.schemas !== undefined ? new Schemas(options.schemas) : undefined,
    onError: safeOnError(checkFunction('Hub: onError', options.onError, warn)),
    maxTotalBytes: checkInteger('Hub: maxTotalBytes', options.maxTotalBytes, 268_435_456, { min: 0 }),
    limits: limitsFrom(options),
  }
  if (!isBackplane(backplane)) {
    throw new TypeError(`Hub: backplane must be a Backplane, such as new RedisBackplane({ url }), got ${describeValue(backplane)}`)
  }
  return { ...settings, backplane, hasBackplane: options.backplane !== undefined }
}

function boundsFrom(replay: HubOptions['replay']): (channel: string) => ReplayBounds {
  if (typeof replay === 'function') return (channel) => replayBounds(`Hub: replay(${describeValue(channel)})`, replay(channel))
  const bounds = replayBounds('Hub: replay', replay)
  return () => bounds
}

function limitsFrom({ maxSubscribers, maxSubscribersPerOwner: limit }: HubOptions): SubscriberLimits {
  if (typeof limit === 'object') checkOptions('Hub: maxSubscribersPerOwner', limit, ['max', 'whenFull'])
  const { max, whenFull = 'refuse' }: { max?: unknown; whenFull?: unknown } = typeof limit === 'object' ? limit : { max: limit }
  if (whenFull !== 'refuse' && whenFull !== 'close-oldest') {
    throw new TypeError(`Hub: maxSubscribersPerOwner.whenFull must be 'refuse' or 'close-oldest', got ${describeValue(whenFull)}`)
  }
  return {
    maxSubscribers: checkLimit('Hub: maxSubscribers', maxSubscribers),
    maxPerOwner: checkLimit('Hub: maxSubscribersPerOwner', max),
    closesOldest: whenFull === 'close-oldest',
  }
}

function checkLimit(name: string, value: unknown): number {
  return value === false ? Infinity : checkInteger(name, value, Infinity, { min: 1, orFalse: true })
}

function isBackplane(value: unknown): value is Backplane {
  return typeof value === 'object' && value !== null && 'open' in value && typeof value.open === 'function' && 'log' in value
}
