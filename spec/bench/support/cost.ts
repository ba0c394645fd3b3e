import type { PublishOrder } from '../servers/server-process.ts'
import type { Rig } from './rig.ts'
import type { BenchContext } from './scenario.ts'

/**
 * Publishes to the connected clients: first some turns to warm up, and immediately afterwards the turns that are measured.
 *
 * @returns CPU seconds of the server per million deliveries.
 */
export async function costOf(
  { server, clients }: Rig,
  { machine }: BenchContext,
  order: PublishOrder,
  warmUpTurns: number,
): Promise<number> {
  return machine.during(async () => {
    await server.publish({ ...order, turns: warmUpTurns })
    const before = await clients.reach(server)
    const cpu = server.cpu()
    await server.publish(order)
    const spent = server.cpu() - cpu
    const after = await clients.reach(server)
    return (spent * 1e6) / (after.deliveries - before.deliveries)
  })
}
