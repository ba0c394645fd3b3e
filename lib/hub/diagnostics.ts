import { type Channel, channel } from 'node:diagnostics_channel'
import type { ResetReason } from '../delivery/control-events.ts'
import type { RefusalReason } from '../stream/refusal.ts'

/** What the messages about streams have in common. */
interface AboutStream {
  /** The `Hub` that it is about. */
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
  /** A subscriber was told that events of `lost` were lost. `owner` is that of a stream, `undefined` in `hub.events()`. */
  readonly reset: AboutStream & { readonly lost: readonly string[]; readonly reason: ResetReason }
  /** A client was destroyed, because nothing left its full socket for `stallTimeoutMs`. */
  readonly stall: AboutStream
  /** A stream was refused. */
  readonly refuse: AboutStream & { readonly reason: RefusalReason }
  /** A subscription is over: the client left, or either side closed it. */
  readonly close: AboutStream
}

/** The diagnostics channels of this package. Nothing is made of a message that nobody listens to. */
export const diagnostics = {
  publish: named('publish'),
  subscribe: named('subscribe'),
  reset: named('reset'),
  stall: named('stall'),
  refuse: named('refuse'),
  close: named('close'),
}

function named<K extends keyof DiagnosticMessages>(name: K): Channel<unknown, DiagnosticMessages[K]> {
  return channel(`express-sse-hub:${name}`) as Channel<unknown, DiagnosticMessages[K]>
}
