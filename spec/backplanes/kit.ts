import { createParser, type EventSourceMessage } from 'eventsource-parser'
import {
  Hub,
  type HubEvent,
  type HubEvents,
  type HubOptions,
  type PublishOptions,
  type ResetEvent,
  type SubscribeOptions,
} from 'express-sse-hub'
import type {
  Backplane,
  BackplaneEvent,
  BackplaneHost,
  BackplaneLog,
  History,
  ChannelPosition,
  Publication,
  Published,
  Refused,
} from '../../lib/backplanes/backplane.ts'
import { makeEpoch } from '../../lib/event/timeline.ts'
import type { ReplayBounds } from '../../lib/log/replay-options.ts'
import type { RefusalReason } from '../../lib/hub/refusal.ts'
import { until } from '../support/client.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { subscribeTo } from '../support/subscribe.ts'

/**
 * What an engine declares, and a case may need: a log that processes share, or none; limits that hold for all processes
 * together; that it may tell of the same event again; that it may refuse a channel.
 */
export type Capability = 'log' | 'no log' | 'limits' | 'repeats' | 'refuses'

/** What carries events between the nodes of one case. */
export interface Engine {
  /** Another backplane, that shares the events of those before it. */
  backplane(): Backplane
  /** Tells once more, word for word, of every event that is kept of a channel. Resolves when that was sent. */
  repeat?(channel: string): Promise<void>
  /** Refuses a channel to all who watch it from now on, or when they come back; and lets it be watched again. */
  refuse?(channel: string): Promise<void>
  admit?(channel: string): Promise<void>
  /** Is called when all of its backplanes are closed. */
  dispose?(): Promise<void>
}

/** One promise of the contract, and what proves it. */
export interface Case {
  readonly name: string
  readonly needs?: readonly Capability[]
  run(kit: Kit): Promise<void>
}

/** What happens when a node reads a channel for the first time. */
export interface Hooks {
  readonly channel: string
  /** It is watched, and not read yet. */
  readonly watched?: () => unknown
  /** It is being read. */
  readonly reading?: () => unknown
  /** The answer is there, and the hub does not have it yet. */
  readonly read?: () => unknown
}

const BOUNDS: ReplayBounds = { maxEvents: 1_000, maxAgeMs: 300_000, maxBytes: 1_048_576, latestPerKey: false }

/** What a case makes its nodes and observers with; all of it is ended by {@link Kit.dispose}. */
export class Kit {
  /** What hubs and backplanes reported. */
  readonly errors: unknown[] = []
  readonly #makeEngine: () => Engine
  readonly #engine: Engine
  readonly #patienceMs: number
  /** The hubs, each with its backplane. */
  readonly #hubs = new Map<Hub, Backplane>()
  readonly #raw: RawNode[] = []
  readonly #others: Kit[] = []

  /** @param patienceMs how long is waited for what should happen. */
  constructor(makeEngine: () => Engine, patienceMs: number) {
    this.#makeEngine = makeEngine
    this.#engine = makeEngine()
    this.#patienceMs = patienceMs
  }

  /** A hub with a backplane of its own, once it is ready. */
  async node(options: HubOptions = {}, hooks?: Hooks): Promise<Hub> {
    const backplane = this.#engine.backplane()
    const onError = (error: unknown): void => void this.errors.push(error)
    const hub = new Hub({ onError, ...options, backplane: hooks === undefined ? backplane : new HookedBackplane(backplane, hooks) })
    this.#hubs.set(hub, backplane)
    await this.until(() => hub.health(), 'the hub is ready')
    return hub
  }

  async nodes(count: number, options: HubOptions = {}): Promise<[Hub, Hub, ...Hub[]]> {
    return (await Promise.all(Array.from({ length: count }, () => this.node(options)))) as [Hub, Hub, ...Hub[]]
  }

