import type { RequestListener } from 'node:http'

/** One event to publish. */
export interface BenchEvent {
  readonly channel: number
  /** An object whose JSON carries the sequence number. */
  readonly data: object
}

/** Interface of every server of the bench to the process that runs it. */
export interface BenchServer {
  readonly listener: RequestListener
  /** Publishes the events of one turn. It may return the id with which a client resumes after the last of them. */
  publish(events: readonly BenchEvent[]): unknown
}

/** Options of the servers. Each server uses the options that apply to it. */
export interface ServerOptions {
  readonly stallTimeoutMs?: number
  readonly compress?: boolean | 'shared'
  readonly redisUrl?: string
  readonly prefix?: string
  readonly stored?: boolean
  readonly nchanPort?: number
}

export type MakeServer = (options: ServerOptions) => BenchServer | Promise<BenchServer>

/** The channels that a request asks for: `?c=1,2`, or channel 0. */
export function channelsOf(url: string | undefined): number[] {
  const list = /[?&]c=([\d,]+)/.exec(url ?? '')?.[1]
  return list === undefined ? [0] : list.split(',').map(Number)
}

export const EVENT_STREAM = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache, no-transform', 'X-Accel-Buffering': 'no' }
