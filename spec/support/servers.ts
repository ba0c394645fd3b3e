import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { until } from './client.ts'

export interface TestServer {
  readonly server: http.Server
  readonly url: string
  readonly port: number
}

const running: http.Server[] = []

/** Serves a handler on a free port of the loopback interface, until {@link stopServers}. */
export async function serve(handler: http.RequestListener): Promise<TestServer> {
  return listen(http.createServer(handler))
}

/** Makes a server listen on a free port of the loopback interface, until {@link stopServers}. */
export async function listen(server: http.Server): Promise<TestServer> {
  running.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { server, port, url: `http://127.0.0.1:${port}` }
}

/** Waits until a server has exactly this many connections. */
export async function connectionsLeft(server: http.Server, count: number): Promise<void> {
  let left = Infinity
  server.getConnections((_error, n) => (left = n))
  await until(() => {
    if (left !== count) server.getConnections((_error, n) => (left = n))
    return left === count
  }, `${count} connections are left`)
}

/** Closes every server that {@link serve} and {@link listen} have started, and every open connection. Call it in `afterEach`. */
export async function stopServers(): Promise<void> {
  await Promise.all(
    running.splice(0).map(
      (server) =>
        new Promise<void>((resolve) => {
          server.close(() => resolve())
          server.closeAllConnections()
        }),
    ),
  )
}
