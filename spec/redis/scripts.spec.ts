import { Redis } from 'ioredis'
import type { BackplaneEvent } from '../../lib/backplanes/backplane.ts'
import { CHANNEL_KEPT_MS } from '../../lib/redis/scripts/prelude.ts'
import { hostWith } from '../support/backplane-host.ts'
import { randomFrom } from '../support/random.ts'
import { deleteKeys, describeRedis, freshPrefix, REDIS_URL } from '../support/redis.ts'
import { clockedBackplane, runningClock, SET_CLOCK } from './clocked-backplane.ts'

const MAX_EVENTS = 6
const MAX_BYTES = 1_500
const MAX_AGE_MS = 10_000
const CHANNELS = ['a', 'b', 'latest']

interface Stored extends BackplaneEvent {
  readonly epoch: string
}

const contentOf = ({ position, text, key }: BackplaneEvent): object => ({ position, text, key })

function agree(found: unknown, wanted: unknown): void {
  expect(found).toEqual(wanted)
}

function ascends(before: number, after: number): void {
  expect(after).toBeGreaterThan(before)
}

/** A backplane whose clock is set by hand, and a model of what was published over it. */
class World {
  readonly prefix = freshPrefix()
  readonly backplane = clockedBackplane({ prefix: this.prefix }, { time: SET_CLOCK, sweepMs: 0 })
  readonly redis = new Redis(REDIS_URL)
  readonly stored = new Map<string, Stored[]>(CHANNELS.map((name) => [name, []]))
  /** The expected log of each channel, and the floor of the channels that were forgotten. */
  readonly logs = new Map<string, { kept: { position: number; key: string | undefined; size: number }[]; floor: number; last: number }>()
  floor = 0
  epoch = ''
  newest = 0
  /** The time of the clock, in microseconds. */
  now = 1_800_000_000_000_000
  #tokens = 0

  async begin(): Promise<void> {
    const host = hostWith()
    this.backplane.open(host)
    await this.setClock(this.now)
  }

  async end(): Promise<void> {
    await this.backplane.close()
    this.redis.disconnect()
    await deleteKeys([this.prefix])
  }

  async setClock(now: number): Promise<void> {
    this.now = now
    await this.redis.set(`{${this.prefix}}:now`, now)
  }

  /** Publishes, and compares the position with the clock and with all earlier positions. */
  async publish(channel: string, text: string, key: string | undefined): Promise<void> {
    const bounds = { maxEvents: MAX_EVENTS, maxBytes: MAX_BYTES, maxAgeMs: MAX_AGE_MS, latestPerKey: channel === 'latest' }
    const { epoch, position, isNew } = await this.backplane.publish({
      channel,
      event: 'e',
      text,
      isString: true,
      key,
      idempotencyKey: undefined,
      bounds,
    })
    this.#moved(epoch, position)
    agree(isNew, true)
    const all = this.stored.get(channel) as Stored[]
    all.push({ position, prev: all.at(-1)?.position ?? 0, event: 'e', text, isString: true, key, epoch })
    const log = this.logs.get(channel) ?? { kept: [], floor: this.floor, last: this.floor }
    this.logs.set(channel, log)
    const size = Buffer.byteLength(`${epoch} ${position} ${log.last} 1\ne\n${key === undefined ? '' : JSON.stringify(key)}\n${text}`)
    log.kept = log.kept.filter((event) => key === undefined || event.key !== key)
    log.kept.push({ position, key, size })
    log.last = position
    while (log.kept.length > MAX_EVENTS || log.kept.reduce((sum, event) => sum + event.size, 0) > MAX_BYTES) {
      log.floor = log.kept.shift()?.position ?? 0
    }
  }

