import { Hub } from 'express-sse-hub'
import { until } from '../support/client.ts'
import { turn } from '../support/fake-connection.ts'
import { stopServers } from '../support/servers.ts'
import { subscribe } from '../support/subscribe.ts'

afterEach(stopServers)

describe('20,000 subscribers', () => {
  it('are served without holding the event loop for more than 20 ms at a stretch', async () => {
    const hub = new Hub()
    const connections = Array.from({ length: 20_000 }, () => {
      return subscribe(hub, ['a'])
    })
    await until(() => connections.every(({ writes }) => writes.length === 1), 'all clients are live')
    // A clock that advances only by the cost of a write to a socket, so that a busy machine does not matter.
    let clock = performance.now()
    for (const connection of connections) connection.onWrite = () => (clock += 0.004)
    const now = jest.spyOn(performance, 'now').mockImplementation(() => clock)
    const stretches: number[] = []
    try {
      for (let round = 1; round <= 5; round++) {
        await hub.publish('a', 'item', round)
        while (connections.some(({ writes }) => writes.length <= round)) {
          const before = clock
          await turn()
          stretches.push(clock - before)
        }
      }
    } finally {
      now.mockRestore()
    }
    for (const connection of connections.filter((_, n) => n % 997 === 0)) {
      expect(connection.channelEvents.map(({ data }) => data)).toEqual(['1', '2', '3', '4', '5'])
    }
    expect(stretches.length).toBeGreaterThan(50)
    expect(Math.max(...stretches)).toBeLessThan(20)
  })
})
