import type { IncomingMessage } from 'node:http'
import { Hub, type HubOptions, type SubscribeOptions } from 'express-sse-hub'
import { join } from '../../lib/hub/subscribable.ts'
import { TestClient, until } from '../support/client.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { type HubApp, serveHub } from '../support/hub-app.ts'
import { stopServers } from '../support/servers.ts'

afterEach(stopServers)

interface SetUpOptions extends HubOptions {
  readonly subscribe?: SubscribeOptions
}

const setUp = ({ subscribe: options, ...hub }: SetUpOptions = {}): Promise<HubApp> => serveHub({ hub, subscribe: options })

/** An error that `onError` received, and its origin. */
interface Fault {
  readonly where: string
  readonly error: unknown
}

function recorder(): { faults: Fault[]; onError: HubOptions['onError'] } {
  const faults: Fault[] = []
  return { faults, onError: (error, { where }) => void faults.push({ error, where }) }
}

const no = new Error('no')
const fails = (): never => {
  throw no
}
const rejects = async (): Promise<never> => Promise.reject(no)

describe('onError of a hub', () => {
  it.each<[string, NonNullable<SubscribeOptions['filter']>, unknown[]]>([
    ['throws', fails, [no]],
    ['returns a promise', (async () => true) as unknown as () => boolean, [expect.objectContaining({ code: 'SSE_INVALID_FILTER' })]],
    ['returns a promise that rejects', rejects as unknown as () => boolean, [expect.objectContaining({ code: 'SSE_INVALID_FILTER' }), no]],
  ])('receives the error of a filter that %s, and other subscribers are not affected', async (_, filter, errors) => {
    const { faults, onError } = recorder()
    const { hub, app, connect, url } = await setUp({ onError })
    app.get('/filtered', (_req, res) => res.sse.subscribe(hub, ['a'], { filter }))
    const [filtered, other] = await Promise.all([(await TestClient.open(`${url}/filtered`)).live(), (await connect()).live()])
    await hub.publish('a', 'e', 1)
    await other.received(1)
    await until(() => faults.length >= errors.length, 'the fault is reported')
    expect(faults).toEqual(errors.map((error) => ({ where: 'filter', error })))
    expect(filtered.channelEvents).toEqual([])
    expect(filtered.ended).toBe(false)
  })

  it('receives the error of a deserialize that throws, and an iterator skips that event', async () => {
    const { faults, onError } = recorder()
    const hub = new Hub({ onError, deserialize: (text) => (text === '{"n":2}' ? fails() : (JSON.parse(text) as unknown)) })
    const events = hub.events(['a'])
    for (const n of [1, 2, 3]) await hub.publish('a', 'e', { n })
    expect([(await events.next()).value, (await events.next()).value]).toMatchObject([{ data: { n: 1 } }, { data: { n: 3 } }])
    expect(faults).toEqual([{ where: 'deserialize', error: no }])
  })

  it.each<[string, SubscribeOptions['snapshot'], unknown]>([
    ['throws', fails, no],
    ['rejects', rejects, no],
    ['returns no snapshot', () => 7 as unknown as { data: unknown }, expect.objectContaining({ code: 'SSE_INVALID_SNAPSHOT' })],
    ['returns data without a text form', () => ({ data: 1n }), expect.objectContaining({ code: 'SSE_INVALID_DATA' })],
  ])('receives the error of a snapshot that %s, and the client reconnects to ask again', async (_, snapshot, error) => {
    const { faults, onError } = recorder()
    const { connect } = await setUp({ onError, subscribe: { snapshot } })
    const client = await connect()
    await client.over()
    expect(faults).toEqual([{ where: 'snapshot', error }])
    expect(client.events.map(({ data }) => data)).toEqual(['{"reason":"unavailable"}'])
    expect(client.retries.at(-1)).toBeGreaterThanOrEqual(1_000)
    expect(client.text).not.toContain('no')
  })

  it.each<[string, 'channels' | 'authorize' | 'subscribe']>([
    ['selects the channels', 'channels'],
    ['authorizes the clients', 'authorize'],
    ['returns the options', 'subscribe'],
  ])(
    'receives the error of a callback that %s of a route, whether it throws or rejects, and the client does not see it',
    async (_, where) => {
      const { faults, onError } = recorder()
      const { hub, app, url } = await setUp({ onError })
      for (const [path, callback] of [
        ['/throws', fails],
        ['/rejects', rejects],
      ] as const) {
        app.get(path, hub.handler({ channels: ['a'], [where]: callback as (req: IncomingMessage) => never }))
        const client = await TestClient.open(url + path)
        await client.over()
        expect([client.status, client.events.map(({ data }) => data)]).toEqual([200, ['{"reason":"unavailable"}']])
        expect(client.text).not.toMatch(/no|Error/)
      }
      expect(faults).toEqual([
        { where, error: no },
        { where, error: no },
      ])
      expect(hub.stats().refusals).toBe(2)
    },
  )

  it('is process.emitWarning by default', async () => {
    const warning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    try {
      const hub = new Hub()
      const filters = [
        fails,
        () => {
          // oxlint-disable-next-line no-throw-literal, typescript/only-throw-error -- an application may do this all the same
          throw 'a string'
        },
      ]
      for (const filter of filters) hub[join](['a'], { filter }, '').begin(new FakeConnection().asConnection)
      await hub.publish('a', 'e', 1)
      await turn()
      const warned = warning.mock.calls.map(([text, options]) => [String(text).split('\n')[0], options])
      expect(warned).toHaveLength(2)
      expect(warned).toContainEqual(['filter: Error: no', { type: 'ExpressSseHubWarning' }])
      expect(warned).toContainEqual(['filter: a string', { type: 'ExpressSseHubWarning' }])
      expect(warning.mock.calls.map(([text]) => String(text)).join()).toContain('on-error.spec.ts')
    } finally {
      warning.mockRestore()
    }
  })

  it.each<[string, HubOptions['onError']]>([
    ['throws', fails],
    // oxlint-disable-next-line typescript/no-misused-promises -- an application may do this all the same
    ['rejects', rejects],
  ])('becomes a warning if it %s itself, without effect on delivery', async (_, onError) => {
    const warning = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    try {
      const { hub, app, connect, url } = await setUp({ onError })
      app.get('/filtered', (_req, res) => res.sse.subscribe(hub, ['a'], { filter: ({ data }) => (data === 1 ? fails() : true) }))
      app.get('/fault', hub.handler({ channels: fails }))
      const [filtered, other] = await Promise.all([(await TestClient.open(`${url}/filtered`)).live(), (await connect()).live()])
      await hub.publish('a', 'e', 1)
      await hub.publish('a', 'e', 2)
      await Promise.all([filtered.received(1), other.received(2)])
      await (await TestClient.open(`${url}/fault`)).over()
      await until(() => warning.mock.calls.length >= 2, 'there are warnings')
      expect(filtered.data).toEqual([2])
      expect(other.data).toEqual([1, 2])
      expect(warning.mock.calls.map(([text, options]) => [String(text).split('\n')[0], options])).toEqual([
        ['onError: Error: no', { type: 'ExpressSseHubWarning' }],
        ['onError: Error: no', { type: 'ExpressSseHubWarning' }],
      ])
    } finally {
      warning.mockRestore()
    }
  })

  it('receives the original error object and its origin, and nothing else', async () => {
    const onError = jest.fn()
    const hub = new Hub({ onError })
    hub[join](['a'], { filter: fails }, '').begin(new FakeConnection().asConnection)
    await hub.publish('a', 'e', 1)
    await turn()
    expect(onError.mock.calls).toEqual([[no, { where: 'filter' }]])
    expect((onError.mock.calls[0] as unknown[])[0]).toBe(no)
  })
})
