import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const ROOT = path.join(__dirname, '../../..')
// The folder is below node_modules, so that imports of packages resolve and other tools ignore it.
const FOLDER = path.join(ROOT, 'node_modules/.cache/express-sse-hub-bench', String(process.pid))

/** Folder of the files that {@link compile} makes for the processes of the bench. */
export function compiled(): string {
  return FOLDER
}

/**
 * Compiles the bench to plain JavaScript, which all its servers and clients run, and installs a copy of the built package
 * next to it, so that a build during the benchmark does not affect the measurements.
 */
export function compile(): void {
  removeCompiled()
  const installed = path.join(FOLDER, 'node_modules/express-sse-hub')
  mkdirSync(installed, { recursive: true })
  cpSync(path.join(ROOT, 'dist'), path.join(installed, 'dist'), { recursive: true })
  cpSync(path.join(ROOT, 'package.json'), path.join(installed, 'package.json'))
  writeFileSync(path.join(FOLDER, 'package.json'), '{ "type": "commonjs" }\n')
  execFileSync(
    process.execPath,
    [path.join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', path.join(__dirname, '../tsconfig.build.json'), '--outDir', FOLDER],
    {
      stdio: 'inherit',
    },
  )
}

export function removeCompiled(): void {
  rmSync(FOLDER, { recursive: true, force: true })
}
