import type { IncomingMessage, ServerResponse } from 'node:http'
import { SseError, describeValue } from '../basics/errors.ts'
import { checkChannels, isName } from '../basics/names.ts'
import { checkFunction, checkInteger, checkOptions } from '../basics/options.ts'
import { checkSubscribeOptions, type SubscribeOptions } from '../delivery/subscribe-options.ts'
import type { ChannelName } from '../event/channel-types.ts'
import { fault, type HubCore } from '../hub/hub-core.ts'
import type { Subscribable } from '../hub/subscribable.ts'
import { isPipelined, whenTurn } from '../stream/client-disconnect.ts'
import { queryOf } from '../stream/request.ts'
import type { SseStream } from '../stream/sse-stream.ts'
import { sseMiddleware } from './middleware.ts'

declare global {
  // oxlint-disable-next-line typescript/no-namespace -- Express and its middleware extend requests through it
  namespace Express {
    // oxlint-disable-next-line typescript/no-empty-interface -- so that it exists without Express's types
    interface Request {}
  }
}

/**
 * The default type of `req` in the callbacks of a route. To use Express's own methods, declare the parameter's type:
 * `(req: Request) => …`.
 */
export type HandlerRequest = IncomingMessage &
  Express.Request & { readonly params: Readonly<Record<string, string>>; readonly query: Readonly<Record<string, unknown>> }

/** The channels of a request, and which of them it may see. */
type HandlerChannels<N extends string, R> =
  | {
      /** The channels of the route, or a function that returns those of a request. A single name works like a list of one. */
      readonly channels: N | readonly N[] | ((req: R) => N | readonly N[] | PromiseLike<N | readonly N[]>)
      /**
       * Returns whether a request may see a channel and its replay. Any value but `true` refuses the whole request with 403. It is called
       * for every channel, also for those that the route names, right before the subscription.
       */
      readonly authorize?: ((req: R, channel: N) => boolean | PromiseLike<boolean>) | undefined
    }
  | {
      /** Without `channels`, the client names them in the query: `?channel=a&channel=b`. */
      readonly channels?: undefined
      /** Returns whether a request may see a channel. It is required, because the client names the channels. */
      readonly authorize: (req: R, channel: N) => boolean | PromiseLike<boolean>
    }

/** Options of {@link Hub.handler}. */
export type HandlerOptions<C extends object, N extends ChannelName<C> = ChannelName<C>, R = HandlerRequest> = HandlerChannels<N, R> & {
  /** The most channels that a client may name. A request for more is answered with 400. Default 20. */
  readonly maxChannels?: number | undefined
  /** The options of the subscription, or a function that returns those of a request. */
  readonly subscribe?: SubscribeOptions<C, N> | ((req: R) => SubscribeOptions<C, N> | PromiseLike<SubscribeOptions<C, N>>) | undefined
}

