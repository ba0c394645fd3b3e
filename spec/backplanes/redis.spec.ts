import { Redis } from 'ioredis'
import { RedisBackplane } from '../../lib/redis.ts'
import { deleteKeys, describeRedis, freshPrefix, REDIS_URL } from '../support/redis.ts'
import { casesFor, runCase } from './contract.ts'
import type { Engine } from './kit.ts'

function redis(): Engine {
  const prefix = freshPrefix()
  const base = `{${prefix}}`
  return {
    backplane: () => new RedisBackplane({ url: REDIS_URL }, { prefix }),
    async repeat(channel) {
      const client = new Redis(REDIS_URL)
      const entries = await client.xrange(`${base}:e:${await client.hget(base, 'e')}:${channel}`, '-', '+')
      for (const [, [, message = '']] of entries) await client.publish(`${base}:c:${channel}`, message)
      client.disconnect()
    },
    dispose: () => deleteKeys([prefix]),
  }
}

describeRedis('RedisBackplane', () => {
  it.each(casesFor(['log', 'limits', 'repeats']))('$name', async (each) => {
    expect.hasAssertions()
    await runCase(each, redis)
  })
})
