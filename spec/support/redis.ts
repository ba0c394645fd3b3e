import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { Redis } from 'ioredis'
import { Hub, type HubOptions } from '../../lib/index.ts'
import { RedisBackplane, type RedisBackplaneOptions } from '../../lib/redis.ts'
import { until } from './client.ts'
import { freePort } from './free-port.ts'

export const REDIS_URL = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'

/** `describe` for a suite that needs Redis. The suite is skipped if there is none. */
export const describeRedis = process.env['MISSING_REDIS'] ? describe.skip : describe

/** Returns a unique prefix. */
export function freshPrefix(): string {
  return `spec-${randomUUID()}`
}

/** Makes a hub over Redis. */
export function redisHub(prefix: string, options: HubOptions = {}, backplane: RedisBackplaneOptions = {}, url = REDIS_URL): Hub {
  return new Hub({ ...options, backplane: new RedisBackplane({ url }, { prefix, ...backplane }) })
}

/** Deletes all keys with these prefixes, including keys behind a `keyPrefix`. */
export async function deleteKeys(prefixes: readonly string[], url = REDIS_URL): Promise<void> {
  const redis = new Redis(url)
  for (const prefix of prefixes) {
    for await (const keys of redis.scanStream({ match: `*{${prefix}}*`, count: 1_000 })) {
      if ((keys as string[]).length > 0) await redis.unlink(...(keys as string[]))
    }
  }
  redis.disconnect()
}

/** A redis-server of one test, which can stop, kill and restart it on the same port. */
export class RedisServer {
  readonly port: number
  readonly url: string
  readonly #args: readonly string[]
  readonly #folder = mkdtempSync(path.join(os.tmpdir(), 'sse-hub-redis-'))
  #process: ChildProcess | null = null

  private constructor(port: number, args: readonly string[]) {
    this.port = port
    this.url = `redis://127.0.0.1:${port}`
    this.#args = args
  }

  /** Starts a server. Without arguments, the server stores nothing on disk. */
  static async start(...args: string[]): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), args)
    await server.run()
    return server
  }

  /** Starts the server again after {@link kill}, with the data that it stored on disk. */
  async run(): Promise<void> {
    const kept = this.#args.length > 0 ? this.#args : ['--save', '', '--appendonly', 'no']
    const server = spawn('redis-server', ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.#folder, ...kept], {
      stdio: 'ignore',
    })
    this.#process = server
    const redis = new Redis(this.url, { retryStrategy: () => 20, maxRetriesPerRequest: null })
    redis.on('error', () => {})
    try {
      await redis.ping()
    } finally {
      redis.disconnect()
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal)
  }

  /** Kills the server, as a crash does. */
  async kill(): Promise<void> {
    const server = this.#process
    if (server === null || server.exitCode !== null || server.signalCode !== null) return
    server.kill('SIGKILL')
    await until(() => server.signalCode !== null || server.exitCode !== null, 'redis-server has ended')
  }

  /** Sends one command. */
  async command(name: string, ...args: (string | number)[]): Promise<unknown> {
    const redis = new Redis(this.url)
    try {
      return await redis.call(name, ...args)
    } finally {
      redis.disconnect()
    }
  }

  /** Kills the server, and deletes its data on disk. */
  async stop(): Promise<void> {
    this.signal('SIGCONT')
    await this.kill()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
