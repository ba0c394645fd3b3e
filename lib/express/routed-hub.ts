import type { AnyChannels, ChannelName } from '../event/channel-types.ts'
import { HubCore } from '../hub/hub-core.ts'
import { type HandlerOptions, type HandlerRequest, makeHandler, type SseHandler } from './handler.ts'

/** The hub with its route for Express. The core of the hub knows nothing of HTTP. */
export class Hub<C extends object = AnyChannels, P extends object = C> extends HubCore<C, P> {
  /**
   * Returns a request handler that subscribes each client to the channels of the options, or to those that the client names in the
   * query and `authorize` allows. It uses `res.sse` if `sseMiddleware()` is mounted, and the middleware's defaults otherwise.
   *
   * A request for no channel, for more than `maxChannels`, or for an invalid name is answered with 400, and one for a channel that
   * the client may not see with 403. If a callback fails, `onError` is called, and the client receives a `stream-end` and
   * reconnects.
   *
   * @throws {TypeError | RangeError} for an invalid option, and if there is neither `channels` nor `authorize`. {SseError}
   *   `SSE_INVALID_CHANNEL` for an invalid name in `channels`.
   * @example
   * app.get('/events', hub.handler({ authorize: (req, channel) => channel === `user:${req.user.id}` }))
   */
  handler<N extends ChannelName<C>, R = HandlerRequest>(options: HandlerOptions<C, N, R>): SseHandler {
    return makeHandler(this, options)
  }
}
