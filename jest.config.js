const { readdirSync, readFileSync } = require('node:fs')
const path = require('node:path')

const SPEC = path.join(__dirname, 'spec')
const isLong = process.env.LONG === '1'
/** Specs that take minutes, or measure memory: they run in `npm run test:long` alone. */
const LONG = ['memory', 'stream/slow-client', 'package', 'redis/failures', 'redis/failures-unreachable', 'demo/demo-jobs']

/** The long run has those, and in full all specs that `npm test` runs at a smaller size, or without a browser. */
function longRun() {
  const files = readdirSync(SPEC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.spec.ts'))
  const hasMore = (file) => /\/support\/(?:scale|chromium)\.ts'/.test(readFileSync(path.join(SPEC, file), 'utf8'))
  return files.filter((file) => LONG.includes(file.replace(/\.spec\.ts$/, '')) || hasMore(file)).map((file) => `<rootDir>/spec/${file}`)
}

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: 'node',
  testMatch: isLong ? longRun() : ['<rootDir>/spec/**/*.spec.ts'],
  testPathIgnorePatterns: isLong ? [] : LONG.map((name) => `/spec/${name}\\.spec\\.ts$`),
  transform: {
    '\\.ts$': ['@swc/jest', { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, module: { type: 'commonjs' } }],
  },
  moduleNameMapper: { '^express-sse-hub$': '<rootDir>/lib/index.ts', '^express-sse-hub/redis$': '<rootDir>/lib/redis.ts' },
  // Every stream that a server of the suite sends is scanned.
  setupFilesAfterEnv: ['<rootDir>/spec/support/wire-scan.ts'],
  globalSetup: '<rootDir>/spec/support/redis-setup.ts',
  // One more than the two cores of a small machine, because many specs wait for servers, clocks and clients.
  maxWorkers: 3,
  // What earlier files left behind would make every collection of garbage slow.
  workerIdleMemoryLimit: '400MB',
  // A hang fails in the end, and a busy machine does not.
  testTimeout: 120_000,
}