  /** A backplane without a hub, once it is ready. */
  async raw(): Promise<RawNode> {
    const node = new RawNode(this.#engine.backplane(), this)
    this.#raw.push(node)
    await node.ready()
    return node
  }

  async raws(count: number): Promise<[RawNode, RawNode, ...RawNode[]]> {
    return (await Promise.all(Array.from({ length: count }, () => this.raw()))) as [RawNode, RawNode, ...RawNode[]]
  }

  /** A stream without a socket, once it is live, or refused. */
  async client(hub: Hub, channels: readonly string[], options: ClientOptions = {}): Promise<Client> {
    const client = new Client(this)
    await client.open(hub, channels, options)
    return client
  }

  /** A consumer of `events()`, once it is live. */
  async reader(hub: Hub, channels: readonly string[], options: { readonly lastEventId?: string } = {}): Promise<Reader> {
    const reader = this.consumer(hub.events([...channels], options))
    await reader.live()
    return reader
  }

  consumer(events: HubEvents): Reader {
    return new Reader(events, this)
  }

  /** Waits until nodes were told of everything that was published before. */
  async settled(...hubs: readonly Hub[]): Promise<void> {
    const channel = freshName()
    const clients = await Promise.all(hubs.map((hub) => this.client(hub, [channel])))
    await hubs[0]?.publish(channel, 'item', 'marker')
    for (const client of clients) {
      await client.heard('marker')
      client.leave()
    }
  }

  /** Breaks the connections of a node, which come back by themselves. */
  interrupt(hub: Hub): void {
    this.#hubs.get(hub)?.log?.reconnect()
  }

  /** Tells once more of every event that is kept of a channel. */
  async repeat(channel: string): Promise<void> {
    if (this.#engine.repeat === undefined) throw new Error('the engine cannot repeat')
    await this.#engine.repeat(channel)
  }

  async refuse(channel: string): Promise<void> {
    if (this.#engine.refuse === undefined) throw new Error('the engine refuses no channel')
    await this.#engine.refuse(channel)
  }

  async admit(channel: string): Promise<void> {
    await this.#engine.admit?.(channel)
  }

  /** A kit of the same sort, that shares nothing with this one. */
  elsewhere(): Kit {
    const other = new Kit(this.#makeEngine, this.#patienceMs)
    this.#others.push(other)
    return other
  }

  until(condition: () => boolean, what: string): Promise<void> {
    return until(condition, what, this.#patienceMs)
  }

  async dispose(): Promise<void> {
    await Promise.all([...[...this.#hubs.keys()].map((hub) => hub.close()), ...this.#raw.map(({ backplane }) => backplane.close())])
    await this.#engine.dispose?.()
    await Promise.all(this.#others.map((other) => other.dispose()))
  }
}

export type ClientOptions = SubscribeOptions & { readonly lastEventId?: string | undefined }

/** A subscribed stream without a socket. */
export class Client {
  readonly events: EventSourceMessage[] = []
  /** The data of the events that belong to channels. */
  readonly texts: string[] = []
  /** What `stream-reset`s said. */
  readonly resets: { readonly channels: readonly string[]; readonly reason: string }[] = []
  /** How many events came before `stream-open`; -1 until it is live. */
  replayed = -1
  lastId = ''
  refusal: RefusalReason | undefined
  readonly #connection = new FakeConnection()
  readonly #kit: Kit

  constructor(kit: Kit) {
    this.#kit = kit
    const parser = createParser({ onEvent: (event) => this.#take(event) })
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    this.#connection.onWrite = (chunk) => parser.feed(decoder.decode(chunk, { stream: true }))
  }

  async open(hub: Hub, channels: readonly string[], { lastEventId = '', ...options }: ClientOptions): Promise<void> {
    this.refusal = (await subscribeTo(hub, channels, this.#connection, lastEventId, options))?.reason
    if (this.refusal === undefined) await this.#kit.until(() => this.replayed >= 0, 'the client is live')
  }

  get ids(): string[] {
    return this.events.filter(isOfChannel).map(({ id = '' }) => id)
  }

  get isOpen(): boolean {
    return this.#connection.isOpen
  }

  /** Whether its end told it not to come back. */
  get isEndedForGood(): boolean {
    return this.#connection.isEndedForGood
  }

  async heard(text: string): Promise<void> {
    await this.#kit.until(
      () => this.texts.includes(text),
      `the client hears ${text.slice(0, 40)} (it has ${this.texts.join(', ').slice(0, 200)})`,
    )
  }

  leave(): void {
    this.#connection.leave()
  }

  #take(event: EventSourceMessage): void {
    this.events.push(event)
    if (event.id !== undefined) this.lastId = event.id
    if (isOfChannel(event)) this.texts.push(event.data)
    if (event.event === 'stream-reset') this.resets.push(JSON.parse(event.data) as Client['resets'][number])
    if (event.event === 'stream-open') this.replayed = this.texts.length
  }
}

function isOfChannel({ event }: EventSourceMessage): boolean {
  return !event?.startsWith('stream-')
}

/** A consumer of `hub.events()` that keeps what it is given. */
export class Reader {
  readonly items: (HubEvent | ResetEvent)[] = []
  isOver = false
  error: unknown
  readonly #events: HubEvents
  readonly #kit: Kit

  constructor(events: HubEvents, kit: Kit) {
    this.#events = events
    this.#kit = kit
    void this.#read()
  }

  /** Waits until it has a place: what is published after that is given. */
  async live(): Promise<void> {
    await this.#kit.until(() => this.#events.lastEventId !== '' || this.error !== undefined, 'events() is live')
    if (this.error !== undefined) throw this.error
  }

  get data(): unknown[] {
    return this.items.map(({ data }) => data)
  }

  async heard(data: unknown): Promise<void> {
    await this.#kit.until(() => this.items.some((item) => item.data === data), `events() hears ${JSON.stringify(data).slice(0, 40)}`)
  }

  async over(): Promise<void> {
    await this.#kit.until(() => this.isOver, 'events() are over')
  }

  async #read(): Promise<void> {
    try {
      for await (const item of this.#events) this.items.push(item)
    } catch (error) {
      this.error = error
    }
    this.isOver = true
  }
}

/** What a host was told, in order. */
export type Told =
  | { readonly what: 'event'; readonly epoch: string; readonly channel: string; readonly event: BackplaneEvent }
  | { readonly what: 'reached'; readonly token: string }
  | { readonly what: 'interrupted' | 'signals missed' }
  | { readonly what: 'resumed'; readonly refused: readonly string[] }
  | { readonly what: 'signal'; readonly text: string }

/** A host that records what it is told. */
class RecordingHost implements BackplaneHost {
  readonly told: Told[] = []
  readonly #errors: unknown[]

  constructor(errors: unknown[]) {
    this.#errors = errors
  }

  event(epoch: string, channel: string, event: BackplaneEvent): void {
    this.told.push({ what: 'event', epoch, channel, event })
  }

  reached(token: string): void {
    this.told.push({ what: 'reached', token })
  }

  interrupted(): void {
    this.told.push({ what: 'interrupted' })
  }

  resumed(refused: Refused): void {
    this.told.push({ what: 'resumed', refused: [...refused.keys()] })
  }

  controlMessage(text: string): void {
    this.told.push({ what: 'signal', text })
  }

  controlMessagesMissed(): void {
    this.told.push({ what: 'signals missed' })
  }

  onError(error: unknown): void {
    this.#errors.push(error)
  }
}

/** A backplane without a hub. */
export class RawNode {
  readonly backplane: Backplane
  /** What its host was told. */
  readonly told: readonly Told[]
  /** Where it began, without a log. */
  readonly place: { readonly epoch: string; readonly newest: number } | null
  readonly #kit: Kit
  #lastToken = 0

  constructor(backplane: Backplane, kit: Kit) {
    this.backplane = backplane
    this.#kit = kit
    const host = new RecordingHost(kit.errors)
    this.told = host.told
    this.place = backplane.open(host)
  }

  async ready(): Promise<void> {
    if (this.backplane.log === null) return
    await this.#kit.until(() => this.told.some(({ what }) => what === 'resumed'), 'the backplane is ready')
    // By its first read the others know of it.
    await this.read([])
  }

  get log(): BackplaneLog {
    if (this.backplane.log === null) throw new Error('the backplane has no log')
    return this.backplane.log
  }

  /** What it was told of events, each the first time. */
  get events(): { readonly epoch: string; readonly channel: string; readonly event: BackplaneEvent }[] {
    const seen = new Set<number>()
    return this.told.filter((told) => told.what === 'event').filter(({ event: { position } }) => !seen.has(position) && seen.add(position))
  }

  get signals(): string[] {
    return this.told.filter((told) => told.what === 'signal').map(({ text }) => text)
  }

  async publish(channel: string, text: string, options: Partial<Publication> = {}): Promise<Published> {
    return this.backplane.publish({
      channel,
      event: 'item',
      text,
      isString: true,
      key: undefined,
      idempotencyKey: undefined,
      bounds: BOUNDS,
      ...options,
    })
  }

  /** The same with other bounds. */
  publishWith(bounds: Partial<ReplayBounds>, channel: string, text: string): Promise<Published> {
    return this.publish(channel, text, { bounds: { ...BOUNDS, ...bounds } })
  }

  /** Without a log everything is told anyway. The channels that are refused. */
  async watch(...channels: string[]): Promise<string[]> {
    return [...((await this.backplane.log?.watch(channels)) ?? new Map<string, Error>()).keys()]
  }

  /** Reads channels; `reached`: how much was told when the moment of the read was reached. */
  async read(positions: readonly ChannelPosition[], epoch = ''): Promise<History & { readonly reached: number }> {
    const token = `token ${++this.#lastToken}`
    const history = await this.log.read(token, epoch, positions)
    const at = (): number => this.told.findIndex((told) => told.what === 'reached' && told.token === token)
    await this.#kit.until(() => at() >= 0, 'the moment of the read is reached')
    return { ...history, reached: at() }
  }

  async heard(text: string): Promise<void> {
    await this.#kit.until(() => this.told.some((told) => told.what === 'event' && told.event.text === text), `the host is told of ${text}`)
  }

  async heardSignal(text: string): Promise<void> {
    await this.#kit.until(() => this.signals.includes(text), `the host is told the signal ${text}`)
  }
}

/** Stops at the first read of a channel, for what must happen just then. */
class HookedBackplane implements Backplane {
  readonly log: BackplaneLog | null
  readonly #inner: Backplane
  readonly #hooks: Hooks
  #isDone = false

  constructor(inner: Backplane, hooks: Hooks) {
    this.#inner = inner
    this.#hooks = hooks
    const { log } = inner
    this.log = log && {
      timeoutMs: log.timeoutMs,
      probeMs: log.probeMs,
      watch: (channels) => log.watch(channels),
      unwatch: (channels) => log.unwatch(channels),
      read: (token, epoch, positions) => this.#read(log, token, epoch, positions),
      reconnect: () => log.reconnect(),
      acquire: (owner, max) => log.acquire(owner, max),
      release: (owner) => log.release(owner),
    }
  }

  get processId(): string {
    return this.#inner.processId
  }

  open(host: BackplaneHost): { readonly epoch: string; readonly newest: number } | null {
    return this.#inner.open(host)
  }

  publish(publication: Publication): Published | Promise<Published> {
    return this.#inner.publish(publication)
  }

  broadcast(text: string, isVital: boolean): Promise<readonly string[]> {
    return this.#inner.broadcast(text, isVital)
  }

  send(processId: string, text: string): void {
    this.#inner.send(processId, text)
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  async #read(log: BackplaneLog, token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History> {
    const { channel, watched, reading, read } = this.#hooks
    if (this.#isDone || !positions.some((place) => place.channel === channel)) return log.read(token, epoch, positions)
    this.#isDone = true
    await watched?.()
    const [history] = await Promise.all([log.read(token, epoch, positions), reading?.()])
    await read?.()
    return history
  }
}

/** What was published, by its place in the one order. */
export class Ledger {
  readonly #entries: { readonly position: number; readonly channel: string; readonly text: string }[] = []

  async publish(hub: Hub, channel: string, text: string, options?: PublishOptions): Promise<string> {
    const id = await hub.publish(channel, 'item', text, options)
    this.#entries.push({ position: positionOf(id), channel, text })
    return id
  }

  /** Publishes many at once. */
  async burst(hub: Hub, channels: readonly string[], prefix: string, count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, (_, n) => this.publish(hub, channels[n % channels.length] as string, `${prefix} ${n}`)))
  }

  /** The texts of what was published to channels after an id, in the one order. */
  after(id: string, channels?: readonly string[]): string[] {
    const wanted = this.#entries.filter(({ position, channel }) => position > positionOf(id) && (channels?.includes(channel) ?? true))
    return wanted.toSorted((a, b) => a.position - b.position).map(({ text }) => text)
  }
}

/** The place of an id in the one order. */
export function positionOf(id: string): number {
  const digits = /^[0-9a-z]{10}-(\d+)\//.exec(id)?.[1]
  if (digits === undefined) throw new Error(`this is not an id of a hub: ${id}`)
  return Number(digits)
}

/** An id of the same log at another place. */
export function idAt(id: string, position: number): string {
  return id.replace(/-\d+/, `-${position}`)
}

/** A name that was not used before. */
export function freshName(): string {
  return `channel ${makeEpoch()}`
}

/** Lets what was asked for in this turn be sent. */
export async function sent(): Promise<void> {
  await turn()
}

/** Something that goes on aside, and that a case which fails meanwhile does not wait for any more. */
export function aside<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

/** The code of the error that a call rejects with, or throws. */
export async function codeOf(call: () => unknown): Promise<unknown> {
  try {
    await call()
  } catch (error) {
    return (error as { readonly code?: unknown }).code ?? error
  }
  return 'it resolved'
}
