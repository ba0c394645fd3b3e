import net, { type AddressInfo } from 'node:net'

/** A server in place of Redis. It records the time of each connection. */
export class FakeServer {
  /** Time of each connection, in milliseconds. */
  readonly times: number[] = []
  readonly #server: net.Server
  readonly #sockets = new Set<net.Socket>()

  private constructor(answer: (socket: net.Socket) => void) {
    this.#server = net.createServer((socket) => {
      this.times.push(performance.now())
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => this.#sockets.delete(socket))
      answer(socket)
    })
  }

  /** Starts a server that calls `answer` with each connection. */
  static async start(answer: (socket: net.Socket) => void): Promise<FakeServer> {
    const server = new FakeServer(answer)
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve))
    return server
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
