import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const ROOT = path.join(__dirname, '../../..')
// Below node_modules, so that imports of packages are found, and nothing else looks at it.
const FOLDER = path.join(ROOT, 'node_modules/.cache/express-sse-hub-bench', String(process.pid))

/** Where {@link compile} put the files that the processes of the bench run. */
export function compiled(): string {
  return FOLDER
}

/**
 * Compiles the bench to plain JavaScript, which all its servers and clients run alike, and puts a copy of the built
 * package beside it, as if it were installed: a build meanwhile does not change what is measured.
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
