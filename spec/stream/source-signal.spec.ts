import { addAbortSignal, PassThrough, Readable } from 'node:stream'
import { ReadableStream, TextDecoderStream } from 'node:stream/web'
import { setImmediate as nextTurn, setTimeout as wait } from 'node:timers/promises'
import type { EventInput, SseStream } from 'express-sse-hub'
import { until } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

/** Starts an upstream server that sends one chunk and then waits. `open` counts its open answers. */
async function upstream() {
  const answers = { open: 0 }
  const { url } = await serve((_req, res) => {
    answers.open++
    res.on('close', () => answers.open--)
    res.write('first')
  })
  return { url, answers }
}

const decode = (bytes: Uint8Array): EventInput => ({ data: Buffer.from(bytes).toString() })

/** Sends a source that yields one item, and then waits until the signal aborts it. */
type Send = (stream: SseStream, signal: AbortSignal) => Promise<boolean>

const SOURCES: readonly (readonly [what: string, send: Send])[] = [
  [
    'the body of a fetch',
    async (stream, signal) => {
      const { url, answers } = await upstream()
      const { body } = await fetch(url, { signal })
      const isWhole = await stream.stream(body as ReadableStream<Uint8Array>, decode)
      await until(() => answers.open === 0, 'the connection of the fetch is closed')
      return isWhole
    },
  ],
  [
    'the decoded body of a fetch',
    async (stream, signal) => {
      const { url, answers } = await upstream()
      const { body } = await fetch(url, { signal })
      const isWhole = await stream.stream((body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()))
      await until(() => answers.open === 0, 'the connection of the fetch is closed')
      return isWhole
    },
  ],
  [
    'a Readable',
    (stream, signal) => {
      const source = new PassThrough({ signal })
      source.write('first')
      return stream.stream(source, decode)
    },
  ],
  [
    'a Readable with an abort signal added',
    (stream, signal) => {
      const source = addAbortSignal(signal, new Readable({ read() {} }).setEncoding('utf8'))
      source.push('first')
      return stream.stream(source)
    },
  ],
  [
    'a web stream',
    (stream, signal) =>
      stream.stream(
        new ReadableStream<string>({
          start: (controller) => {
            controller.enqueue('first')
            signal.addEventListener('abort', () => controller.error(signal.reason))
          },
        }),
      ),
  ],
  [
    'a web stream whose cancel fails because of the signal',
    (stream, signal) =>
      stream.stream(
        new ReadableStream<string>({
          start: (controller) => controller.enqueue('first'),
          cancel: () => signal.throwIfAborted(),
        }),
      ),
  ],
  [
    'an async generator',
    (stream, signal) =>
      stream.stream(
        (async function* () {
          yield 'first'
          await wait(2_000_000_000, undefined, { signal })
        })(),
      ),
  ],
]

describe.each(EXPRESS_VERSIONS)('a source that observes the signal of its stream on %s', (_name, express) => {
  const openStream = async () => {
    const reports: unknown[] = []
    return { ...(await support.openStream(express, { onError: (error) => reports.push(error) })), reports }
  }

  it.each(SOURCES)('is not reported when the client leaves: %s', async (_what, send) => {
    const { stream, client, reports } = await openStream()
    const end = send(stream, stream.signal)
    await client.received(1)
    client.leave()
    expect(await end).toBe(false)
    for (let n = 0; n < 20; n++) await nextTurn()
    expect(reports).toEqual([])
  })

  it('is not reported when the client has already left: the body of a fetch', async () => {
    const { stream, client, reports } = await openStream()
    const { url } = await upstream()
    const { body } = await fetch(url, { signal: stream.signal })
    client.leave()
    await until(() => stream.signal.aborted, 'the client has left')
    expect(await stream.stream(body as ReadableStream<Uint8Array>, decode)).toBe(false)
    for (let n = 0; n < 20; n++) await nextTurn()
    expect(reports).toEqual([])
  })

  it.each(SOURCES.filter(([what]) => !what.includes('cancel')))(
    'rejects the promise when another signal ends it while the client is connected: %s',
    async (_what, send) => {
      const { stream, client, reports } = await openStream()
      const controller = new AbortController()
      const end = send(stream, controller.signal)
      await client.received(1)
      controller.abort()
      await expect(end).rejects.toMatchObject({ name: 'AbortError' })
      expect(stream.state).toBe('open')
      expect(reports).toEqual([])
    },
  )
})
