import { MemoryBackplane } from '../../lib/backplanes/memory.ts'
import { Hub } from '../../lib/index.ts'
import { hostWith } from '../support/backplane-host.ts'

afterEach(() => jest.useRealTimers())

describe('MemoryBackplane', () => {
  it('refuses an event if no position is left below 2^53, and does not store it', async () => {
    const lastMs = Math.floor(Number.MAX_SAFE_INTEGER / 1_000)
    jest.useFakeTimers({ now: lastMs })
    const positions: number[] = []
    const host = hostWith({ event: (_epoch, _channel, { position }) => void positions.push(position) })
    const backplane = new MemoryBackplane()
    backplane.open(host)
    const hub = new Hub({ backplane: new MemoryBackplane(backplane) })
    // The first position is 9007199254740000, and 990 more are left.
    const results = await Promise.allSettled(Array.from({ length: 1_000 }, (_, n) => hub.publish('a', 'e', n)))
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(991)
    expect(results.at(-1)).toMatchObject({
      reason: { code: 'SSE_BACKPLANE_UNAVAILABLE', message: expect.stringContaining('2^53') as string },
    })
    expect([positions.length, positions.at(-1), hub.stats().published]).toEqual([991, Number.MAX_SAFE_INTEGER - 1, 991])
    await hub.close()
  })
})
