import type { ErrorContext } from '../basics/on-error.ts'
import type { ReplayBounds } from '../log/replay-options.ts'

/** An event to publish. The hub has checked everything in it. */
export interface Publication {
  readonly channel: string
  readonly event: string
  /** The payload: a string unchanged, anything else serialised. */
  readonly text: string
  /** Whether the payload is a string. */
  readonly isString: boolean
  /** Key of the event, in a channel that keeps the latest event per key. */
  readonly key: string | undefined
  /** Identifies the event if it is published again within `bounds.maxAgeMs`, even if the log has dropped it by then. */
  readonly idempotencyKey: string | undefined
  /** The bounds of the channel's log. */
  readonly bounds: ReplayBounds
}

/** The position at which an event was stored. */
export interface Published {
  readonly epoch: string
  readonly position: number
  /** `false` if the idempotency key was known. Then nothing was stored, and the position is that of the first event. */
  readonly isNew: boolean
}

/** An event as it was stored. */
export interface BackplaneEvent {
  readonly position: number
  /**
   * Position of the channel's previous event, or the log's floor if that event is gone. A receiver already at or past `prev`
   * has no gap. A backplane without a log sets it to 0.
   */
  readonly prev: number
  readonly event: string
  readonly text: string
  readonly isString: boolean
  readonly key: string | undefined
}

/** A channel, and the position up to which the hub knows it. */
export interface ChannelPosition {
  readonly channel: string
  /** The hub asks for the events after this position; 0 asks for all that are kept. */
  readonly after: number
}

/** The channels that an engine refuses, with its reason for each. A refusal is an answer: the connection is sound. */
export type Refused = ReadonlyMap<string, Error>

/** The events that the log keeps of a channel. */
export interface ChannelHistory {
  /** The reason why the engine does not let the channel be read. If it is set, the other members have no meaning. */
  readonly refusal?: Error
  /**
   * {@link events} must contain every event after both this position and the position that was asked for. Events at or before it
   * may be missing.
   */
  readonly floor: number
  readonly events: readonly BackplaneEvent[]
}

/** The events that the log keeps of several channels, all at one log head. */
export interface History {
  readonly epoch: string
  /** The log head: a position after every event in the history, and before every event that follows. */
  readonly newest: number
  /** In the order in which the channels were asked for. */
  readonly channels: readonly ChannelHistory[]
}

/**
 * The calls by which a backplane informs its hub. None of them throws. A backplane may make each of them from within a call of
 * the hub.
 *
 * Calls of {@link event} and {@link reached} must follow one total order, the same in every process: the order of positions.
 * Between `interrupted()` and `resumed()` there must be none.
 */
export interface BackplaneHost {
  /** Delivers an event of a channel that is watched. The same event may be delivered again. */
  event(epoch: string, channel: string, event: BackplaneEvent): void
  /** All events before the read with this token have been delivered. */
  reached(token: string): void
  /** From now on events may be missing, until the hub has read the watched channels after {@link resumed}. */
  interrupted(): void
  /** Events arrive again, for all channels that are watched. The refused channels are no longer watched. */
  resumed(refused: Refused): void
  /** Delivers a control message from any process. */
  controlMessage(text: string): void
  /** This process missed vital control messages, and can no longer receive them. */
  controlMessagesMissed(): void
  /** Reports an error that belongs to no call: the engine is away, or an event from it cannot be parsed. */
  onError(error: unknown, context: ErrorContext): void
}

/**
 * Whether a stream of an owner was counted. `'full'`: this process alone has the most streams already. `'maybe-full'`: it has
 * them together with other processes, one of which may have died unnoticed.
 */
export type Acquired = 'counted' | 'full' | 'maybe-full'

/**
 * The log of a backplane. Processes share it, and it outlives each of them.
 *
 * Every promise must settle within {@link timeoutMs}. It must reject with `SSE_BACKPLANE_UNAVAILABLE` while the engine is away.
 */
export interface BackplaneLog {
  /** The time in milliseconds within which the engine must answer. */
  readonly timeoutMs: number
  /** The interval in milliseconds at which the hub checks that events arrive and that it has all of them. */
  readonly probeMs: number
  /**
   * Delivers the events of these channels to the host from now on, also after an interruption. Once the promise resolves, the
   * channels are watched: every event that is published after that must be delivered. The promise may reject only if the
   * connection is interrupted too. In that case the channels must be watched, or refused, when the interruption is over.
   *
   * It resolves with the channels that the engine refuses. They are not watched, and the hub may ask for them again. A refusal
   * must affect no other channel.
   */
  watch(channels: readonly string[]): Promise<Refused>
  /** Ends {@link watch}. */
  unwatch(channels: readonly string[]): void
  /**
   * Reads the events that the log keeps of channels that are watched, all at one log head. After the host has received every
   * event before that position, the backplane must call `reached(token)`. That may be before or after the promise resolves.
   *
   * The positions belong to `epoch`. If the log has another epoch, it must return everything that it keeps.
   */
  read(token: string, epoch: string, positions: readonly ChannelPosition[]): Promise<History>
  /**
   * Replaces the connection to the engine, because nothing seems to arrive over it. The backplane must call `interrupted()`, and
   * `resumed()` once the new connection works.
   */
  reconnect(): void
  /**
   * Counts one more stream of an owner, unless all processes together already have `max` of them. The streams of a process that
   * died must not count for longer than three times its {@link probeMs}. If the promise rejects, the stream must be counted as
   * soon as the engine can.
   */
  acquire(owner: string, max: number): Promise<Acquired>
  /** Counts one stream less of the owner, whether the stream was counted already or is yet to be. */
  release(owner: string): void
}

/**
 * The engine that carries the events of a hub. It must give each event a position in one total order, store it and announce it in
 * one step, and carry control messages between processes. A backplane belongs to one hub.
 *
 * After `close()`, every call that returns a promise must reject with `SSE_BACKPLANE_UNAVAILABLE`, every other call must do nothing, and
 * the backplane must not call the host.
 */
export interface Backplane {
  /**
   * The log that processes share, or `null` if the hubs keep the only logs. Without a log, the backplane must deliver every event of
   * every channel to every host from `open` on, each before its `publish` returns.
   */
  readonly log: BackplaneLog | null
  /** Identifies this process among those that share the backplane. */
  readonly processId: string
  /** Starts the backplane. The hub calls it once. Without a log it must return the log head at which it starts; with one, `null`. */
  open(host: BackplaneHost): { readonly epoch: string; readonly newest: number } | null
  /**
   * Gives an event the next position, stores it and announces it: all of these or none. It may return the result at once.
   *
   * It may reject with `SSE_BACKPLANE_UNAVAILABLE` although the event was stored, if the answer was lost.
   */
  publish(publication: Publication): Published | Promise<Published>
  /**
   * Sends a control message to every process, this one included. A process may not receive it.
   *
   * @param isVital whether a process that did not receive it must receive it later, or `controlMessagesMissed` instead.
   * @returns the ids of the processes that should receive it.
   */
  broadcast(text: string, isVital: boolean): Promise<readonly string[]>
  /** Sends a control message to one process, which may not receive it. */
  send(processId: string, text: string): void
  /** Closes the backplane. A second call must do nothing. */
  close(): Promise<void>
}
