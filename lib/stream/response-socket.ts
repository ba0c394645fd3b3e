import { ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'

/** The HTTP/2 stream of a response; `undefined` on HTTP/1. */
export function http2StreamOf(res: ServerResponse): ServerHttp2Stream | undefined {
  return res instanceof ServerResponse ? undefined : (res as { stream?: ServerHttp2Stream }).stream
}

/** Whether a response belongs to an HTTP/2 stream. Its socket must not be touched then. */
export function isHttp2(res: ServerResponse): boolean {
  return http2StreamOf(res) !== undefined
}

/** The socket that a response is sent to; `null` while a pipelined response waits for its turn, and without a real socket. */
export function socketOf(res: ServerResponse): Socket | null {
  return isRealSocket(res.socket) ? res.socket : null
}

/** Whether a socket is a real socket of Node. Tools that call an app without a server pass other objects. */
export function isRealSocket(socket: unknown): socket is Socket {
  return socket instanceof Socket
}

/** Whether the server of a socket accepts no more connections. */
export function isServerClosed(socket: Socket): boolean {
  const { server } = socket as Socket & { readonly server?: { readonly listening?: boolean } | null }
  return server?.listening === false
}

/** The bytes that a response holds. A mocked response counts as 0, because it lacks the state that the getter of Node 24 needs. */
export function unsentBytes(res: ServerResponse): number {
  const isMocked = !isHttp2(res) && (res as { readonly outputSize?: number }).outputSize === undefined
  return isMocked ? 0 : res.writableLength
}
