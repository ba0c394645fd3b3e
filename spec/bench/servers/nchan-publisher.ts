import net from 'node:net'
import type { BenchServer, ServerOptions } from './bench-server.ts'

/** Publishes to nginx, which serves the clients. It pipelines the requests of a turn on one connection. */
export async function makeServer({ nchanPort = 0 }: ServerOptions): Promise<BenchServer> {
  const socket = net.connect(nchanPort, '127.0.0.1')
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  socket.setNoDelay(true)
  let awaited = 0
  let settle: (() => void) | undefined
  let fail: ((error: Error) => void) | undefined
  socket.on('data', (data) => {
    // A status line arrives whole, because it is short and nginx writes one answer at a time.
    const answers = data.toString('latin1').match(/HTTP\/1\.1 \d\d\d/g) ?? []
    const refused = answers.find((answer) => !answer.startsWith('HTTP/1.1 20'))
    if (refused !== undefined) fail?.(new Error(`nginx answered ${refused}`))
    awaited -= answers.length
    if (awaited === 0) settle?.()
  })
  socket.on('close', () => fail?.(new Error('nginx closed the connection of the publisher')))
  return {
    listener: (_req, res) => void res.end(),
    publish: async (events) => {
      const requests = events.map(({ data }) => {
        const body = JSON.stringify(data)
        return `POST /publish HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
      })
      awaited = events.length
      await new Promise<void>((resolve, reject) => {
        settle = resolve
        fail = reject
        socket.write(requests.join(''))
      })
    },
  }
}
