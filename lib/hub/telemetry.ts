import { type Channel, channel } from 'node:diagnostics_channel'
import type { ResetReason } from '../delivery/control-events.ts'
import type { SubscriberInfo } from './hub-options.ts'
import type { Counters } from './hub-stats.ts'
import type { RefusalReason } from './refusal.ts'

/** The fields of every message about a stream. */
interface AboutStream {
  /** The `Hub` that the message is about. */
  readonly hub: object
  readonly channels: readonly string[]
  /** The subscription's `owner`. */
  readonly owner: string | undefined
}

/** The messages of `node:diagnostics_channel`, by the name of their channel without `express-sse-hub:`. */
export interface DiagnosticMessages {
  /** An event was stored. */
  readonly publish: { readonly hub: object; readonly channel: string; readonly event: string; readonly id: string }
  /** A stream was subscribed, resuming from `lastEventId` (`''` on a first connect). */
  readonly subscribe: AboutStream & { readonly lastEventId: string }
  /** A subscriber received a `stream-reset` for the channels `lost`. `owner` is `undefined` for `hub.events()`. */
  readonly reset: AboutStream & { readonly lost: readonly string[]; readonly reason: ResetReason }
  /** A client was destroyed, because its full socket took no byte for `stallTimeoutMs`. */
  readonly stall: AboutStream
  /** A stream was refused. */
  readonly refuse: AboutStream & { readonly reason: RefusalReason }
  /** A subscription has ended: the client left, or either side closed it. */
  readonly close: AboutStream
}

const diagnostics = {
  publish: diagnosticsChannel('publish'),
  subscribe: diagnosticsChannel('subscribe'),
  reset: diagnosticsChannel('reset'),
  stall: diagnosticsChannel('stall'),
  refuse: diagnosticsChannel('refuse'),
  close: diagnosticsChannel('close'),
}

/** The counters of a hub, and its messages on `node:diagnostics_channel`. A message that nobody listens to is never created. */
export class Telemetry {
  readonly counters: Counters = { published: 0, delivered: 0, resets: 0, stalls: 0, refusals: 0 }
  readonly #hub: object

  /** @param hub the hub that the messages name. */
  constructor(hub: object) {
    this.#hub = hub
  }

  published(name: string, event: string, id: string): void {
    this.counters.published++
    if (diagnostics.publish.hasSubscribers) diagnostics.publish.publish({ hub: this.#hub, channel: name, event, id })
  }

  subscribed(stream: SubscriberInfo, lastEventId: string): void {
    if (diagnostics.subscribe.hasSubscribers) diagnostics.subscribe.publish({ ...this.#about(stream), lastEventId })
  }

  /** Reports the reset without counting it. The subscriber counts it, also for `events()`. */
  reset(stream: SubscriberInfo, lost: readonly string[], reason: ResetReason): void {
    if (diagnostics.reset.hasSubscribers) diagnostics.reset.publish({ ...this.#about(stream), lost, reason })
  }

  stalled(stream: SubscriberInfo): void {
    this.counters.stalls++
    if (diagnostics.stall.hasSubscribers) diagnostics.stall.publish(this.#about(stream))
  }

  refused(stream: SubscriberInfo, reason: RefusalReason): void {
    this.counters.refusals++
    if (diagnostics.refuse.hasSubscribers) diagnostics.refuse.publish({ ...this.#about(stream), reason })
  }

  closed(stream: SubscriberInfo): void {
    if (diagnostics.close.hasSubscribers) diagnostics.close.publish(this.#about(stream))
  }

  #about({ channels, owner }: SubscriberInfo): AboutStream {
    return { hub: this.#hub, channels, owner }
  }
}

function diagnosticsChannel<K extends keyof DiagnosticMessages>(name: K): Channel<unknown, DiagnosticMessages[K]> {
  return channel(`express-sse-hub:${name}`) as Channel<unknown, DiagnosticMessages[K]>
}
