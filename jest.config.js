/** Runs that take minutes, for `npm run test:long`. Simulations are in both, at every change with a tenth of their lives. */
const LONG = ['memory', 'stream/slow-client', 'package', 'redis/failures', 'redis/failures-unreachable', 'demo/demo-jobs']
const SIMULATIONS = ['delivery/delivery-simulation', 'replica/replica-simulation', 'hub/latest-simulation']
const isLong = process.env.LONG === '1'

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: 'node',
  testMatch: isLong ? [...LONG, ...SIMULATIONS].map((name) => `<rootDir>/spec/${name}.spec.ts`) : ['<rootDir>/spec/**/*.spec.ts'],
  testPathIgnorePatterns: isLong ? [] : LONG.map((name) => `/spec/${name}\\.spec\\.ts$`),
  transform: {
    '\\.ts$': ['@swc/jest', { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, module: { type: 'commonjs' } }],
  },
  moduleNameMapper: { '^express-sse-hub$': '<rootDir>/lib/index.ts', '^express-sse-hub/redis$': '<rootDir>/lib/redis.ts' },
  // Every stream that a server of the suite sends is scanned.
  setupFilesAfterEnv: ['<rootDir>/spec/support/wire-scan.ts'],
  globalSetup: '<rootDir>/spec/support/redis-setup.ts',
  maxWorkers: 2,
  // What earlier files left behind would make every collection of garbage slow.
  workerIdleMemoryLimit: '400MB',
  // A hang fails in the end, and a busy machine does not.
  testTimeout: 120_000,
}
