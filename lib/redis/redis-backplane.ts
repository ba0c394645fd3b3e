import type {
  Acquired,
  Backplane,
  BackplaneHost,
  BackplaneLog,
  ChannelPosition,
  History,
  Publication,
  Published,
  Refused,
} from '../backplanes/backplane.ts'
import type { SseError } from '../basics/errors.ts'
import { makeEpoch } from '../event/timeline.ts'
import { ChannelSubscriptions } from './channel-subscriptions.ts'
import { ControlMessages } from './control-messages.ts'
import { baseName, names } from './key-schema.ts'
import { OwnerCounts } from './owner-counts.ts'
import { makeClient } from './redis-connection.ts'
import { RedisLink } from './redis-link.ts'
import { type RedisBackplaneOptions, type RedisConnection, redisSettings, type RedisSettings } from './redis-options.ts'
import { ScriptCalls } from './script-calls.ts'
import { parseStoredEvent } from './stored-event.ts'

/**
 * Carries the events of a hub over Redis 7: any process can publish and any can deliver, and a client may reconnect to another
 * process than before.
 *
 * It makes two connections of its own, which reconnect by themselves. Everything that it stores expires, except one hash.
 *
 * @example
 * const hub = new Hub<Channels>({ backplane: new RedisBackplane({ url: 'redis://127.0.0.1:6379' }) })
 */
export class RedisBackplane implements Backplane, BackplaneLog {
  readonly timeoutMs: number
  readonly probeMs: number
  readonly processId = makeEpoch()
  readonly #base: string
  /** Commands use one connection, pub/sub the other: Redis accepts no other commands on a connection that subscribes. */
  readonly #commands: RedisLink
  readonly #subscriber: RedisLink
  readonly #calls: ScriptCalls
  readonly #subscriptions: ChannelSubscriptions
  readonly #ownerCounts: OwnerCounts
  readonly #controlMessages: ControlMessages
  readonly #controlChannel: string
  #host: BackplaneHost | null = null
  #isOutageReported = false
  #isClosed = false

  /** @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range. */
  constructor(connection: RedisConnection, options: RedisBackplaneOptions = {}) {
    const settings = this.settings(options)
    const { prefix, timeoutMs, probeMs } = settings
    const { redis, keyPrefix } = makeClient(connection, timeoutMs)
    this.timeoutMs = timeoutMs
    this.probeMs = probeMs
    this.#base = baseName(prefix, keyPrefix, redis.options.db ?? 0)
    this.#commands = new RedisLink(redis, timeoutMs)
    this.#subscriber = new RedisLink(redis.duplicate(), timeoutMs)
    this.#calls = new ScriptCalls(this.#commands, this.#base, this.processId, settings)
    this.#subscriptions = new ChannelSubscriptions(this.#subscriber, this.#base, this.processId)
    this.#ownerCounts = new OwnerCounts(this.#commands, this.#calls)
    this.#controlMessages = new ControlMessages(this.#commands, this.#base, this.#calls, this.#ownerCounts)
    this.#controlChannel = names.controlMessages(this.#base)
  }

  /**
   * The settings for the options. Specs override it to control the clock of the scripts and the sweeps.
   *
   * @internal
   */
  protected settings(options: RedisBackplaneOptions): RedisSettings {
    return redisSettings(options)
  }

  get log(): BackplaneLog {
    return this
  }

  open(host: BackplaneHost): null {
    if (this.#host !== null || this.#isClosed) {
      throw new Error('RedisBackplane: a backplane belongs to one hub, which closes it; make another one')
    }
    this.#host = host
    this.#controlMessages.open(host)
    const onError = (error: SseError): void => this.#reportOutage(error)
    this.#commands.connect({
      prepare: (redis) => this.#calls.prepare(redis),
      onReady: () => {
        void this.#ownerCounts.assertDoubtful()
        this.#endOutage()
      },
      onLost() {},
      onError,
    })
    let refused: Refused = new Map()
    this.#subscriber.connect({
      prepare: async (redis) => void (refused = await this.#subscriptions.restore(redis)),
      onReady: () => {
        this.#endOutage()
        host.resumed(refused)
      },
      onLost: () => host.interrupted(),
      onError,
      onMessage: (pubSubChannel, text) => this.#receive(host, pubSubChannel, text),
    })
    return null
  }

  publish(publication: Publication): Promise<Published> {
    return this.#calls.publish(publication)
  }

  watch(channels: readonly string[]): Promise<Refused> {
    return this.#subscriptions.watch(channels)
  }

  unwatch(channels: readonly string[]): void {
    this.#subscriptions.unwatch(channels)
  }

  read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History> {
    return this.#calls.read(token, epoch, positions)
  }

  reconnect(): void {
    this.#commands.reconnect()
    this.#subscriber.reconnect()
  }

  acquire(owner: string, max: number): Promise<Acquired> {
    return this.#ownerCounts.acquire(owner, max)
  }

  release(owner: string): void {
    if (!this.#isClosed) this.#ownerCounts.release(owner)
  }

  broadcast(text: string, isVital: boolean): Promise<readonly string[]> {
    return this.#calls.broadcast(text, isVital)
  }

  send(processId: string, text: string): void {
    this.#controlMessages.send(processId, text).catch(() => {})
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#ownerCounts.close()
    this.#controlMessages.close()
    // Its streams then stop counting in the other processes at once, rather than when this process no longer counts as alive.
    const leave = this.#commands.close((redis) => redis.zrem(names.processes(this.#base), this.processId))
    await Promise.all([this.#subscriber.close(), leave])
  }

  #receive(host: BackplaneHost, pubSubChannel: string, text: string): void {
    if (this.#isClosed) return
    try {
      const channel = this.#subscriptions.channelOf(pubSubChannel)
      if (channel !== undefined) {
        const { epoch, event } = parseStoredEvent(text)
        host.event(epoch, channel, event)
      } else if (pubSubChannel === this.#controlChannel) {
        this.#controlMessages.receiveBroadcast(text)
      } else {
        this.#controlMessages.receive(text)
      }
    } catch (error) {
      host.onError(error, { where: 'backplane' })
    }
  }

  /** Reports the first error of an outage. */
  #reportOutage(error: SseError): void {
    if (this.#isOutageReported || this.#isClosed) return
    this.#isOutageReported = true
    this.#host?.onError(error, { where: 'backplane' })
  }

  #endOutage(): void {
    if (this.#commands.isReady && this.#subscriber.isReady) this.#isOutageReported = false
  }
}
