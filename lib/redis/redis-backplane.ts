import type { Redis } from 'ioredis'
import type {
  Acquired,
  Backplane,
  BackplaneHost,
  BackplaneLog,
  History,
  ChannelPosition,
  Publication,
  Published,
  Refused,
} from '../backplanes/backplane.ts'
import { type SseError, describeValue } from '../basics/errors.ts'
import { checkBoolean, checkInteger, checkOptions } from '../basics/options.ts'
import { makeEpoch } from '../event/timeline.ts'
import { OwnerCounts } from './owner-counts.ts'
import { historyOf, parseMessage, parseSignal, type RawHistory, type RawRefusal } from './message.ts'
import type { RedisConnection } from './redis-client.ts'
import { connect } from './redis-connection.ts'
import { isReply, RedisLink } from './redis-link.ts'
import { SERVER_TIME, scripts } from './scripts.ts'

/** Options of {@link RedisBackplane}. */
export interface RedisBackplaneOptions {
  /**
   * Begins every key and pub/sub channel, in braces and after the client's `keyPrefix`: hubs with the same one share their
   * channels. Default `'sse'`.
   */
  readonly prefix?: string | undefined
  /** How long Redis may take to answer, in milliseconds: then `publish` rejects and `subscribe` refuses. Default 5,000. */
  readonly timeoutMs?: number | undefined
  /**
   * How often it is asked whether events still come, in milliseconds, at most 5,000. The streams of a process that died count for
   * three times as long. Default 2,000.
   */
  readonly probeMs?: number | undefined
  /**
   * Whether Redis keeps every write that it acknowledged when it is started again or another takes over (`appendfsync
   * always`, no replica). Where it may not, a client that comes back after that is reset. Default `false`.
   */
  readonly durable?: boolean | undefined
}

/** What is read at once is not more than this, for Redis does nothing else meanwhile. */
const MAX_READ_BYTES = 8_388_608
/** A process counts as there for so many probes after the last: one that is late is not taken for dead. */
const PROBES_ALIVE = 3
/** So many channels are subscribed to by one command. */
const MAX_NAMES = 1_000

/**
 * Carries a hub's events over Redis 7, so that any process can publish, and any deliver; a client may come back to another
 * process than it was at.
 *
 * It makes two connections of its own, which come back by themselves. Everything in Redis expires, but for one hash.
 *
 * @example
 * const hub = new Hub<Channels>({ backplane: new RedisBackplane({ url: 'redis://127.0.0.1:6379' }) })
 */
export class RedisBackplane implements Backplane, BackplaneLog {
  readonly timeoutMs: number
  readonly probeMs: number
  readonly processId = makeEpoch()
  readonly #base: string
  readonly #isDurable: boolean
  /** For how long this process counts as there after it was heard of, in milliseconds. */
  readonly #aliveMs: number
  readonly #scripts: ReturnType<typeof scripts>
  /** Commands go over one connection, what Redis tells of comes over the other. */
  readonly #commands: RedisLink
  readonly #subscriber: RedisLink
  readonly #ownerCounts: OwnerCounts
  readonly #watched = new Set<string>()
  /** The channels that were watched, and that Redis refused on the connection that is about to be ready. */
  #refused: Refused = new Map()
  /** What names the run of the server that the commands go to. */
  #run = ''
  #host: BackplaneHost | null = null
  readonly #sweepMs: number
  #sweptAt = -Infinity
  /** The life of the log that was told of last, and how many vital signals were told of in it. */
  #signals = { epoch: '', count: 0 }
  #isReported = false
  #isClosed = false

