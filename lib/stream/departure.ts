import { type IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'

/** Whether a response belongs to an HTTP/2 stream: its socket must not be touched then. */
export function isHttp2(res: ServerResponse): boolean {
  return http2StreamOf(res) !== undefined
}

/** Whether the response cannot take another byte. */
export function hasLeft(res: ServerResponse): boolean {
  const stream = http2StreamOf(res)
  return res.writableEnded || (stream === undefined ? res.destroyed : stream.destroyed || stream.closed)
}

/** Whether the client is gone: also when the response never got its turn on the connection. */
export function isGone(req: IncomingMessage, res: ServerResponse): boolean {
  if (hasLeft(res)) return true
  return !isHttp2(res) && (res.socket ?? req.socket).destroyed
}

/**
 * Calls `listener` once when the response is over, however it came to that, and keeps a late write error from being
 * thrown. Only the response's own 'close' tells: the request's comes as soon as its body was read.
 */
export function onGone(req: IncomingMessage, res: ServerResponse, listener: () => void): void {
  // A pipelined response has no socket yet, and on Node 20 never closes when the connection does.
  const socket = !isHttp2(res) && res.socket === null ? req.socket : null
  const stream = http2StreamOf(res)
  const gone = (): void => {
    res.off('close', gone)
    socket?.off('close', gone)
    stream?.off('aborted', aborted)
    listener()
  }
  const aborted = (): void => {
    // Reset without an error, an HTTP/2 stream waits for what it still has to write, which nobody takes any more.
    stream?.destroy()
    gone()
  }
  res.on('error', ignore)
  res.on('close', gone)
  stream?.on('aborted', aborted)
  if (socket !== null) {
    // One connection may carry many pipelined requests: that is no leak to warn of.
    const most = socket.getMaxListeners()
    if (most !== 0) socket.setMaxListeners(Math.max(most, socket.listenerCount('close') + 2))
    socket.on('close', gone)
  }
}

function http2StreamOf(res: ServerResponse): ServerHttp2Stream | undefined {
  return res instanceof ServerResponse ? undefined : (res as { stream?: ServerHttp2Stream }).stream
}

function ignore(): void {}
