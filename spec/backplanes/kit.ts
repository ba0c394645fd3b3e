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
import type { RefusalReason } from '../../lib/hub/refusal.ts'
import { until } from '../support/client.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { publication } from '../support/publication.ts'
import { subscribeTo } from '../support/subscribe.ts'

/**
 * A property that an engine declares and that a case may need: a log that processes share, or none; limits that hold for all
 * processes together; the ability to repeat an event; the ability to refuse a channel.
 */
export type Capability = 'log' | 'no log' | 'limits' | 'repeats' | 'refuses'

/** The engine that carries events between the nodes of one case. */
export interface Engine {
  /** Creates a backplane that shares its events with the other backplanes of the engine. */
  backplane(): Backplane
  /** Delivers every event that a channel keeps once more, unchanged. Resolves when they have been sent. */
  repeat?(channel: string): Promise<void>
  /** Refuses a channel to every node that watches it from now on or reconnects. */
  refuse?(channel: string): Promise<void>
  /** Ends {@link refuse}. */
  admit?(channel: string): Promise<void>
  /** Called when all backplanes of the engine are closed. */
  dispose?(): Promise<void>
}

/** One promise of the contract, and its proof. */
export interface Case {
  readonly name: string
  readonly needs?: readonly Capability[]
  run(kit: Kit): Promise<void>
}

/** Callbacks for the first read of a channel. */
export interface Hooks {
  readonly channel: string
  /** Called when the channel is watched, before it is read. */
  readonly watched?: () => unknown
  /** Called while the channel is being read. */
  readonly reading?: () => unknown
  /** Called before the hub receives the answer. */
  readonly read?: () => unknown
}

/** Creates the nodes, clients and readers of a case. {@link Kit.dispose} closes them. */
export class Kit {
  /** The errors that hubs and backplanes reported. */
  readonly errors: unknown[] = []
  readonly #makeEngine: () => Engine
  readonly #engine: Engine
  readonly #patienceMs: number
  /** The backplane of each hub. */
  readonly #hubs = new Map<Hub, Backplane>()
  readonly #raw: RawNode[] = []
  readonly #others: Kit[] = []

  /** @param patienceMs the time to wait for anything that should happen. */
  constructor(makeEngine: () => Engine, patienceMs: number) {
    this.#makeEngine = makeEngine
    this.#engine = makeEngine()
    this.#patienceMs = patienceMs
  }

  /** Resolves with a hub over a backplane of its own, when the hub is ready. */
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

