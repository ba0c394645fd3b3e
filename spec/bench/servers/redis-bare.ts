import type { Socket } from 'node:net'
import { Redis } from 'ioredis'
import { type BenchServer, EVENT_STREAM, type ServerOptions } from './bench-server.ts'

/** Hand-written Redis pub/sub that writes to sockets. It stores nothing, unless `stored`, and resumes nothing. */
export function makeServer({ redisUrl = '', prefix = '', stored = false }: ServerOptions): BenchServer {
  const publisher = new Redis(redisUrl)
  const subscriber = new Redis(redisUrl)
  const sockets = new Set<Socket>()
  const channel = `{${prefix}}bench`
  let id = 0
  subscriber.on('message', (_channel: string, text: string) => {
    const chunk = Buffer.from(`id: ${++id}\ndata: ${text}\n\n`)
    for (const socket of sockets) socket.write(chunk)
  })
  return {
    listener(req, res) {
      // As in the hub, a process without clients is not subscribed.
      if (sockets.size === 0) void subscriber.subscribe(channel)
      res.removeHeader('Transfer-Encoding')
      res.shouldKeepAlive = false
      res.writeHead(200, EVENT_STREAM).flushHeaders()
      sockets.add(req.socket)
      res.on('close', () => sockets.delete(req.socket))
    },
    publish: async (events) =>
      Promise.all(
        events.map(async ({ data }) => {
          const text = JSON.stringify(data)
          if (!stored) return publisher.publish(channel, text)
          return publisher.pipeline().xadd(`${channel}:log`, 'MAXLEN', '~', 1_000, '*', 'd', text).publish(channel, text).exec()
        }),
      ),
  }
}
