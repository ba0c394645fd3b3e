import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { TYPESCRIPT } from '../support/typescript.ts'

const run = promisify(execFile)

/** What a hub of another process reports when three clients subscribe to it. */
async function reports(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string[]> {
  const { pm_id: _, ...own } = process.env
  const { stdout } = await run(process.execPath, [...TYPESCRIPT, path.join(__dirname, '../support/cluster-hub.ts'), ...args], {
    env: { ...own, ...env },
  })
  return stdout.trim().split('\n')
}

describe('a hub without a backplane', () => {
  it.each<[string, readonly string[], NodeJS.ProcessEnv]>([
    ['in a worker of a cluster', ['cluster'], {}],
    ['under pm2', ['alone'], { pm_id: '0' }],
  ])('warns once, at its first subscriber, %s', async (_where, args, env) => {
    expect(await reports(args, env)).toEqual(['backplane SSE_BACKPLANE_MISSING', 'done'])
  })

  it.each<[string, readonly string[], NodeJS.ProcessEnv]>([
    ['in a process of its own', ['alone'], {}],
    ['in a worker, where it has a MemoryBackplane of its own accord', ['cluster', 'memory'], {}],
    ['under pm2, where it has one', ['alone', 'memory'], { pm_id: '0' }],
  ])('does not warn %s', async (_where, args, env) => {
    expect(await reports(args, env)).toEqual(['done'])
  })
})
