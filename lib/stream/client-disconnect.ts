import { type IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'

/** Whether a response belongs to an HTTP/2 stream: its socket must not be touched then. */
export function isHttp2(res: ServerResponse): boolean {
  return http2StreamOf(res) !== undefined
}

/** Whether the response cannot take another byte. */
export function isUnwritable(res: ServerResponse): boolean {
  const stream = http2StreamOf(res)
  return res.writableEnded || (stream === undefined ? res.destroyed : stream.destroyed || stream.closed)
}

/** Whether the client is gone: also when the response never got its turn on the connection. */
export function isDisconnected(req: IncomingMessage, res: ServerResponse): boolean {
  if (isUnwritable(res)) return true
  return !isHttp2(res) && (res.socket ?? req.socket).destroyed
}

/**
 * Calls `listener` once when the response is over, however it came to that, and keeps a late write error from being
 * thrown. Only the response's own 'close' tells: the request's comes as soon as its body was read.
 */
export function onDisconnect(req: IncomingMessage, res: ServerResponse, listener: () => void): void {
  res.on('error', ignore)
  const stream = http2StreamOf(res)
  if (stream !== undefined) onStreamGone(res, stream, listener)
  else if (res.socket === null) onPipelinedGone(res, req.socket, listener)
  else res.on('close', listener)
}

/** Whether the response waits for an earlier one on its connection. It has no socket yet, and gets it in its turn. */
export function isPipelined(req: IncomingMessage, res: ServerResponse): boolean {
  return res instanceof ServerResponse && res.socket === null && req.socket instanceof Socket
}

/** Settles when the turn of a {@link isPipelined pipelined} response has come (`true`), or its connection is gone (`false`). */
export function whenTurn(req: IncomingMessage, res: ServerResponse): Promise<boolean> {
  return new Promise((resolve) => {
    res.once('socket', () => resolve(true))
    onPipelinedGone(res, req.socket, () => resolve(false))
  })
}

function onStreamGone(res: ServerResponse, stream: ServerHttp2Stream, listener: () => void): void {
  const gone = (): void => {
    res.off('close', gone)
    stream.off('aborted', aborted)
    listener()
  }
  const aborted = (): void => {
    // Reset without an error, an HTTP/2 stream waits for what it still has to write, which nobody takes any more.
    stream.destroy()
    gone()
  }
  res.on('close', gone)
  stream.on('aborted', aborted)
}

/** A pipelined response has no socket yet, and on Node 20 never closes when the connection does. */
function onPipelinedGone(res: ServerResponse, socket: Socket, listener: () => void): void {
  const gone = (): void => {
    res.off('close', gone)
    socket.off('close', gone)
    listener()
  }
  res.on('close', gone)
  // One connection may carry many pipelined requests: that is no leak to warn of.
  const most = socket.getMaxListeners()
  if (most !== 0) socket.setMaxListeners(Math.max(most, socket.listenerCount('close') + 2))
  socket.on('close', gone)
}

/** The HTTP/2 stream of a response; `undefined` on HTTP/1. */
export function http2StreamOf(res: ServerResponse): ServerHttp2Stream | undefined {
  return res instanceof ServerResponse ? undefined : (res as { stream?: ServerHttp2Stream }).stream
}

function ignore(): void {}
