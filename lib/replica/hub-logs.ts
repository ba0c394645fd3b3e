import type { Acquired, BackplaneEvent, Refused } from '../backplanes/backplane.ts'
import type { ResumePoint } from '../delivery/cursor.ts'
import type { DeliveryEngine } from '../delivery/delivery-engine.ts'
import type { LogHead } from '../event/timeline.ts'

/**
 * Keeps the logs of a hub in step with its backplane. There are two kinds: {@link LocalLogs}, if the hub's logs are all there is, and
 * `ReplicatedLogs`, if they are copies of a log that processes share.
 */
export interface HubLogs {
  /** Whether the logs receive what is published. */
  readonly isHealthy: boolean
  /** Whether the backplane counts the streams of an owner in all processes. */
  readonly countsOwners: boolean
  /**
   * Makes channels ready for a client, and keeps them until {@link release}.
   *
   * @returns `undefined` if they are ready. Otherwise a promise of the head of the log at the time of the call, at which a client
   *   without an id begins; `undefined` for a client with an id.
   * @throws {SseError} as a rejection: `SSE_BACKPLANE_UNAVAILABLE` if the backplane did not answer in time.
   */
  prepare(names: readonly string[], from: ResumePoint): Promise<LogHead | undefined> | undefined
  /** Must be called once after each {@link prepare}, when the client's subscription has begun or will not begin. */
  release(names: readonly string[]): void
  /**
   * @returns `undefined` if the logs have everything that any process has published. Otherwise a promise that resolves when they have.
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
  /** Receives the notice that every event before a read has arrived: see `BackplaneHost`. */
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
