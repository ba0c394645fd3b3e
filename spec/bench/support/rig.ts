import type { ServerOptions } from '../servers/bench-server.ts'
import { Load } from './load.ts'
import { Server, type ServerName } from './server.ts'

/** A server with the processes that connect to it. */
export interface Rig {
  readonly server: Server
  readonly clients: Load
}

export interface RigOptions {
  readonly options?: ServerOptions
  /** How many processes the clients are spread over, 1 unless given. */
  readonly processes?: number
}

/** Does something with a server and clients that are started for it, and ends them whatever happens. */
export async function withRig<T>(name: ServerName, { options, processes = 1 }: RigOptions, action: (rig: Rig) => Promise<T>): Promise<T> {
  const server = await Server.start(name, options)
  try {
    const clients = await Load.start(processes)
    try {
      return await action({ server, clients })
    } finally {
      await clients.stop()
    }
  } finally {
    await server.stop()
  }
}
