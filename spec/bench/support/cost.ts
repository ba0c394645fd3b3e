import type { PublishOrder } from '../servers/server-process.ts'
import type { Rig } from './rig.ts'
import type { BenchContext } from './scenario.ts'

export interface Cost {
  /** CPU seconds of the server per million deliveries. */
  readonly perMillion: number
  readonly deliveries: number
}

/** Publishes to the clients that are connected: some turns to warm up, and at once those that are counted. */
export async function costOf({ server, clients }: Rig, { machine }: BenchContext, order: PublishOrder, warmUpTurns: number): Promise<Cost> {
  return machine.during(async () => {
    await server.publish({ ...order, turns: warmUpTurns })
    const before = await clients.reach(server)
    const cpu = server.cpu()
    await server.publish(order)
    const spent = server.cpu() - cpu
    const after = await clients.reach(server)
    const deliveries = after.deliveries - before.deliveries
    return { perMillion: (spent * 1e6) / deliveries, deliveries }
  })
}