  /** Reads a channel after a position, and compares the events with the model, and the missing ones with the bounds. */
  async read(channel: string, after: number): Promise<{ floor: number; events: readonly BackplaneEvent[] }> {
    const { epoch, newest, channels } = await this.backplane.read(String(++this.#tokens), this.epoch, [{ channel, after }])
    this.#moved(epoch, newest)
    const [history] = channels
    if (history === undefined) throw new Error('the channel was not read')
    const { floor, events } = history
    const all = (this.stored.get(channel) ?? []).filter((event) => event.epoch === epoch)
    const due = all.filter(
      ({ position, key }, i) =>
        position > Math.max(after, floor) && (key === undefined || !all.slice(i + 1).some((later) => later.key === key)),
    )
    const given = events.filter(({ position }) => position > floor)
    agree(given.map(contentOf), due.map(contentOf))
    const log = this.logs.get(channel) ?? { floor: this.floor, last: this.floor }
    agree(floor > after, log.last > after && log.floor > after)
    this.#sweep()
    return { floor, events }
  }

  /** Deletes one stream, as a server that is short of memory does. */
  async evict(channel: string): Promise<void> {
    const log = this.logs.get(channel)
    if (log !== undefined) Object.assign(log, { kept: [], floor: log.last })
    await this.redis.del(`{${this.prefix}}:events:${this.epoch}:${channel}`)
  }

  /** Does to the model what the sweep of a read does. */
  #sweep(): void {
    for (const [channel, log] of this.logs) {
      if (log.last + (MAX_AGE_MS + CHANNEL_KEPT_MS) * 1_000 < this.now) {
        this.floor = Math.max(this.floor, log.last)
        this.logs.delete(channel)
      } else if (channel !== 'latest') {
        while ((log.kept[0]?.position ?? Infinity) < this.now - MAX_AGE_MS * 1_000) log.floor = log.kept.shift()?.position ?? 0
      }
    }
  }

  #moved(epoch: string, position: number): void {
    if (epoch !== this.epoch) {
      this.epoch = epoch
      this.logs.clear()
      this.floor = 0
    } else {
      ascends(this.newest, position)
    }
    ascends(this.now - 1, position)
    this.newest = position
  }
}