/** The result of {@link Hub.handler}: a handler for Express. */
export type SseHandler = (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void

/** Makes a route that subscribes each request to channels of a hub. */
export function makeHandler<C extends object, N extends ChannelName<C>, R>(
  hub: Subscribable<C> & Pick<HubCore, typeof fault>,
  options: HandlerOptions<C, N, R>,
): SseHandler {
  if (options === undefined) {
    throw new TypeError('handler: options must be an object, got undefined; the options are channels, authorize, maxChannels, subscribe')
  }
  checkOptions('handler', options, ['channels', 'authorize', 'maxChannels', 'subscribe'])
  const { channels, subscribe } = options
  const authorize = checkFunction('handler: authorize', options.authorize, undefined)
  const maxChannels = checkInteger('handler: maxChannels', options.maxChannels, 20, { min: 1 })
  if (channels === undefined && authorize === undefined) {
    throw new TypeError('handler: without channels the client names them, so authorize(req, channel) must say which of them it may see')
  }
  const fixed = channels === undefined || typeof channels === 'function' ? undefined : checkChannels('handler', channels)
  if (typeof subscribe !== 'function') checkSubscribeOptions(subscribe)
  const attach = sseMiddleware()

  const namesFor = async (req: R & IncomingMessage): Promise<readonly N[]> => {
    if (fixed !== undefined) return fixed as N[]
    if (typeof channels !== 'function') return namedBy(req, maxChannels) as N[]
    const names = await ask('channels', async () => listOf<N>(await channels(req)))
    if (names.length === 0) throw new SseError('SSE_BAD_REQUEST', 'handler: there is no channel for this request to subscribe to')
    return validNames(names)
  }
  const serve = async (req: R & IncomingMessage, stream: SseStream): Promise<void> => {
    let names: readonly N[] = []
    try {
      names = await namesFor(req)
      const settings = typeof subscribe === 'function' ? await ask('subscribe', () => optionsOf(subscribe(req))) : subscribe
      // Called last, so that no time passes between the permission and the subscription.
      if (authorize !== undefined) await authorizeAll(req, names, authorize)
      await stream.subscribe(hub, names, settings)
    } catch (error) {
      if (!(error instanceof CallbackFault)) throw error
      if (isClientError(error.cause)) throw error.cause
      await stream.subscribe(hub[fault](error.cause, error.where, names), 'refused')
    }
  }
  return (req, res, next) => {
    const response = res as ServerResponse & { sse?: SseStream }
    const go = (): void => {
      const serveNow = (): Promise<void> => serve(req as R & IncomingMessage, response.sse as SseStream)
      // A pipelined request waits for its turn, so that `authorize` is called right before the request is served.
      const served = isPipelined(req, res) ? whenTurn(req, res).then((isHere) => (isHere ? serveNow() : undefined)) : serveNow()
      void served.then(undefined, next)
    }
    if (response.sse === undefined) attach(req, res, (error) => (error === undefined ? go() : next(error)))
    else go()
  }
}

/** Awaits and checks the options that a callback returns. It runs within {@link ask}, so an invalid option is a fault of the callback. */
async function optionsOf<T extends object>(given: T | PromiseLike<T>): Promise<T> {
  const options = await given
  checkSubscribeOptions(options)
  return options
}

/** The failure of a callback of the program. The client receives a refusal, and the error goes to `onError`. */
class CallbackFault {
  readonly where: string
  readonly cause: unknown

  constructor(where: string, cause: unknown) {
    this.where = where
    this.cause = cause
  }
}

/** Calls a callback of the program. If it fails, the error is a {@link CallbackFault}. */
async function ask<T>(where: string, callback: () => T | PromiseLike<T>): Promise<T> {
  try {
    return await callback()
  } catch (error) {
    throw new CallbackFault(where, error)
  }
}

async function authorizeAll<N extends string, R>(
  req: R,
  names: readonly N[],
  authorize: (req: R, channel: N) => boolean | PromiseLike<boolean>,
): Promise<void> {
  const answers: unknown[] = await ask('authorize', () => Promise.all(names.map(async (name) => authorize(req, name))))
  const refused = answers.findIndex((answer) => answer !== true)
  if (refused !== -1) throw new SseError('SSE_FORBIDDEN', `handler: this client may not see the channel ${describeValue(names[refused])}`)
}

/** The channels that a request names in its query. */
function namedBy(req: IncomingMessage, maxChannels: number): readonly string[] {
  const names = [...new Set(queryOf(req).getAll('channel'))]
  if (names.length === 0) throw new SseError('SSE_BAD_REQUEST', 'handler: the request names no channel; write ?channel=a&channel=b')
  if (names.length > maxChannels) {
    throw new SseError('SSE_BAD_REQUEST', `handler: the request names ${names.length} channels, but at most ${maxChannels} are allowed`)
  }
  return validNames(names)
}

/** Returns the names if all are valid. An invalid name is the client's error, even if a callback derived it from the request. */
function validNames<N extends string>(names: readonly N[]): readonly N[] {
  const wrong = names.findIndex((name) => !isName(name))
  if (wrong === -1) return names
  throw new SseError('SSE_BAD_REQUEST', `handler: the request asks for a channel whose name is invalid: ${describeValue(names[wrong])}`)
}

function listOf<N extends string>(names: N | readonly N[]): readonly N[] {
  return [...new Set(Array.isArray(names) ? (names as readonly N[]) : [names as N])]
}

/** Whether an error of a callback refuses the client: its `status` or `statusCode`, which Express reads too, is from 400 to 499. */
function isClientError(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false
  const { status, statusCode } = error as { readonly status?: unknown; readonly statusCode?: unknown }
  const answer = status ?? statusCode
  return typeof answer === 'number' && answer >= 400 && answer < 500
}
