import type { ErrorContext } from '../basics/on-error.ts'
import type { ReplayBounds } from '../log/replay-options.ts'

/** What is published, as a backplane takes it. Everything in it was checked. */
export interface Publication {
  readonly channel: string
  readonly event: string
  /** The payload: a string as it is, anything else serialised. */
  readonly text: string
  /** Whether the payload is a string as it is. */
  readonly isString: boolean
  /** In a channel that keeps the latest of each key: the key of this event. */
  readonly key: string | undefined
  /** By which the same event, published again, is recognised for as long as the channel's log reaches back. */
  readonly idempotencyKey: string | undefined
  /** The bounds of the channel's log. */
  readonly bounds: ReplayBounds
}

/** Where an event was stored. */
export interface Published {
  readonly epoch: string
  readonly position: number
  /** `false` where the idempotency key was known: then it is the place of the first event, and nothing was stored. */
  readonly isNew: boolean
}

/** An event as it was stored. */
export interface BackplaneEvent {
  readonly position: number
  /**
   * Position of the channel's previous event, or the log's floor if that event is gone. A receiver already at or past `prev`
   * has no gap. A backplane without a log gives 0.
   */
  readonly prev: number
  readonly event: string
  readonly text: string
  readonly isString: boolean
  readonly key: string | undefined
}

/** A channel, and the position up to which it is known. */
export interface ChannelPosition {
  readonly channel: string
  /** Events after it are asked for; 0 for all that are kept. */
  readonly after: number
}

/** The channels that an engine refuses, and its reason for each. The engine has answered: its connection is sound. */
export type Refused = ReadonlyMap<string, Error>

/** What is kept of a channel. */
export interface ChannelHistory {
  /** Why the engine does not let the channel be read; then the rest says nothing. */
  readonly refusal?: Error
  /** Every event after this position, and after the one that was asked for, is in {@link events}; before it some may be gone. */
  readonly floor: number
  readonly events: readonly BackplaneEvent[]
}

/** What is kept of channels, at one moment in the order of all events. */
export interface History {
  readonly epoch: string
  /** The moment: later than every event in it, and before every one that follows. */
  readonly newest: number
  /** In the order in which they were asked for. */
  readonly channels: readonly ChannelHistory[]
}

/**
 * The calls by which a backplane informs its hub. None of these throws, and each may be called from within the hub's own calls.
 *
 * Events and {@link reached} come in one total order, the same for every process: that of the positions. After
 * `interrupted()` and before `resumed()` nothing comes.
 */
export interface BackplaneHost {
  /** An event of a channel that is watched. The same one may come again. */
  event(epoch: string, channel: string, event: BackplaneEvent): void
  /** All events before the read that was given this token were told. */
  reached(token: string): void
  /** Events may be missing from now on, until the channels that are watched have been read. */
  interrupted(): void
  /** Events come again, of all channels that are watched. The refused ones are not watched any more. */
  resumed(refused: Refused): void
  /** A text that a process sent. */
  controlMessage(text: string): void
  /** Vital signals were sent that this process did not receive, and cannot receive any more. */
  controlMessagesMissed(): void
  /** Is told of what has no caller: the engine is away, or an event in it cannot be read. */
  onError(error: unknown, context: ErrorContext): void
}

/**
 * Whether a stream of an owner was counted: `'full'` where this process alone has as many as there may be; `'maybe-full'` where
 * it has them together with other processes, of which one may have died and not be known to have.
 */
export type Acquired = 'counted' | 'full' | 'maybe-full'

/**
 * The log of a backplane that is shared by processes, and outlives each of them.
 *
 * Every promise settles within {@link timeoutMs}. It rejects with `SSE_BACKPLANE_UNAVAILABLE` while the engine is away.
 */
export interface BackplaneLog {
  /** How long the engine may take to answer, in milliseconds. */
  readonly timeoutMs: number
  /** How often the hub asks whether events still come, and whether it has them all, in milliseconds. */
  readonly probeMs: number
  /**
   * Tells the host of the events of these channels from now on, also after an interruption. When it resolves, they are
   * watched: what is published after that is told. It may only reject when the connection is interrupted as well; they are
   * watched, or refused, when that is over.
   *
   * It resolves with the channels that the engine refuses. They are not watched, and may be asked for again. A refusal must
   * concern no other channel.
   */
  watch(channels: readonly string[]): Promise<Refused>
  /** Ends {@link watch}. */
  unwatch(channels: readonly string[]): void
  /**
   * Reads what is kept of channels that are watched, all at one moment. Once the host was told of everything before that
   * moment, it is told `reached(token)`; that may be before the promise resolves, or after.
   *
   * A place belongs to an epoch: where the log has another one, all that it keeps is read.
   */
  read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History>
  /** Begins anew with the engine, because it seems to be deaf. `interrupted()` follows, and `resumed()` when it is there. */
  reconnect(): void
  /**
   * Counts one more stream of an owner, unless all processes together already have `max` of them. The streams of a process
   * that died must not count for longer than three times its {@link probeMs}. Where it rejects, the stream is counted as soon
   * as the engine can.
   */
  acquire(owner: string, max: number): Promise<Acquired>
  /** A stream of the owner has ended, whether it was counted already or is still to be. */
  release(owner: string): void
}

/**
 * What a hub asks of the engine that carries its events: to give each its position in one order, to store it and to tell of
 * it as one step, and to carry small signals between processes. A backplane belongs to one hub.
 *
 * After `close()` every call rejects with `SSE_BACKPLANE_UNAVAILABLE`, and the host is told nothing.
 */
export interface Backplane {
  /**
   * The log that processes share. `null`: there is none, and the hubs' own logs are all there is; then the host is told of
   * every event of every channel from `open` on, each before its `publish` returns.
   */
  readonly log: BackplaneLog | null
  /** Names this process among those that share the backplane. */
  readonly processId: string
  /** Begins. Called once, by the hub. Without a log it returns the place at which it begins. */
  open(host: BackplaneHost): { readonly epoch: string; readonly newest: number } | null
  /**
   * Gives an event the next position, stores it and tells of it: all or nothing. It may answer at once.
   *
   * A rejection with `SSE_BACKPLANE_UNAVAILABLE` may come after the event was stored, where the answer was lost.
   */
  publish(publication: Publication): Published | Promise<Published>
  /**
   * Carries a text to every process, this one too. It may be lost on the way to a process.
   *
   * @param isVital whether a process that did not receive it must receive it later, or else `controlMessagesMissed`.
   * @returns the ids of the processes that should hear it.
   */
  broadcast(text: string, isVital: boolean): Promise<readonly string[]>
  /** Carries a text to one process. It may be lost. */
  send(processId: string, text: string): void
  /** Ends it. Called again it does nothing. */
  close(): Promise<void>
}