describeRedis('the scripts, compared with a model of the log', () => {
  const worlds: World[] = []
  const world = async (): Promise<World> => {
    const made = new World()
    worlds.push(made)
    await made.begin()
    return made
  }

  afterEach(async () => {
    await Promise.all(worlds.splice(0).map((made) => made.end()))
  })

  it.each(Array.from({ length: 40 }, (_, i) => i + 1))(
    'return what follows a position or the floor, and keep what the bounds allow (seed %d)',
    async (seed) => {
      expect.hasAssertions()
      const random = randomFrom(seed)
      const here = await world()
      const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T
      for (let step = 0; step < 80; step++) {
        const channel = pick(CHANNELS)
        const at = random()
        if (at < 0.5) {
          const key = channel === 'latest' && random() < 0.8 ? pick(['x', 'y', 'é"\\\n']) : undefined
          // oxlint-disable-next-line no-await-in-loop -- one step after the other
          await here.publish(channel, 'x'.repeat(Math.floor(random() ** 3 * 800)), key)
        } else if (at < 0.6) {
          await here.setClock(here.now + Math.floor(random() * 3_000_000))
        } else if (at < 0.63) {
          await here.setClock(here.now + (MAX_AGE_MS + (random() < 0.5 ? CHANNEL_KEPT_MS : 0)) * 1_000 + Math.floor(random() * 5_000_000))
        } else if (at < 0.67) {
          await here.setClock(here.now - Math.floor(random() * 30_000_000))
        } else if (at < 0.69) {
          await here.evict(channel)
        } else if (at < 0.7) {
          await here.redis.del(`{${here.prefix}}`)
          here.newest = 0
        } else {
          const all = here.stored.get(channel) as Stored[]
          const after = random() < 0.2 ? 0 : (pick(all.filter(({ epoch }) => epoch === here.epoch))?.position ?? here.newest)
          await here.read(channel, after)
        }
      }
    },
  )

  it('return a complete history of a channel that was never used', async () => {
    const here = await world()
    await here.publish('a', 'one', undefined)
    expect(await here.read('b', here.newest)).toEqual({ floor: 0, events: [] })
    expect(await here.read('b', 0)).toEqual({ floor: 0, events: [] })
  })

  it('remember the last position of a forgotten channel', async () => {
    const here = await world()
    await here.publish('a', 'one', undefined)
    const ended = here.newest
    // For a while an unknown channel is known to have had no events.
    await here.setClock(here.now + (MAX_AGE_MS + 60_000) * 1_000)
    await here.read('a', here.newest)
    expect(await here.read('never', ended - 1)).toEqual({ floor: 0, events: [] })
    await here.setClock(here.now + (MAX_AGE_MS + CHANNEL_KEPT_MS + 100) * 1_000)
    await here.read('b', here.newest)
    expect(await here.redis.hkeys(`{${here.prefix}}`)).not.toContain('channel:a')
    expect(await here.redis.exists(`{${here.prefix}}:events:${here.epoch}:a`)).toBe(0)
    expect(await here.read('a', ended - 1)).toEqual({ floor: ended, events: [] })
    expect(await here.read('a', ended)).toMatchObject({ floor: 0 })
    expect(await here.read('never', ended - 1)).toMatchObject({ floor: ended })
    await here.publish('a', 'two', undefined)
    const { floor, events } = await here.read('a', ended)
    expect(floor).toBe(ended)
    expect(events.map(({ text }) => text)).toEqual(['two'])
  })

  it('give each epoch a name that cannot be guessed from earlier ones', async () => {
    const here = await world()
    const names = new Set<string>()
    for (let n = 0; n < 5; n++) {
      await here.redis.del(`{${here.prefix}}`)
      here.newest = 0
      await here.publish('a', 'one', undefined)
      names.add(here.epoch)
    }
    // Neither half repeats or counts up.
    const halves = [...names].flatMap((name) => [name.slice(0, 4), name.slice(5, 9)])
    expect(new Set(halves).size).toBe(10)
  })

  it('refuse an event before they store anything if no position is left below 2^53, and still read', async () => {
    const here = await world()
    await here.setClock(9_007_199_254_740_988)
    await here.publish('a', 'one', undefined)
    await here.publish('a', 'two', undefined)
    await here.publish('a', 'three', undefined)
    expect(here.newest).toBe(Number.MAX_SAFE_INTEGER - 1)
    const ofChannel = `{${here.prefix}}:events:${here.epoch}:a`
    const before = [await here.redis.hgetall(`{${here.prefix}}`), await here.redis.xlen(ofChannel)]
    for (const channel of ['a', 'new']) {
      await expect(here.publish(channel, 'x', undefined)).rejects.toMatchObject({
        code: 'SSE_BACKPLANE_UNAVAILABLE',
        message: expect.stringContaining('2^53') as string,
      })
    }
    expect([await here.redis.hgetall(`{${here.prefix}}`), await here.redis.xlen(ofChannel)]).toEqual(before)
    for (let n = 0; n < 2; n++) {
      const { newest, channels } = await here.backplane.read('t', here.epoch, [{ channel: 'a', after: 0 }])
      expect([newest, channels[0]?.events.map(({ text }) => text)]).toEqual([Number.MAX_SAFE_INTEGER, ['one', 'two', 'three']])
    }
    await expect(here.publish('a', 'x', undefined)).rejects.toThrow('2^53')
    // No epoch begins for it either.
    await here.redis.del(`{${here.prefix}}`)
    await here.setClock(Number.MAX_SAFE_INTEGER)
    await expect(here.publish('a', 'x', undefined)).rejects.toThrow('2^53')
    expect(await here.redis.exists(`{${here.prefix}}`)).toBe(0)
  })

  it('take increasing positions if the clock was set back or stands still', async () => {
    const here = await world()
    await here.publish('a', 'one', undefined)
    const first = here.newest
    await here.setClock(here.now - 3_600_000_000)
    await here.publish('a', 'two', undefined)
    expect(here.newest).toBe(first + 1)
    await here.publish('b', 'three', undefined)
    expect(here.newest).toBe(first + 2)
  })

  it('begin a new log when a channel starts or stops to keep the latest event per key', async () => {
    const here = await world()
    const publish = async (text: string, latestPerKey: boolean): Promise<void> => {
      const bounds = { maxEvents: 10, maxBytes: 400, maxAgeMs: MAX_AGE_MS, latestPerKey }
      await here.backplane.publish({ channel: 'a', event: 'e', text, isString: true, key: undefined, idempotencyKey: undefined, bounds })
    }
    const texts = async (): Promise<string[]> =>
      (await here.backplane.read('t', '', [{ channel: 'a', after: 0 }])).channels.flatMap(({ events }) => events.map(({ text }) => text))
    for (const text of ['one', 'two', 'three']) await publish(text, false)
    await publish('four', true)
    await publish('five', true)
    expect(await texts()).toEqual(['four', 'five'])
    for (const text of ['six', 'seven', 'x'.repeat(300)]) await publish(text, false)
    expect(await texts()).toEqual(['x'.repeat(300)])
  })

  it('split what is too much for one read, but never a channel', async () => {
    const here = await world()
    const bounds = { maxEvents: 10, maxBytes: 10_000_000, maxAgeMs: MAX_AGE_MS, latestPerKey: false }
    const places = ['a', 'b', 'c', 'd'].map((channel) => ({ channel, after: 0 }))
    for (const { channel } of places) {
      for (let n = 0; n < 4; n++) {
        await here.backplane.publish({
          channel,
          event: 'e',
          text: 'x'.repeat(1_000_000),
          isString: true,
          key: undefined,
          idempotencyKey: undefined,
          bounds,
        })
      }
    }
    const { channels } = await here.backplane.read('t', '', places)
    expect(channels.map(({ events }) => events.length)).toEqual([4, 4, 4])
  })

  it('refuse an event that the wire format does not allow', async () => {
    const here = await world()
    const bounds = { maxEvents: 10, maxBytes: 1_000, maxAgeMs: MAX_AGE_MS, latestPerKey: false }
    const publication = { channel: 'a', event: 'e', text: '', isString: true, key: undefined, idempotencyKey: undefined, bounds }
    for (const event of ['', 'a\nb', 'a\rb', 'stream-reset']) {
      await expect(here.backplane.publish({ ...publication, event })).rejects.toMatchObject({
        code: 'SSE_BACKPLANE_UNAVAILABLE',
        message: expect.stringContaining('stream-') as string,
      })
    }
    await expect(here.backplane.publish({ ...publication, channel: '' })).rejects.toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE' })
    expect(await here.read('a', 0)).toEqual({ floor: 0, events: [] })
  })
})

