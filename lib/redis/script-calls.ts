import type { Redis } from 'ioredis'
import type { Acquired, ChannelPosition, History, Publication, Published } from '../backplanes/backplane.ts'
import { makeEpoch } from '../event/timeline.ts'
import { readServerRunId } from './redis-connection.ts'
import type { RedisLink } from './redis-link.ts'
import type { RedisSettings } from './redis-options.ts'
import { makeScripts, type Script, type Scripts } from './scripts.ts'
import { parseHistory, type RawHistory, type RawRefusal } from './stored-event.ts'

/** The most bytes of one read. It is bounded because Redis does nothing else meanwhile. */
const MAX_READ_BYTES = 8_388_608

/** The scripts as typed methods. Only this file and the scripts know the order of their arguments and the form of their answers. */
export class ScriptCalls {
  readonly #link: RedisLink
  readonly #base: string
  readonly #processId: string
  readonly #settings: RedisSettings
  readonly #scripts: Scripts
  /** The `run_id` of the server that the link is connected to; '' with `durable`. */
  #serverRunId = ''
  #sweptAt = -Infinity

  constructor(link: RedisLink, base: string, processId: string, settings: RedisSettings) {
    this.#link = link
    this.#base = base
    this.#processId = processId
    this.#settings = settings
    this.#scripts = makeScripts(settings.time)
  }

  /** Prepares a new connection of the link. */
  async prepare(redis: Redis): Promise<void> {
    if (!this.#settings.isDurable) this.#serverRunId = await readServerRunId(redis)
    await Promise.all(Object.values(this.#scripts).map(({ source }: Script) => redis.script('LOAD', source)))
  }

  /** See `Backplane.publish`. */
  async publish({ channel, event, text, isString, key = '', idempotencyKey = '', bounds }: Publication): Promise<Published> {
    const { maxEvents, maxBytes, maxAgeMs, latestPerKey } = bounds
    // The arguments are listed here, and not by `#evaluateInLog`, because this is the hot path.
    const answer = await this.#link.evaluate(this.#scripts.publish, this.#base, () => [
      this.#serverRunId,
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

  /** See `BackplaneLog.read`. */
  async read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History> {
    const isSweepDue = performance.now() - this.#sweptAt >= this.#settings.sweepMs
    if (isSweepDue) this.#sweptAt = performance.now()
    const answer = await this.#evaluateInLog(this.#scripts.read, [
      this.#processId,
      token,
      epoch,
      MAX_READ_BYTES,
      isSweepDue ? '1' : '0',
      this.#settings.aliveMs,
      ...positions.flatMap(({ channel, after }) => [channel, after]),
    ])
    const [current, position, histories] = answer as [string, string, (RawHistory | RawRefusal)[]]
    const channels = histories.map((raw, i) => {
      if (raw[0] !== null) return parseHistory(raw)
      return { floor: 0, events: [], refusal: this.#link.refusal(positions[i]?.channel ?? '', raw[1]) }
    })
    return { epoch: current, newest: Number(position), channels }
  }

  /** See `Backplane.broadcast`. */
  async broadcast(text: string, isVital: boolean): Promise<readonly string[]> {
    return (await this.#evaluateInLog(this.#scripts.broadcast, [text, isVital ? '1' : '0'])) as string[]
  }

  /** The vital control messages from number `after + 1` to number `last`; `null` if Redis no longer has all of them. */
  async missedControlMessages(epoch: string, after: number, last: number): Promise<readonly string[] | null> {
    return (await this.#evaluateInLog(this.#scripts.missedControlMessages, [epoch, after, last])) as string[] | null
  }

  /**
   * Counts one more stream of an owner.
   *
   * @param onSend called when the command is sent.
   */
  async countStream(owner: string, max: number, onSend: () => void): Promise<Acquired> {
    const answer = await this.#link.evaluate(this.#scripts.countStream, this.#base, () => {
      onSend()
      return [owner, this.#processId, this.#settings.aliveMs, max]
    })
    if (answer === 1) return 'counted'
    return answer === 0 ? 'full' : 'maybe-full'
  }

  /** Counts one stream less of an owner. */
  async uncountStream(owner: string): Promise<void> {
    await this.#link.evaluate(this.#scripts.countStream, this.#base, () => [owner, this.#processId, this.#settings.aliveMs, -1])
  }

  /**
   * Sets the counts of owners.
   *
   * @param countOf returns the count of an owner. It is called when the command is sent.
   */
  async assertOwnerCounts(owners: readonly string[], countOf: (owner: string) => number): Promise<void> {
    await this.#link.evaluate(this.#scripts.assertOwnerCounts, this.#base, () => [
      this.#processId,
      this.#settings.aliveMs,
      ...owners.flatMap((owner) => [owner, countOf(owner)]),
    ])
  }

  #evaluateInLog(script: Script, args: readonly (string | number)[]): Promise<unknown> {
    return this.#link.evaluate(script, this.#base, () => [this.#serverRunId, makeEpoch(), ...args])
  }
}
