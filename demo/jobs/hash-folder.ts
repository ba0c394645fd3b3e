import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import type { HashProgress } from './hash-job.ts'

/**
 * Hashes every file of a folder, some files in each step. The last step has the hash of the whole folder, which equals
 * `find . -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum`.
 */
export async function* hashFolder(folder: string, filesPerStep: number): AsyncGenerator<HashProgress> {
  const names = await filesOf(folder)
  const steps = Math.max(1, Math.ceil(names.length / filesPerStep))
  const whole = createHash('sha256')
  let bytes = 0
  for (let step = 1; step <= steps; step += 1) {
    for (const name of names.slice((step - 1) * filesPerStep, step * filesPerStep)) {
      const content = await readFile(path.join(folder, name))
      bytes += content.length
      whole.update(`${createHash('sha256').update(content).digest('hex')}  ./${name}\n`)
    }
    const files = Math.min(step * filesPerStep, names.length)
    const progress = { step, steps, files, totalFiles: names.length, bytes }
    yield step === steps ? { ...progress, hash: whole.digest('hex') } : progress
  }
}

/** Lists files in the same order on every machine, so that the same files have the same hash. */
async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  return files.map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).split(path.sep).join('/')).toSorted()
}
