import { setTimeout as sleep } from 'node:timers/promises'
import type { PublishOrder } from '../servers/server-process.ts'
import type { LoadOptions } from './load.ts'
import type { Rig } from './rig.ts'
import type { BenchContext } from './scenario.ts'

export interface Cost {
  /** CPU seconds of the server per million deliveries. */
  readonly perMillion: number
  readonly deliveries: number
}

/** Connects clients and publishes to them: once to warm up, and then what is counted. */
export async function costOf({ server, clients }: Rig, { machine }: BenchContext, load: LoadOptions, order: PublishOrder, warmUpTurns: number): Promise<Cost> {
  await clients.connect(server, load)
  await sleep(200)
  await server.publish({ ...order, turns: warmUpTurns })
  const cost = await machine.during(async () => {
    const before = await clients.reach(server)
    const cpu = server.cpu()
    await server.publish(order)
    const after = await clients.reach(server)
    const deliveries = after.deliveries - before.deliveries
    return { perMillion: ((server.cpu() - cpu) * 1e6) / deliveries, deliveries }
  })
  await clients.report()
  return cost
}
