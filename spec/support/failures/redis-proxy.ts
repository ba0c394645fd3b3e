import net, { type AddressInfo } from 'node:net'

/** A connection of a hub to Redis. */
interface Link {
  readonly hub: net.Socket
  readonly redis: net.Socket
  /** True for a pub/sub connection, and false for a connection of commands and answers. */
  isSubscriber: boolean
  isDropping: boolean
}

/** A proxy between hubs and Redis that simulates failures of a network. */
export class RedisProxy {
  /** Number of lost chunks of answers. */
  lost = 0
  readonly #port: number
  readonly #server: net.Server
  readonly #links = new Set<Link>()
  #isStalled = false
  #isCut = false

  constructor(port: number) {
    this.#port = port
    this.#server = net.createServer({ noDelay: true }, (hub) => this.#join(hub))
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Drops the next answer to a command on each connection, and breaks the connection. */
  loseAnswers(): void {
    for (const link of this.#links) if (!link.isSubscriber) link.isDropping = true
  }

  /** Stops reading pub/sub messages until {@link flow}, so that they accumulate. */
  stall(): void {
    this.#isStalled = true
    for (const { isSubscriber, redis } of this.#links) if (isSubscriber) redis.pause()
  }

  flow(): void {
    this.#isStalled = false
    for (const { redis } of this.#links) redis.resume()
  }

  /** Breaks all connections, and refuses new ones until {@link mend}. */
  cut(): void {
    this.#isCut = true
    for (const { hub } of this.#links) hub.destroy()
  }

  mend(): void {
    this.#isCut = false
  }

  async close(): Promise<void> {
    for (const { hub, redis } of this.#links) {
      hub.destroy()
      redis.destroy()
    }
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #join(hub: net.Socket): void {
    if (this.#isCut) {
      hub.destroy()
      return
    }
    const redis = net.connect({ port: this.#port, host: '127.0.0.1', noDelay: true })
    const link: Link = { hub, redis, isSubscriber: false, isDropping: false }
    this.#links.add(link)
    for (const socket of [hub, redis]) {
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#links.delete(link)
        hub.destroy()
        redis.destroy()
      })
    }
    hub.on('data', (chunk) => {
      if (!link.isSubscriber && /\bsubscribe\r\n/i.test(chunk.toString('latin1', 0, 100))) link.isSubscriber = true
      redis.write(chunk)
    })
    redis.on('data', (chunk) => {
      if (link.isDropping) {
        this.lost++
        hub.destroy()
        return
      }
      hub.write(chunk)
      if (link.isSubscriber && this.#isStalled) redis.pause()
    })
  }
}