  /**
   * @param internals for tests: what gives the time in the scripts, and how often channels are swept.
   * @throws {TypeError | RangeError} for an option that is unknown, of the wrong type or out of its range.
   */
  constructor(
    connection: RedisConnection,
    options: RedisBackplaneOptions = {},
    internals: { readonly time?: string; readonly sweepMs?: number } = {},
  ) {
    checkOptions('RedisBackplane', connection, ['url', 'client'])
    checkOptions('RedisBackplane', options, ['prefix', 'timeoutMs', 'probeMs', 'durable'])
    const { prefix = 'sse' } = options
    if (typeof prefix !== 'string' || !/^[^{}]+$/.test(prefix)) {
      throw new TypeError(`RedisBackplane: prefix must be a string that is not empty and has no braces, got ${describeValue(prefix)}`)
    }
    this.timeoutMs = checkInteger('RedisBackplane: timeoutMs', options.timeoutMs, 5_000, { min: 100, max: 60_000 })
    this.probeMs = checkInteger('RedisBackplane: probeMs', options.probeMs, 2_000, { min: 50, max: 5_000 })
    this.#aliveMs = PROBES_ALIVE * this.probeMs
    this.#isDurable = checkBoolean('RedisBackplane: durable', options.durable, false)
    this.#scripts = scripts(internals.time ?? SERVER_TIME)
    this.#sweepMs = internals.sweepMs ?? this.probeMs
    const onError = (error: SseError): void => this.#report(error)
    const { link, keyPrefix } = connect(connection, this.timeoutMs)
    const { db = 0 } = link.options
    // Redis keeps the keys of databases apart, and not their pub/sub channels. Outside the braces a `keyPrefix` stays what it
    // is: an ACL that allows the keys that begin with it goes on to hold.
    this.#base = keyPrefix + (db === 0 ? `{${prefix}}` : `{${prefix}:${db}}`)
    this.#commands = new RedisLink(link, this.timeoutMs, {
      onConnected: async (redis) => {
        if (!this.#isDurable) this.#run = await runOf(redis)
        await Promise.all(Object.values(this.#scripts).map(({ source }) => redis.script('LOAD', source)))
      },
      onReady: () => {
        void this.#ownerCounts.assertDoubtful()
        this.#reported()
      },
      onClosed() {},
      onError,
    })
    this.#subscriber = new RedisLink(this.#listening(link.duplicate()), this.timeoutMs, {
      onConnected: async (redis) => {
        this.#refused = await this.#subscribe(redis, [...this.#watched], [`${this.#base}:s`, `${this.#base}:n:${this.processId}`])
      },
      onReady: () => {
        this.#reported()
        this.#host?.resumed(this.#refused)
      },
      onClosed: () => this.#host?.interrupted(),
      onError,
    })
    this.#ownerCounts = new OwnerCounts(this.#commands, this.#base, this.processId, this.#aliveMs, this.#scripts)
  }

  get log(): BackplaneLog {
    return this
  }

  open(host: BackplaneHost): null {
    if (this.#host !== null || this.#isClosed) throw new Error('RedisBackplane: it belongs to one hub, which closes it; make another one')
    this.#host = host
    this.#commands.connect()
    this.#subscriber.connect()
    return null
  }

  async publish({ channel, event, text, isString, key = '', idempotencyKey = '', bounds }: Publication): Promise<Published> {
    const { maxEvents, maxBytes, maxAgeMs, latestPerKey } = bounds
    const answer = await this.#commands.run(this.#scripts.publish, this.#base, () => [
      this.#run,
      makeEpoch(),
      channel,
      event,
      text,
      isString ? '1' : '0',
      key,
      idempotencyKey,
      maxEvents,
      maxBytes,
      maxAgeMs,
      latestPerKey ? '1' : '0',
    ])
    const [epoch, position, isNew] = answer as [string, string, number]
    return { epoch, position: Number(position), isNew: isNew === 1 }
  }

  async watch(channels: readonly string[]): Promise<Refused> {
    for (const channel of channels) this.#watched.add(channel)
    const { isReady } = this.#subscriber
    const redis = await this.#subscriber.use()
    // The connection that was waited for may have refused some, which are asked for again now.
    if (!isReady) for (const channel of channels) this.#watched.add(channel)
    try {
      return await this.#subscribe(redis, channels)
    } catch (error) {
      this.#subscriber.reconnect()
      throw this.#subscriber.unavailable('it does not subscribe', error)
    }
  }

  unwatch(channels: readonly string[]): void {
    for (const channel of channels) this.#watched.delete(channel)
    if (!this.#subscriber.isReady) return
    void this.#unsubscribe(channels)
  }

  async read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History> {
    const isSweepDue = performance.now() - this.#sweptAt >= this.#sweepMs
    if (isSweepDue) this.#sweptAt = performance.now()
    const answer = await this.#commands.run(this.#scripts.read, this.#base, () => [
      this.#run,
      makeEpoch(),
      this.processId,
      token,
      epoch,
      MAX_READ_BYTES,
      isSweepDue ? '1' : '0',
      this.#aliveMs,
      ...positions.flatMap(({ channel, after }) => [channel, after]),
    ])
    const [current, position, channels] = answer as [string, string, (RawHistory | RawRefusal)[]]
    const histories = channels.map((raw, i) =>
      raw[0] === null ? { floor: 0, events: [], refusal: this.#refusal(positions[i]?.channel ?? '', raw[1]) } : historyOf(raw),
    )
    return { epoch: current, newest: Number(position), channels: histories }
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

  async broadcast(text: string, isVital: boolean): Promise<readonly string[]> {
    return (await this.#commands.run(this.#scripts.signal, this.#base, () => [
      this.#run,
      makeEpoch(),
      text,
      isVital ? '1' : '0',
    ])) as string[]
  }

  send(processId: string, text: string): void {
    void this.#commands
      .use()
      .then((redis) => redis.publish(`${this.#base}:n:${processId}`, `s${text}`))
      .catch(() => {})
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#ownerCounts.close()
    // The others need not wait for it, and its streams do not count any more.
    await Promise.all([this.#subscriber.close(), this.#commands.close((redis) => redis.zrem(`${this.#base}:p`, this.processId))])
  }

  #channelOf(name: string): string {
    return `${this.#base}:c:${name}`
  }

  /**
   * Subscribes to channels, and with them to those of Redis in `others`, without which nothing works.
   *
   * Redis refuses a command for one name in it. Then each name has a command of its own, so that it is refused alone.
   *
   * @returns the channels that were refused; they are not watched any more.
   */
  async #subscribe(redis: Redis, channels: readonly string[], others: readonly string[] = []): Promise<Refused> {
    const refused = new Map<string, Error>()
    const subscribe = async (some: readonly string[]): Promise<void> => {
      try {
        await redis.subscribe(...some)
      } catch (error) {
        const [name = ''] = some
        if (!isReply(error) || (some.length === 1 && others.includes(name))) throw error
        if (some.length === 1) refused.set(name.slice(this.#channelOf('').length), error)
        else await Promise.all(some.map((each) => subscribe([each])))
      }
    }
    const names = [...others, ...channels.map((name) => this.#channelOf(name))]
    const commands: Promise<void>[] = []
    for (let i = 0; i < names.length; i += MAX_NAMES) commands.push(subscribe(names.slice(i, i + MAX_NAMES)))
    await Promise.all(commands)
    for (const [name, { message }] of refused) {
      refused.set(name, this.#refusal(name, message))
      this.#watched.delete(name)
    }
    return refused
  }

  #refusal(channel: string, message: string): SseError {
    return this.#subscriber.unavailable(`it refuses the channel ${describeValue(channel)}: ${message}`)
  }

  #listening(redis: Redis): Redis {
    const events = this.#channelOf('')
    const signals = `${this.#base}:s`
    redis.on('message', (channel: string, text: string) => {
      const host = this.#host
      if (host === null || this.#isClosed) return
      try {
        if (channel.startsWith(events)) {
          const { epoch, event } = parseMessage(text)
          host.event(epoch, channel.slice(events.length), event)
        } else if (channel === signals) {
          const { epoch, count, rest } = parseSignal(text)
          if (count > 0) this.#counted(epoch, count, count - 1)
          host.controlMessage(rest)
        } else if (text.startsWith('r')) {
          const { epoch, count, rest } = parseSignal(text.slice(1))
          this.#counted(epoch, count, count)
          host.reached(rest)
        } else {
          host.controlMessage(text.slice(1))
        }
      } catch (error) {
        host.onError(error, { where: 'backplane' })
      }
    })
    return redis
  }

  /** There were `count` vital signals in this life of the log, and those who were told of all have heard of `before` until now. */
  #counted(epoch: string, count: number, before: number): void {
    const { epoch: known, count: heard } = this.#signals
    this.#signals = { epoch, count }
    // Of what came before the first that it is told of, nothing concerned it.
    if (known === '') return
    const isOfNow = epoch === known
    // Redis has forgotten how many streams there are.
    if (!isOfNow) void this.#ownerCounts.assertAll()
    const last = isOfNow ? heard : 0
    if (before > last) void this.#catchUpSignals(epoch, last, before)
  }

  /** Reads the vital signals after the number `last` up to `before`, which this process missed. */
  async #catchUpSignals(epoch: string, last: number, before: number): Promise<void> {
    const host = this.#host
    const run = this.#commands.run(this.#scripts.missed, this.#base, () => [this.#run, makeEpoch(), epoch, last, before])
    const texts = (await run.catch(() => null)) as string[] | null
    if (host === null || this.#isClosed) return
    if (texts === null) return host.controlMessagesMissed()
    for (const text of texts) {
      try {
        host.controlMessage(text)
      } catch (error) {
        host.onError(error, { where: 'backplane' })
      }
    }
  }

  async #unsubscribe(channels: readonly string[]): Promise<void> {
    try {
      const redis = await this.#subscriber.use()
      // By now some may be watched again.
      const names = channels.filter((name) => !this.#watched.has(name)).map((name) => this.#channelOf(name))
      for (let i = 0; i < names.length; i += MAX_NAMES) await redis.unsubscribe(...names.slice(i, i + MAX_NAMES))
    } catch {
      // The connection broke: what comes back is what is watched.
    }
  }

  /** Reports the first error of an outage. */
  #report(error: SseError): void {
    if (this.#isReported || this.#isClosed) return
    this.#isReported = true
    this.#host?.onError(error, { where: 'backplane' })
  }

  #reported(): void {
    if (this.#commands.isReady && this.#subscriber.isReady) this.#isReported = false
  }
}

/** What names this run of the server, by which it is noticed that it was started again. */
async function runOf(redis: Redis): Promise<string> {
  const info = await redis.info('server').catch((error: Error) => error.message)
  const run = /^run_id:(\w+)/m.exec(info)?.[1]
  if (run !== undefined) return run
  throw new Error(
    `INFO does not tell the run_id of the server, by which it is noticed that it was started again (${info.slice(0, 100)}): let it, or set durable`,
  )
}
