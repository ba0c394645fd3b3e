import { type SseMiddlewareOptions } from 'express-sse-hub'
import type express from 'express'
import { type TestClient } from '../support/client.ts'
import { range } from '../support/hub-items.ts'
import { stopServers } from '../support/servers.ts'
import { serveHub } from '../support/hub-app.ts'

afterEach(stopServers)

const numbers = (client: TestClient): number[] => client.channelEvents.map(({ data }) => Number.parseInt(data, 10))

describe('a response that is wrapped', () => {
  async function wrapped(wrap: (res: express.Response) => void, sseOptions: SseMiddlewareOptions = {}) {
    const { hub, streams, connect } = await serveHub({ wrap, sse: sseOptions })
    return { hub, client: await connect(), streams }
  }

  it('by something that returns nothing from write receives everything', async () => {
    const { hub, client } = await wrapped((res) => {
      const write = res.write.bind(res) as (chunk: unknown) => boolean
      res.write = ((chunk: unknown) => void write(chunk)) as unknown as typeof res.write
    })
    for (const n of range(1, 5)) {
      await hub.publish('a', 'item', n)
      await client.received(n)
    }
    expect(numbers(client)).toEqual([1, 2, 3, 4, 5])
  })

  it('by something whose write throws ends, reports the error, and settles the pending sends', async () => {
    const reported: unknown[] = []
    let broken = false
    const { hub, client, streams } = await wrapped(
      (res) => {
        const write = res.write.bind(res) as (chunk: unknown) => boolean
        res.write = (chunk: unknown) => {
          if (broken) throw new Error('broken')
          return write(chunk)
        }
      },
      { onError: (error, { where }) => reported.push(`${where}: ${String(error)}`) },
    )
    await client.live()
    broken = true
    expect(await streams[0]?.send('x')).toBe(false)
    expect(reported).toEqual(['response: Error: broken'])
    expect(hub.channel('a').subscriberCount).toBe(0)
  })

  it('by something whose end throws is destroyed, and the error is reported', async () => {
    const reported: unknown[] = []
    const { client, streams } = await wrapped(
      (res) => {
        res.end = () => {
          throw new Error('broken')
        }
      },
      { onError: (error, { where }) => reported.push(`${where}: ${String(error)}`) },
    )
    await client.live()
    streams[0]?.close()
    await client.over()
    expect(reported).toEqual(['response: Error: broken'])
  })
})
