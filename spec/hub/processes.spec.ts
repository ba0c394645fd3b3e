import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { TYPESCRIPT } from '../support/typescript.ts'

const run = promisify(execFile)
const MISSING = ['backplane SSE_BACKPLANE_MISSING']

/** The reports of hubs in another process when three clients subscribe to each. */
async function reports(...args: readonly string[]): Promise<unknown[]> {
  const { stdout } = await run(process.execPath, [...TYPESCRIPT, path.join(__dirname, '../support/cluster-hub.ts'), ...args])
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
}

describe('a hub without a backplane', () => {
  it('warns once in a worker of a cluster, at its first subscriber, but not with a MemoryBackplane', async () => {
    expect(await reports('cluster', '', 'memory')).toEqual([MISSING, []])
  })

  it('warns once under pm2, at its first subscriber, but not with a MemoryBackplane', async () => {
    expect(await reports('alone', 'pm2', 'pm2 memory')).toEqual([MISSING, []])
  })

  it('does not warn in a single process', async () => {
    expect(await reports('alone', '')).toEqual([[]])
  })
})
