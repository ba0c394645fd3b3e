import { PassThrough, Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ErrorContext, SseMiddlewareOptions } from 'express-sse-hub'
import { until } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { endless, watched } from '../support/watched.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { stopServers } from '../support/servers.ts'

afterEach(stopServers)

describe.each(EXPRESS_VERSIONS)('stream() on %s', (_name, express) => {
  const openStream = (options?: SseMiddlewareOptions) => support.openStream(express, options)

  it.each<[string, () => Iterable<unknown> | AsyncIterable<unknown>]>([
    ['an array', () => ['a', { b: 1 }, null]],
    ['a set', () => new Set(['a', { b: 1 }, null])],
    ['a generator', () => watched([], ['a', { b: 1 }, null])],
    ['a generator of promises', () => [Promise.resolve('a'), { b: 1 }, Promise.resolve(null)]],
    [
      'an async generator',
      async function* () {
        yield 'a'
        await nextTurn()
        yield { b: 1 }
        yield null
      },
    ],
    ['an object mode Readable', () => Readable.from(['a', { b: 1 }, 'null'])],
  ])('sends each item of %s, resolves true at its end, and leaves the stream open', async (_what, make) => {
    const { stream, client } = await openStream()
    expect(await stream.stream(make())).toBe(true)
    expect(stream.state).toBe('open')
    expect(await stream.send('after')).toBe(true)
    await client.received(4)
    expect(client.events.map(({ data }) => data)).toEqual(['a', '{"b":1}', 'null', 'after'])
  })

  it('sends the chunks of a Readable as they arrive', async () => {
    const { stream, client } = await openStream()
    const source = new PassThrough({ encoding: 'utf8' })
    const end = stream.stream(source)
    source.write('one')
    await client.received(1)
    source.write('two')
    await client.received(2)
    source.end()
    expect(await end).toBe(true)
    expect(client.events.map(({ data }) => data)).toEqual(['one', 'two'])
  })

  it('sends nothing for an empty source', async () => {
    const { stream, client } = await openStream()
    expect(await stream.stream([])).toBe(true)
    await stream.send('after')
    await client.received(1)
    expect(client.text).toBe('retry: 2000\ndata: after\n\n')
  })

  it('calls toEvent with each item, and sends its result', async () => {
    const { stream, client } = await openStream()
    await stream.stream([1, 2], (n) => ({ event: 'count', id: `i${n}`, retry: n, data: { n } }))
    await client.received(2)
    expect(client.events).toEqual([
      { event: 'count', id: 'i1', data: '{"n":1}' },
      { event: 'count', id: 'i2', data: '{"n":2}' },
    ])
    expect(client.retries).toEqual([2000, 1, 2])
  })

  it('sends several sources at once', async () => {
    const { stream, client } = await openStream()
    const ends = await Promise.all([stream.stream(watched([], [1, 2, 3])), stream.stream(watched([], [1, 2, 3])), stream.send(1)])
    expect(ends).toEqual([true, true, true])
    await client.received(7)
  })

  it.each<[string, unknown, string]>([
    ['a string', 'text', "'text'"],
    ['a number', 5, '5'],
    ['undefined', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a plain object', { a: 1 }, '{ a: 1 }'],
    ['a function', endless, 'endless'],
  ])('refuses %s as a source, and leaves the stream open', async (_what, source, shown) => {
    const { stream, client } = await openStream()
    await expect(stream.stream(source as string[])).rejects.toThrow(
      /must be an iterable, an async iterable, a Readable or a web ReadableStream/,
    )
    await expect(stream.stream(source as string[])).rejects.toThrow(shown)
    await stream.send('after')
    await client.received(1)
  })

  it.each<[string, unknown, RegExp]>([
    ['that is not a function', 'x', /toEvent must be a function or \{ event\?, end\? \}, got 'x'/],
    ['that returns an unknown field', () => ({ data: 1, name: 'e' }), /no field 'name'; the fields are data, event, id, retry/],
    ['that returns a promise', async () => ({ data: 1 }), /toEvent must return .* got Promise/],
    ['that returns a string', () => 'x', /toEvent must return .* got 'x'/],
    ['that returns nothing', () => {}, /toEvent must return .* got undefined/],
  ])('refuses a toEvent %s', async (_what, toEvent, message) => {
    const { stream } = await openStream()
    await expect(stream.stream(['a'], toEvent as () => { data: string })).rejects.toThrow(message)
    expect(stream.state).toBe('open')
  })

  describe('on a failure', () => {
    it.each<[string, () => Iterable<unknown> | AsyncIterable<unknown>]>([
      [
        'a generator',
        function* () {
          yield 'a'
          throw new Error('source broke')
        },
      ],
      [
        'an async generator',
        async function* () {
          yield 'a'
          throw new Error('source broke')
        },
      ],
      [
        'a Readable',
        () =>
          Readable.from(
            (function* () {
              yield 'a'
              throw new Error('source broke')
            })(),
          ),
      ],
      ['a promise in an iterable', () => ['a', Promise.reject(new Error('source broke'))]],
    ])('rejects with the error of %s, and leaves the stream open', async (_what, make) => {
      const { stream, client } = await openStream()
      await expect(stream.stream(make())).rejects.toThrow('source broke')
      expect(await stream.send('after')).toBe(true)
      await client.received(2)
      expect(client.events.map(({ data }) => data)).toEqual(['a', 'after'])
    })

    it.each<[string, () => never]>([
      [
        'throws',
        () => {
          throw new Error('toEvent broke')
        },
      ],
      ['returns unsendable data', () => ({ data: undefined }) as never],
      ['returns a forged event', () => ({ data: 'x', event: 'a\nb' }) as never],
    ])('stops the source when toEvent %s, rejects, and leaves the stream open', async (_what, toEvent) => {
      const { stream, client } = await openStream()
      const log: string[] = []
      await expect(stream.stream(watched(log), toEvent)).rejects.toThrow(/toEvent broke|data must|event must/)
      expect(log).toEqual(['started', 'returned'])
      const source = new PassThrough({ objectMode: true })
      source.write('x')
      await expect(stream.stream(source, toEvent)).rejects.toThrow(/toEvent broke|data must|event must/)
      expect(source.destroyed).toBe(true)
      await stream.send('after')
      await client.received(1)
      expect(client.text).toBe('retry: 2000\ndata: after\n\n')
    })

    it('stops a generator that yields a rejecting promise', async () => {
      const { stream } = await openStream()
      const log: string[] = []
      await expect(
        stream.stream(
          watched(
            log,
            (function* () {
              yield Promise.reject(new Error('item broke'))
            })(),
          ),
        ),
      ).rejects.toThrow('item broke')
      expect(log).toEqual(['started', 'returned'])
    })

    it("reports to onError, as the source's fault, a clean-up that fails after the client has left", async () => {
      const reports: [unknown, ErrorContext][] = []
      const { stream, client } = await openStream({ onError: (error, context) => reports.push([error, context]) })
      const end = stream.stream(
        (async function* () {
          try {
            for (let n = 0; ; n++) {
              yield n
              await nextTurn()
            }
          } finally {
            // oxlint-disable-next-line no-unsafe-finally -- the fault under test
            throw new Error('clean-up broke')
          }
        })(),
      )
      await client.received(3)
      client.leave()
      expect(await end).toBe(false)
      await until(() => reports.length > 0, 'it is reported')
      expect(reports).toEqual([[expect.objectContaining({ message: 'clean-up broke' }), { where: 'source' }]])
    })

    it('reports a Readable whose destroy throws, and still stops the other sources of the stream', async () => {
      const reports: unknown[] = []
      const { stream, client } = await openStream({ onError: (error) => reports.push(error) })
      const source = new PassThrough()
      const broken = stream.stream(source)
      source.destroy = () => {
        throw new Error('destroy broke')
      }
      const log: string[] = []
      const other = stream.stream(watched(log, [new Promise(() => {})]))
      const { signal } = stream
      client.leave()
      expect(await broken).toBe(false)
      expect(await other).toBe(false)
      expect(signal.aborted).toBe(true)
      expect(reports).toEqual([expect.objectContaining({ message: 'destroy broke' })])
    })
  })
})
