import net, { type AddressInfo } from 'node:net'

/** What stands where Redis should be, and counts who comes. */
export class FakeServer {
  /** When each connection came, in milliseconds. */
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

  /** Starts one, that does this with each connection. */
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
