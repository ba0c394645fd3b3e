import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

const LIB = path.join(__dirname, '../lib')

/** A file imports only from folders above its own, or from files before it in its own. */
const LAYERS: readonly { readonly folder: string; readonly files: readonly string[] }[] = [
  {
    folder: 'basics',
    files: [
      'errors',
      'options',
      'names',
      'on-error',
      'promises',
      'fifo',
      'swap-list',
      'time-slice',
      'turn-budget',
      'drain',
      'backoff',
      'framed-bytes',
    ],
  },
  { folder: 'event', files: ['event-id', 'event', 'timeline', 'channel-types', 'schemas'] },
  { folder: 'gzip', files: ['crc32-combiner', 'deflate', 'shared-bytes', 'gzip-body'] },
  { folder: 'log', files: ['replay-options', 'log-totals', 'plain-events', 'page-chunk', 'log-page', 'replay-log', 'idempotency-keys'] },
  { folder: 'backplanes', files: ['backplane', 'memory'] },
  {
    folder: 'delivery',
    files: [
      'direct-writer',
      'lockstep-group',
      'channel',
      'channel-registry',
      'control-events',
      'cursor',
      'subscribe-options',
      'event-reader',
      'pump',
      'snapshots',
      'delivery-engine',
      'sink',
      'subscriber',
    ],
  },
  {
    folder: 'replica',
    files: ['hub-logs', 'hold-buffer', 'replica-channel', 'barrier-reader', 'channel-refusals', 'replica', 'replicated-logs'],
  },
  {
    folder: 'hub',
    files: [
      'stream-end',
      'refusal',
      'client-connection',
      'subscribable',
      'hub-options',
      'hub-stats',
      'telemetry',
      'hub-settings',
      'setup-warnings',
      'subscription-registry',
      'cluster-requests',
      'hub-context',
      'hub-subscription',
      'event-iterator',
      'pending-subscription',
      'publisher',
      'hub-core',
    ],
  },
  {
    folder: 'stream',
    files: [
      'request',
      'response-socket',
      'client-disconnect',
      'timeouts',
      'source',
      'watchdog',
      'write-buffer',
      'stall-clock',
      'output',
      'connection',
      'response-head',
      'sse-stream',
      'response-stream',
    ],
  },
  { folder: 'express', files: ['middleware', 'handler', 'routed-hub', 'hub'] },
  {
    folder: 'redis',
    files: [
      'key-schema',
      'scripts/prelude',
      'scripts/publish',
      'scripts/read',
      'scripts/broadcast',
      'scripts/missed-control-messages',
      'scripts/count-stream',
      'scripts/assert-owner-counts',
      'scripts',
      'stored-event',
      'redis-options',
      'redis-connection',
      'redis-link',
      'script-calls',
      'channel-subscriptions',
      'owner-counts',
      'control-messages',
      'redis-backplane',
    ],
  },
  { folder: '', files: ['index', 'redis'] },
]

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => path.relative(LIB, path.join(entry.parentPath, entry.name)).replace(/\.ts$/, ''))
}

function importsOf(file: string): string[] {
  const text = readFileSync(path.join(LIB, `${file}.ts`), 'utf8')
  return [...text.matchAll(/from '(\.[^']+)\.ts'/g)].map(([, to]) => path.join(path.dirname(file), to as string))
}

describe('the layers of lib', () => {
  const order = LAYERS.flatMap(({ folder, files }) => files.map((file) => path.join(folder, file)))

  it('list every file', () => {
    expect(filesBelow(LIB).toSorted()).toEqual([...order].toSorted())
  })

  it.each(order)('let %s import only from files above it in the list', (file) => {
    const allowed = order.slice(0, order.indexOf(file))
    expect(importsOf(file).filter((to) => !allowed.includes(to))).toEqual([])
  })

  it('import only from this package and Node, except for ioredis in the Redis entry', () => {
    const core = order.filter((file) => !file.startsWith('redis/'))
    const outside = core.flatMap((file) => [...readFileSync(path.join(LIB, `${file}.ts`), 'utf8').matchAll(/from '([^.'][^']*)'/g)])
    expect(outside.map(([, name]) => name).filter((name) => !name?.startsWith('node:'))).toEqual([])
  })

  it('export the public names one by one', () => {
    expect(readFileSync(path.join(LIB, 'index.ts'), 'utf8')).not.toMatch(/export \*/)
  })
})
