import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import { RedisBackplane, type RedisConnection } from '../../lib/redis.ts'
import { deleteKeys, describeRedis, freshPrefix, REDIS_URL } from '../support/redis.ts'
import { isLong } from '../support/scale.ts'
import { casesFor, runCase } from './contract.ts'
import type { Engine } from './kit.ts'

/** @param connect creates the connection of a backplane, with a function to call after all backplanes have closed. */
function redis(connect: () => { readonly connection: RedisConnection; readonly end?: () => void }): Engine {
  const prefix = freshPrefix()
  const base = `{${prefix}}`
  const ends: (() => void)[] = []
  return {
    backplane() {
      const { connection, end } = connect()
      if (end !== undefined) ends.push(end)
      return new RedisBackplane(connection, { prefix })
    },
    async repeat(channel) {
      const client = new Redis(REDIS_URL)
      const entries = await client.xrange(`${base}:events:${await client.hget(base, 'epoch')}:${channel}`, '-', '+')
      for (const [, [, storedEvent = '']] of entries) await client.publish(`${base}:channel:${channel}`, storedEvent)
      client.disconnect()
    },
    dispose: () => {
      for (const end of ends) end()
      return deleteKeys([prefix])
    },
  }
}

function overClient(client: Redis | Redis5): ReturnType<Parameters<typeof redis>[0]> {
  return { connection: { client }, end: () => client.disconnect() }
}

/** At every change the contract runs over one version of ioredis, and in the long run over both. */
const CONNECTIONS = [
  ['a URL (ioredis 6)', () => ({ connection: { url: REDIS_URL } })],
  ['a client of ioredis 5', () => overClient(new Redis5(REDIS_URL))],
] as const

describeRedis.each(isLong ? CONNECTIONS : CONNECTIONS.slice(0, 1))('RedisBackplane with %s', (_, connect) => {
  it.each(casesFor(['log', 'limits', 'repeats']))('$name', async (each) => {
    expect.hasAssertions()
    await runCase(each, () => redis(connect))
  })
})
