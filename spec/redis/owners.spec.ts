import { Redis } from 'ioredis'
import { TestClient, until } from '../support/client.ts'
import { HubProcesses } from '../support/failures/hub-processes.ts'
import { deleteKeys, describeRedis, freshPrefix, REDIS_URL } from '../support/redis.ts'

const PROBE_MS = 300
const ALIVE_MS = 3 * PROBE_MS

describeRedis('the streams of an owner in a process that is killed', () => {
  const pool = new HubProcesses()
  const prefix = freshPrefix()
  const redis = new Redis(REDIS_URL, { lazyConnect: true })
  const nowMs = async (): Promise<number> => {
    const [seconds, microseconds] = await redis.time()
    return Number(seconds) * 1_000 + Math.floor(Number(microseconds) / 1_000)
  }

  afterAll(async () => {
    await pool.stop()
    await deleteKeys([prefix])
    redis.disconnect()
  })

  it('count for three more probes, and clients that they keep out come back soon', async () => {
    const processes = await pool.take(2)
    const order = { url: REDIS_URL, options: { prefix, probeMs: PROBE_MS }, maxSubscribersPerOwner: 1 }
    const [port, other] = (await Promise.all(processes.map((each) => each.ask('begin', order)))) as [number, number]
    await until(() => processes.every(({ progress }) => progress.isHealthy), 'both hubs are healthy')
    const open = (at: number): Promise<TestClient> => TestClient.open(`http://127.0.0.1:${at}/events?channel=c&owner=u`)
    await (await open(port)).live()
    const [name = ''] = await redis.hkeys(`{${prefix}}:owner:u`)

    // The process of the stream knows that it is open, so the refusal is the usual one.
    const refusedHere = await open(port)
    await refusedHere.over()
    expect(refusedHere.retries.at(-1)).toBeGreaterThanOrEqual(10_000)

    await pool.kill(processes[0]!)
    const killedAt = await nowMs()
    const countsUntil = Number(await redis.zscore(`{${prefix}}:processes`, name))
    expect(countsUntil - killedAt).toBeLessThanOrEqual(ALIVE_MS)
    // Another process cannot know, and refuses for exactly as long as the streams count.
    let refused = 0
    for (let isLive = false; !isLive;) {
      const askedAt = await nowMs()
      const client = await open(other)
      await until(() => client.ended || client.named('stream-open').length > 0, 'the client is live or refused')
      isLive = !client.ended
      if (isLive) continue
      refused++
      expect(askedAt).toBeLessThanOrEqual(countsUntil)
      expect(client.retries.at(-1)).toBeGreaterThanOrEqual(1_000)
      expect(client.retries.at(-1)).toBeLessThanOrEqual(5_000)
    }
    expect(await nowMs()).toBeGreaterThan(countsUntil)
    expect(refused).toBeGreaterThan(0)
  })
})
