import express, { type Request, type Response } from 'express'
import {
  Hub,
  type HubOptions,
  sseMiddleware,
  type SseMiddlewareOptions,
  type SseStream,
  type SubscribeOptions,
  type Subscription,
} from 'express-sse-hub'
import { TestClient } from './client.ts'
import { serve } from './servers.ts'

export interface HubAppOptions {
  readonly hub?: HubOptions | undefined
  readonly sse?: SseMiddlewareOptions | undefined
  /** The options of each subscription. By default, they have the owner of the query parameter `owner`. */
  readonly subscribe?: SubscribeOptions | ((req: Request) => SubscribeOptions) | undefined
  readonly factory?: typeof express | undefined
  /** Runs first in the app, before the middleware. */
  readonly wrap?: ((res: Response) => void) | undefined
  /** Runs before each client is subscribed. */
  readonly onStream?: ((stream: SseStream, req: Request) => unknown) | undefined
}

/**
 * Serves an app with one route, `/`, which subscribes each client to a hub: to the channels of the query parameter `channels`, or
 * to `a`. Returns the hub, the app, functions that connect clients, and the streams in the order of their requests.
 */
export async function serveHub({ hub: hubOptions, sse, subscribe = {}, factory = express, wrap, onStream }: HubAppOptions = {}) {
  const hub = new Hub(hubOptions)
  const app = factory()
  const requests: Request[] = []
  const responses: Response[] = []
  const streams: SseStream[] = []
  const subscriptions: Subscription[] = []
  app.use((_req, res, next) => {
    wrap?.(res)
    next()
  })
  app.use(sseMiddleware(sse))
  app.all('/', async (req, res) => {
    requests.push(req)
    responses.push(res)
    streams.push(res.sse)
    if (onStream !== undefined) await onStream(res.sse, req)
    const { channels = 'a', owner } = req.query as Record<string, string | undefined>
    const options = typeof subscribe === 'function' ? subscribe(req) : { owner, ...subscribe }
    subscriptions.push(await res.sse.subscribe(hub, channels.split(','), options))
  })
  const { url, server, port } = await serve(app)
  /** @param query the query of the request, such as `channels=a,b&owner=u`. */
  const connect = (query = '', lastEventId = '', method = 'GET'): Promise<TestClient> =>
    TestClient.open(`${url}/?${query}`, { method, headers: lastEventId === '' ? {} : { 'last-event-id': lastEventId } })
  /** Connects a client and waits until it is live. */
  const live = async (query?: string, lastEventId?: string): Promise<TestClient> => (await connect(query, lastEventId)).live()
  return { hub, app, url, server, port, requests, responses, streams, subscriptions, connect, live }
}

export type HubApp = Awaited<ReturnType<typeof serveHub>>