describeRedis('the stored state of channels', () => {
  const LIVE = 2_000
  const BOUNDS = { maxEvents: 10, maxBytes: 1_000, maxAgeMs: 1_000, latestPerKey: false }
  const prefix = freshPrefix()
  const base = `{${prefix}}`
  const redis = new Redis(REDIS_URL, { lazyConnect: true })
  const host = hostWith()
  const stepUs = ((BOUNDS.maxAgeMs + CHANNEL_KEPT_MS) * 1_000) / LIVE
  const backplane = clockedBackplane({ prefix }, { time: runningClock(stepUs) })
  const publish = (channel: string): Promise<unknown> =>
    backplane.publish({ channel, event: 'e', text: '', isString: true, key: undefined, idempotencyKey: undefined, bounds: BOUNDS })

  afterAll(async () => {
    await backplane.close()
    await deleteKeys([prefix])
    redis.disconnect()
  })

  it('is forgotten as fast as channels are created, without a read', async () => {
    await redis.set(`${base}:now`, 1_800_000_000_000_000)
    backplane.open(host)
    const counts: number[] = []
    for (let made = 0; made < 5 * LIVE; made += 500) {
      await Promise.all(Array.from({ length: 500 }, (_, n) => publish(`c${made + n}`)))
      counts.push(await redis.hlen(base))
    }
    // The hash has a few more fields than channels.
    expect(Math.max(...counts)).toBeLessThan(1.2 * LIVE)
    const fields = await redis.hkeys(base)
    const missing = Array.from({ length: LIVE }, (_, n) => `channel:c${4 * LIVE + n}`).filter((field) => !fields.includes(field))
    expect(missing).toEqual([])
    // A reader from before a forgotten channel has a gap.
    const first = 1_800_000_000_000_000 + stepUs
    const { channels } = await backplane.read('t', '', [
      { channel: 'c0', after: first },
      { channel: 'never', after: first },
    ])
    expect(channels.every(({ floor }) => floor > first)).toBe(true)
  })

  it('is not swept by a publish to an existing channel', async () => {
    await publish('there')
    const cursor = await redis.hget(base, 'sweep_cursor')
    for (let n = 0; n < 20; n++) await publish('there')
    expect(await redis.hget(base, 'sweep_cursor')).toBe(cursor)
    await publish('another')
    expect(await redis.hget(base, 'sweep_cursor')).not.toBe(cursor)
  })
})
