import type { IncomingMessage } from 'node:http'
import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'

/** The key under which a session keeps the number of its event streams and the timeout that it had before the first. */
const SUSPENDED = Symbol.for('express-sse-hub.suspendedTimeout')

/** An HTTP/2 session, with the timeout that `setTimeout` sets on it. */
type Session = ServerHttp2Session & { readonly timeout?: number; [SUSPENDED]?: { streams: number; readonly timeout: number } }

/** A socket, with the server that it belongs to. */
type ServerSocket = Socket & { readonly server?: { readonly keepAliveTimeout?: number } | null }

/**
 * Turns off the timeouts that would end a silent event stream.
 *
 * @returns a function that turns them on again; `undefined` if Node does so itself. On HTTP/2, the timeout returns once every event
 *   stream of the session has called its function. On HTTP/1, Node sets the timeout of an idle connection itself, unless
 *   `keepAliveTimeout` is 0.
 */
export function suspendTimeouts(req: IncomingMessage, stream: ServerHttp2Stream | undefined): (() => void) | undefined {
  if (stream !== undefined) {
    stream.setTimeout(0)
    return suspendSession(stream.session as Session | undefined)
  }
  const socket: ServerSocket = req.socket
  if (!(socket instanceof Socket)) return undefined
  const { timeout } = socket
  socket.setTimeout(0)
  socket.setNoDelay(true)
  if (timeout === undefined || timeout === 0 || socket.server?.keepAliveTimeout !== 0) return undefined
  return () => void socket.setTimeout(timeout)
}

function suspendSession(session: Session | undefined): (() => void) | undefined {
  if (session === undefined) return undefined
  const suspended = (session[SUSPENDED] ??= { streams: 0, timeout: session.timeout ?? 0 })
  if (suspended.streams++ === 0) session.setTimeout(0)
  return () => {
    if (--suspended.streams > 0) return
    delete session[SUSPENDED]
    if (!session.destroyed) session.setTimeout(suspended.timeout)
  }
}
