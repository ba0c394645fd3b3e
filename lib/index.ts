export { channelOf } from './event/event-id.ts'
export { encodeEvent } from './event/event.ts'
export { Hub } from './express/hub.ts'
export { MemoryBackplane } from './backplanes/memory.ts'
export { SseError } from './basics/errors.ts'
export { sseMiddleware } from './express/middleware.ts'
export type { AnyChannels, ChannelName, EventName, HubEvent, Payload } from './event/channel-types.ts'
export type { ResetReason } from './delivery/control-events.ts'
export type { SseErrorCode } from './basics/errors.ts'
export type { Deserialize, EventFields, EventInput, Serialize } from './event/event.ts'
export type { ErrorContext, OnError } from './basics/on-error.ts'
export type {
  Acquired,
  Backplane,
  BackplaneEvent,
  BackplaneHost,
  BackplaneLog,
  ChannelHistory,
  History,
  ChannelPosition,
  Publication,
  Published,
  Refused,
} from './backplanes/backplane.ts'
export type { AllStats, HubStats } from './hub/hub-stats.ts'
export type { DiagnosticMessages } from './hub/telemetry.ts'
export type { HubEvents, ResetEvent } from './hub/event-iterator.ts'
export type { HandlerOptions, HandlerRequest, SseHandler } from './express/handler.ts'
export type { AnyHub, HubConstructor } from './express/hub.ts'
export type {
  ChannelHandle,
  DisconnectOptions,
  DisconnectTarget,
  EventsOptions,
  HubCloseOptions,
  HubOptions,
  OwnerLimit,
  PublishOptions,
  SchemaHubOptions,
  StatsOptions,
  SubscriberInfo,
} from './hub/hub-options.ts'
export type { SseMiddleware, SseMiddlewareOptions } from './express/middleware.ts'
export type { RefusalReason } from './hub/refusal.ts'
export type { ReplayBounds, ReplayOptions } from './log/replay-options.ts'
export type { HubSchemas, SchemaChannels, SchemaInputs, SchemaIssue, StandardSchema } from './event/schemas.ts'
export type { Source, WebStream } from './stream/source.ts'
export type { CloseOptions, SseStream, StreamOptions } from './stream/sse-stream.ts'
export type { StreamEndReason } from './hub/stream-end.ts'
export type { Snapshot, SnapshotContext, SubscribeOptions, TakeSnapshot } from './delivery/subscribe-options.ts'
export type { Subscribable, Subscription } from './hub/subscribable.ts'