  /** Resolves with a backplane without a hub, when the backplane is ready. */
  async raw(): Promise<RawNode> {
    const node = new RawNode(this.#engine.backplane(), this)
    this.#raw.push(node)
    await node.ready()
    return node
  }

  async raws(count: number): Promise<[RawNode, RawNode, ...RawNode[]]> {
    return (await Promise.all(Array.from({ length: count }, () => this.raw()))) as [RawNode, RawNode, ...RawNode[]]
  }

  /** Resolves with a stream without a socket, when the stream is live or refused. */
  async client(hub: Hub, channels: readonly string[], options: ClientOptions = {}): Promise<Client> {
    const client = new Client(this)
    await client.open(hub, channels, options)
    return client
  }

  /** Resolves with a reader of `events()`, when the reader is live. */
  async reader(hub: Hub, channels: readonly string[], options: { readonly lastEventId?: string } = {}): Promise<Reader> {
    const reader = this.readerOf(hub.events([...channels], options))
    await reader.live()
    return reader
  }

  readerOf(events: HubEvents): Reader {
    return new Reader(events, this)
  }

  /**
   * Waits until hubs have received everything that was published before, have offered it to their clients, and have applied the
   * bounds of the logs. A hub serves its channels in the order of publishing, so it reaches the marker last.
   */
  async settled(...hubs: readonly Hub[]): Promise<void> {
    const channel = freshName()
    const clients = await Promise.all(hubs.map((hub) => this.client(hub, [channel])))
    await hubs[0]?.publish(channel, 'item', 'marker')
    for (const client of clients) {
      await client.received('marker')
      client.leave()
    }
  }

  /** Breaks the connection of a node, which reconnects by itself. */
  interrupt(hub: Hub): void {
    this.#hubs.get(hub)?.log?.reconnect()
  }

  /** Delivers every event that a channel keeps once more. */
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

  /** A kit over an engine of its own. */
  elsewhere(): Kit {
    const other = new Kit(this.#makeEngine, this.#patienceMs)
    this.#others.push(other)
    return other
  }

  until(condition: () => boolean, description: string): Promise<void> {
    return until(condition, description, this.#patienceMs)
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
  /** The data of each `stream-reset`. */
  readonly resets: { readonly channels: readonly string[]; readonly reason: string }[] = []
  /** The number of events before `stream-open`; -1 until the stream is live. */
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

  /** Whether the stream ended with `stream-close`, so that the client does not reconnect. */
  get isEndedForGood(): boolean {
    return this.#connection.isEndedForGood
  }

  async received(text: string): Promise<void> {
    await this.#kit.until(
      () => this.texts.includes(text),
      `the client has received ${text.slice(0, 40)} (so far: ${this.texts.join(', ').slice(0, 200)})`,
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

/** A loop over `hub.events()` that keeps every item. */
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

  /** Waits until `events()` has a position: it delivers everything that is published after that. */
  async live(): Promise<void> {
    await this.#kit.until(() => this.#events.lastEventId !== '' || this.error !== undefined, 'events() is live')
    if (this.error !== undefined) throw this.error
  }

  get data(): unknown[] {
    return this.items.map(({ data }) => data)
  }

  async received(data: unknown): Promise<void> {
    await this.#kit.until(() => this.items.some((item) => item.data === data), `events() has given ${JSON.stringify(data).slice(0, 40)}`)
  }

  async over(): Promise<void> {
    await this.#kit.until(() => this.isOver, 'events() has ended')
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

/** A call of a backplane to its host. */
export type HostCall =
  | { readonly name: 'event'; readonly epoch: string; readonly channel: string; readonly event: BackplaneEvent }
  | { readonly name: 'reached'; readonly token: string }
  | { readonly name: 'interrupted' | 'controlMessagesMissed' }
  | { readonly name: 'resumed'; readonly refused: readonly string[] }
  | { readonly name: 'controlMessage'; readonly text: string }

/** A host that records its calls. */
class RecordingHost implements BackplaneHost {
  readonly calls: HostCall[] = []
  readonly #errors: unknown[]

  constructor(errors: unknown[]) {
    this.#errors = errors
  }

  event(epoch: string, channel: string, event: BackplaneEvent): void {
    this.calls.push({ name: 'event', epoch, channel, event })
  }

  reached(token: string): void {
    this.calls.push({ name: 'reached', token })
  }

  interrupted(): void {
    this.calls.push({ name: 'interrupted' })
  }

  resumed(refused: Refused): void {
    this.calls.push({ name: 'resumed', refused: [...refused.keys()] })
  }

  controlMessage(text: string): void {
    this.calls.push({ name: 'controlMessage', text })
  }

  controlMessagesMissed(): void {
    this.calls.push({ name: 'controlMessagesMissed' })
  }

  onError(error: unknown): void {
    this.#errors.push(error)
  }
}

/** A backplane without a hub. */
export class RawNode {
  readonly backplane: Backplane
  /** The calls to its host, in order. */
  readonly calls: readonly HostCall[]
  /** The position at which it started; `null` if there is a log. */
  readonly start: { readonly epoch: string; readonly newest: number } | null
  readonly #kit: Kit
  #lastToken = 0

  constructor(backplane: Backplane, kit: Kit) {
    this.backplane = backplane
    this.#kit = kit
    const host = new RecordingHost(kit.errors)
    this.calls = host.calls
    this.start = backplane.open(host)
  }

  async ready(): Promise<void> {
    if (this.backplane.log === null) return
    await this.#kit.until(() => this.calls.some(({ name }) => name === 'resumed'), 'the backplane is ready')
    // The other nodes know of it once it has read.
    await this.read([])
  }

  get log(): BackplaneLog {
    if (this.backplane.log === null) throw new Error('the backplane has no log')
    return this.backplane.log
  }

  /** The events that its host received, without repetitions. */
  get events(): { readonly epoch: string; readonly channel: string; readonly event: BackplaneEvent }[] {
    const seen = new Set<number>()
    return this.calls.filter((call) => call.name === 'event').filter(({ event: { position } }) => !seen.has(position) && seen.add(position))
  }

  get controlMessages(): string[] {
    return this.calls.filter((call) => call.name === 'controlMessage').map(({ text }) => text)
  }

  async publish(channel: string, text: string, options?: Parameters<typeof publication>[2]): Promise<Published> {
    return this.backplane.publish(publication(channel, text, options))
  }

  /** Watches channels, if there is a log. Resolves with the names of the refused channels. */
  async watch(...channels: string[]): Promise<string[]> {
    return [...((await this.backplane.log?.watch(channels)) ?? new Map<string, Error>()).keys()]
  }

  /** Reads channels. `reached` is the number of calls to the host before the one that reports the log head as reached. */
  async read(positions: readonly ChannelPosition[], epoch = ''): Promise<History & { readonly reached: number }> {
    const token = `token ${++this.#lastToken}`
    const history = await this.log.read(token, epoch, positions)
    const at = (): number => this.calls.findIndex((call) => call.name === 'reached' && call.token === token)
    await this.#kit.until(() => at() >= 0, 'the log head of the read is reached')
    return { ...history, reached: at() }
  }

  async received(text: string): Promise<void> {
    await this.#kit.until(
      () => this.calls.some((call) => call.name === 'event' && call.event.text === text),
      `the host has received ${text}`,
    )
  }

  async receivedControlMessage(text: string): Promise<void> {
    await this.#kit.until(() => this.controlMessages.includes(text), `the host has received the control message ${text}`)
  }
}

/** A backplane that calls hooks at the first read of a channel. */
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

  publish(event: Publication): Published | Promise<Published> {
    return this.#inner.publish(event)
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
    if (this.#isDone || !positions.some((position) => position.channel === channel)) return log.read(token, epoch, positions)
    this.#isDone = true
    await watched?.()
    const [history] = await Promise.all([log.read(token, epoch, positions), reading?.()])
    await read?.()
    return history
  }
}

/** A record of the published events. */
export class Ledger {
  readonly #entries: { readonly position: number; readonly channel: string; readonly text: string }[] = []

  async publish(hub: Hub, channel: string, text: string, options?: PublishOptions): Promise<string> {
    const id = await hub.publish(channel, 'item', text, options)
    this.#entries.push({ position: positionOf(id), channel, text })
    return id
  }

  /** Publishes many events at once. */
  async burst(hub: Hub, channels: readonly string[], prefix: string, count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, (_, n) => this.publish(hub, channels[n % channels.length] as string, `${prefix} ${n}`)))
  }

  /** The texts of the events that were published to channels after an id, in the order of their positions. */
  after(id: string, channels?: readonly string[]): string[] {
    const wanted = this.#entries.filter(({ position, channel }) => position > positionOf(id) && (channels?.includes(channel) ?? true))
    return wanted.toSorted((a, b) => a.position - b.position).map(({ text }) => text)
  }
}

/** The position in an id. */
function positionOf(id: string): number {
  const digits = /^[0-9a-z]{10}-(\d+)\//.exec(id)?.[1]
  if (digits === undefined) throw new Error(`this is not an id of a hub: ${id}`)
  return Number(digits)
}

/** An id of the same epoch at another position. */
export function idAt(id: string, position: number): string {
  return id.replace(/-\d+/, `-${position}`)
}

/** A channel name that was not used before. */
export function freshName(): string {
  return `channel ${makeEpoch()}`
}

/** Waits until the commands of this turn have been sent. */
export async function sent(): Promise<void> {
  await turn()
}

/** Marks a promise as handled, so that its rejection is not reported as unhandled if the case fails before awaiting it. */
export function inBackground<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

/** The code of the error that a call throws or rejects with. */
export async function codeOf(call: () => unknown): Promise<unknown> {
  try {
    await call()
  } catch (error) {
    return (error as { readonly code?: unknown }).code ?? error
  }
  return 'resolved'
}
