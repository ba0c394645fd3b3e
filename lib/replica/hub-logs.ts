import type { Acquired, BackplaneEvent, Refused } from '../backplanes/backplane.ts'
import type { ResumePoint } from '../delivery/cursor.ts'
import type { DeliveryEngine } from '../delivery/delivery-engine.ts'
import type { LogHead } from '../event/timeline.ts'

/**
 * Keeps the logs of a hub in step with its backplane. There are two kinds: {@link LocalLogs}, if the hub has the only logs, and
 * `ReplicatedLogs`, if its logs are copies of logs that processes share.
 */
export interface HubLogs {
  /** Whether the logs receive what is published. */
  readonly isHealthy: boolean
  /** Whether the backplane counts the streams of an owner in all processes. */
  readonly countsOwners: boolean
  /**
   * Makes channels ready for a client, and keeps them until {@link release}.
   *
   * @returns `undefined` if they are ready now, or a promise that resolves when they are. For a client without an id, it resolves with
   *   the log head at the time of the call, at which that client begins.
   * @throws {SseError} as a rejection: `SSE_BACKPLANE_UNAVAILABLE` if the backplane did not answer in time.
   */
  prepare(names: readonly string[], from: ResumePoint): Promise<LogHead | undefined> | undefined
  /** Must be called once after each {@link prepare}, when the client's subscription has begun or will not begin. */
  release(names: readonly string[]): void
  /**
   * Waits until the logs have every event that any process has published before the call.
   *
   * @returns `undefined` if they have them now, or a promise that resolves when they do.
   * @throws {SseError} as a rejection: `SSE_BACKPLANE_UNAVAILABLE` if the backplane did not answer in time.
   */
  caughtUp(): Promise<void> | undefined
  /** Notes that an event of this process was stored. */
  stored(epoch: string, position: number): void
  /** Counts one more stream of an owner: see `BackplaneLog.acquire`. */
  acquireOwner(owner: string, max: number): Promise<Acquired>
  releaseOwner(owner: string): void
  /** Receives an event of the backplane. */
  event(epoch: string, channel: string, event: BackplaneEvent): void
  /** See `BackplaneHost.reached`. */
  reached(token: string): void
  interrupted(): void
  resumed(refused: Refused): void
  close(): void
}

/** The logs of a hub whose backplane has no log of its own: every hub keeps every channel, and receives every event. */
export class LocalLogs implements HubLogs {
  readonly isHealthy = true
  readonly countsOwners = false
  readonly #engine: DeliveryEngine

  constructor(engine: DeliveryEngine) {
    this.#engine = engine
  }

  event(_epoch: string, channel: string, event: BackplaneEvent): void {
    this.#engine.append(this.#engine.channels.get(channel), event)
  }

  acquireOwner(): Promise<Acquired> {
    return Promise.resolve('counted')
  }

  prepare(): undefined {}
  release(): void {}
  caughtUp(): undefined {}
  stored(): void {}
  releaseOwner(): void {}
  reached(): void {}
  interrupted(): void {}
  resumed(): void {}
  close(): void {}
}
