import net, { type AddressInfo } from 'node:net'

/** Limit of the bytes of an answer before an early cut. */
const EARLY_BYTES = 400

/**
 * Forwards each connection to a random server, and cuts it after a random number of bytes of the answer: in the head, in a
 * line, or in a character.
 */
export class CuttingProxy {
  /** Ports of the servers. */
  ports: readonly number[] = []
  /** Average number of bytes of an answer before a cut. With `Infinity`, no connection is cut. */
  meanBytes: number
  cuts = 0
  readonly #random: () => number
  readonly #server: net.Server
  readonly #sockets = new Set<net.Socket>()

  constructor(meanBytes: number, random: () => number) {
    this.meanBytes = meanBytes
    this.#random = random
    this.#server = net.createServer({ noDelay: true }, (client) => this.#join(client))
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return (this.#server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #join(client: net.Socket): void {
    const port = this.ports[Math.floor(this.#random() * this.ports.length)]
    if (port === undefined) {
      client.destroy()
      return
    }
    const server = net.connect({ port, host: '127.0.0.1', noDelay: true })
    let left = this.#budget()
    for (const socket of [client, server]) {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => this.#sockets.delete(socket))
    }
    client.on('data', (chunk) => server.write(chunk))
    server.on('data', (chunk) => {
      if (chunk.length < left) {
        left -= chunk.length
        if (!client.write(chunk)) server.pause()
        return
      }
      this.cuts++
      client.write(chunk.subarray(0, left))
      server.destroy()
      // `end` delivers the last bytes, and a reset may lose them as well.
      if (this.#random() < 0.5) client.end()
      else client.resetAndDestroy()
    })
    client.on('drain', () => server.resume())
    client.on('close', () => server.destroy())
    server.on('close', () => client.end())
  }

  #budget(): number {
    if (this.meanBytes === Infinity) return Infinity
    if (this.#random() < 0.1) return 1 + Math.floor(this.#random() * EARLY_BYTES)
    return 1 + Math.floor(-Math.log(1 - this.#random()) * this.meanBytes)
  }
}
