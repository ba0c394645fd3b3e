import type { ServerOptions } from '../servers/bench-server.ts'
import { Load } from './load.ts'
import { Server, type ServerName } from './server.ts'

/** A server and the client processes that connect to it. */
export interface Rig {
  readonly name: ServerName
  readonly server: Server
  readonly clients: Load
}

/** Description of a rig. */
export interface RigOrder {
  readonly name: ServerName
  readonly options?: ServerOptions
  /** Number of client processes. Default: 1. */
  readonly processes?: number
}

/** Starts servers and clients for an action, and stops them even if the action fails. */
export async function withRigs<T>(orders: readonly RigOrder[], action: (rigs: readonly Rig[]) => Promise<T>): Promise<T> {
  const started: { stop(): Promise<void> }[] = []
  const keep = async <S extends { stop(): Promise<void> }>(starting: Promise<S>): Promise<S> => {
    const one = await starting
    started.push(one)
    return one
  }
  try {
    const rigs = await Promise.all(
      orders.map(async ({ name, options, processes = 1 }): Promise<Rig> => ({
        name,
        server: await keep(Server.start(name, options)),
        clients: await keep(Load.start(processes)),
      })),
    )
    return await action(rigs)
  } finally {
    for (const each of started.toReversed()) await each.stop()
  }
}

/** Starts one server and its clients for an action, as {@link withRigs} does. */
export async function withRig<T>(order: RigOrder, action: (rig: Rig) => Promise<T>): Promise<T> {
  return withRigs([order], async ([rig]) => action(rig as Rig))
}
