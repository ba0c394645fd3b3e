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
      'fifo',
      'swap-list',
      'time-slice',
      'turn-budget',
      'drain',
      'deferred',
      'reported-promise',
      'framed-bytes',
    ],
  },
  { folder: 'event', files: ['event-id', 'event', 'timeline', 'channel-types', 'schemas'] },
  { folder: 'gzip', files: ['crc32-combiner', 'deflate', 'shared-bytes', 'gzip-body'] },
  { folder: 'log', files: ['plain-events', 'log-page', 'replay-log', 'idempotency-keys'] },
  { folder: 'backplanes', files: ['backplane', 'memory'] },
  {
    folder: 'stream',
    files: [
      'stream-end',
      'refusal',
      'event-filter',
      'subscription',
      'request',
      'client-disconnect',
      'timeouts',
      'source',
      'watchdog',
      'write-buffer',
      'output',
      'connection',
      'subscribable',
      'stream',
    ],
  },
  {
    folder: 'delivery',
    files: [
      'lockstep-group',
      'channel',
      'channel-registry',
      'control-events',
      'event-reader',
      'cursor',
      'pump',
      'snapshots',
      'sink',
      'start',
      'subscriber',
      'intake',
    ],
  },
  {
    folder: 'replica',
    files: ['replica-channel', 'hold-buffer', 'barrier-reader', 'past-epochs', 'refusals', 'replica', 'channel-warmup'],
  },
  { folder: 'express', files: ['middleware', 'handler'] },
  {
    folder: 'hub',
    files: [
      'setup-warnings',
      'counters',
      'diagnostics',
      'hub-options',
      'hub-subscription',
      'subscription-registry',
      'event-iterator',
      'pending-subscription',
      'publisher',
      'cluster-requests',
      'hub',
      'hub-constructor',
    ],
  },
  {
    folder: 'redis',
    files: ['message', 'owner-scripts', 'scripts', 'redis-client', 'redis-link', 'redis-connection', 'owner-counts', 'redis-backplane'],
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

  it('name every file', () => {
    expect(filesBelow(LIB).toSorted()).toEqual([...order].toSorted())
  })

  it.each(order)('%s imports only from what is above it', (file) => {
    const allowed = order.slice(0, order.indexOf(file))
    expect(importsOf(file).filter((to) => !allowed.includes(to))).toEqual([])
  })

  it('has no module outside this package and Node in it, but for ioredis in the entry of its own', () => {
    const core = order.filter((file) => !file.startsWith('redis/'))
    const outside = core.flatMap((file) => [...readFileSync(path.join(LIB, `${file}.ts`), 'utf8').matchAll(/from '([^.'][^']*)'/g)])
    expect(outside.map(([, name]) => name).filter((name) => !name?.startsWith('node:'))).toEqual([])
  })

  it('lists the public names one by one', () => {
    expect(readFileSync(path.join(LIB, 'index.ts'), 'utf8')).not.toMatch(/export \*/)
  })
})
