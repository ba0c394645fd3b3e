import { type IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'
import { http2StreamOf, isHttp2 } from './response-socket.ts'

/** Whether the response accepts no more bytes. */
export function isUnwritable(res: ServerResponse): boolean {
  const stream = http2StreamOf(res)
  return res.writableEnded || (stream === undefined ? res.destroyed : stream.destroyed || stream.closed)
}

/** Whether the client is gone, even if its pipelined response never got its turn on the connection. */
export function isDisconnected(req: IncomingMessage, res: ServerResponse): boolean {
  if (isUnwritable(res)) return true
  return !isHttp2(res) && (res.socket ?? req.socket).destroyed
}

/**
 * Calls `listener` once when the response is over, for whatever reason, and ignores late write errors, which would be thrown without a
 * listener. It listens to the response, because the request emits 'close' as soon as its body has been read.
 */
export function onDisconnect(req: IncomingMessage, res: ServerResponse, listener: () => void): void {
  res.on('error', ignore)
  const stream = http2StreamOf(res)
  if (stream !== undefined) onHttp2Disconnect(res, stream, listener)
  else if (res.socket === null) onPipelinedDisconnect(res, req.socket, listener)
  else res.on('close', listener)
}

/** Whether the response waits for an earlier one on its connection. It has no socket until its turn. */
export function isPipelined(req: IncomingMessage, res: ServerResponse): boolean {
  return res instanceof ServerResponse && res.socket === null && req.socket instanceof Socket
}

/** Resolves with `true` when it is the turn of a {@link isPipelined pipelined} response, and with `false` if its connection closes. */
export function whenTurn(req: IncomingMessage, res: ServerResponse): Promise<boolean> {
  return new Promise((resolve) => {
    res.once('socket', () => resolve(true))
    onPipelinedDisconnect(res, req.socket, () => resolve(false))
  })
}

function onHttp2Disconnect(res: ServerResponse, stream: ServerHttp2Stream, listener: () => void): void {
  const disconnected = (): void => {
    res.off('close', disconnected)
    stream.off('aborted', aborted)
    listener()
  }
  const aborted = (): void => {
    // After a reset without an error, an HTTP/2 stream waits until its buffer has been written, which never happens.
    stream.destroy()
    disconnected()
  }
  res.on('close', disconnected)
  stream.on('aborted', aborted)
}

/** A pipelined response has no socket and, on Node 20, does not emit 'close' when the connection closes. */
function onPipelinedDisconnect(res: ServerResponse, socket: Socket, listener: () => void): void {
  const disconnected = (): void => {
    res.off('close', disconnected)
    socket.off('close', disconnected)
    listener()
  }
  res.on('close', disconnected)
  // One connection may carry many pipelined requests. Node must not warn of a leak.
  const most = socket.getMaxListeners()
  if (most !== 0) socket.setMaxListeners(Math.max(most, socket.listenerCount('close') + 2))
  socket.on('close', disconnected)
}

function ignore(): void {}
