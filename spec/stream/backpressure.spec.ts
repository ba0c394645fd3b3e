import { spawn } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Request, Response } from 'express'
import type { SseMiddlewareOptions, SseStream } from 'express-sse-hub'
import { TestClient, until, untilBlocked } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { sized } from '../support/scale.ts'
import { SOME_EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { stopServers } from '../support/servers.ts'

afterEach(stopServers)

const KIB = 'x'.repeat(1024)

/**
 * Wall time and CPU time of the process, in ms. A pause counts as the lesser of both, because wall time alone would
 * also measure the other load of the machine.
 */
function clocks(): { wall: number; cpu: number } {
  const { user, system } = process.cpuUsage()
  return { wall: performance.now(), cpu: (user + system) / 1000 }
}

describe.each(SOME_EXPRESS_VERSIONS)('backpressure on %s', (_name, express) => {
  const serveWith = (handler: (req: Request, res: Response) => unknown, options?: SseMiddlewareOptions) =>
    support.serveWith(express, handler, options)

  /** Opens a stream whose client has read the head and stopped. */
  const stalled = async (options?: SseMiddlewareOptions) => {
    const opened = await support.openStream(express, options)
    opened.client.pause()
    return opened
  }

  /** Sends one event after another without end. `sent` counts the events that had room. */
  const sendLoop = (stream: SseStream) => {
    const loop = { sent: 0, over: false, error: undefined as unknown }
    const run = async (): Promise<void> => {
      while (await stream.send(KIB)) loop.sent++
      loop.over = true
    }
    run().catch((error: unknown) => (loop.error = error))
    return loop
  }

  /** Waits until the loop is blocked although the socket is alive. */
  const blocked = async (loop: { readonly sent: number }, res: Response) =>
    untilBlocked(() => ((res.socket?.writableLength ?? 0) > 0 ? loop.sent : 0), sized(300, 100))

  it('an awaiting loop is blocked by a client that does not read, and continues when it reads', async () => {
    const { client, res, stream } = await stalled({ keepAliveMs: false })
    const loop = sendLoop(stream)
    await blocked(loop, res)
    // The high-water mark differs between versions of Node.
    expect(res.socket?.writableLength).toBeLessThan((res.socket?.writableHighWaterMark ?? 0) + 4 * KIB.length)
    const before = loop.sent
    client.resume()
    await until(() => loop.sent > before + 1000, 'the loop continues')
    expect(loop.over).toBe(false)
    client.leave()
    await until(() => loop.over, 'the loop has ended')
    expect(loop.error).toBeUndefined()
  })

  it('an awaiting loop ends when a client that does not read leaves', async () => {
    const { client, res, stream } = await stalled()
    const loop = sendLoop(stream)
    await blocked(loop, res)
    client.leave()
    await until(() => loop.over, 'the loop has ended')
    expect(stream.state).toBe('closed')
  })

  it('a client that reads nothing for `stallTimeoutMs` is destroyed, and a send that waits for room resolves false', async () => {
    const { res, stream } = await stalled({ stallTimeoutMs: 100 })
    const loop = sendLoop(stream)
    const { signal } = stream
    await until(() => loop.over, 'the loop has ended')
    expect(loop.sent).toBeGreaterThan(0)
    expect(stream.state).toBe('closed')
    expect(signal.aborted).toBe(true)
    expect(res.socket?.destroyed ?? true).toBe(true)
  })

  it('a client that reads nothing keeps its stream with `stallTimeoutMs: false`', async () => {
    const patient = await stalled({ stallTimeoutMs: false, keepAliveMs: 50 })
    const loop = sendLoop(patient.stream)
    await blocked(loop, patient.res)
    const other = await stalled({ stallTimeoutMs: 200 })
    const marker = sendLoop(other.stream)
    await until(() => marker.over, 'the marker has ended')
    expect(patient.stream.state).toBe('open')
    expect(loop.over).toBe(false)
  })

  it('a slow client that reads a little from time to time is not destroyed', async () => {
    const { client, res, stream } = await stalled({ stallTimeoutMs: 150, keepAliveMs: false })
    const loop = sendLoop(stream)
    await until(() => (res.socket?.writableLength ?? 0) > 0, 'the socket is full')
    const other = await stalled({ stallTimeoutMs: 600 })
    const marker = sendLoop(other.stream)
    // In each round the client reads some of the bytes in the kernel buffers, until bytes leave the server.
    let rounds = 0
    while (!marker.over) {
      const { sent } = loop
      client.resume()
      await until(() => loop.sent > sent, 'the client has read some bytes')
      client.pause()
      rounds++
    }
    expect(rounds).toBeGreaterThan(3)
    expect(stream.state).toBe('open')
  })

  it('more than `maxQueuedBytes` of unawaited sends destroy the stream, and later sends resolve false', async () => {
    const { client, res, stream } = await stalled({ maxQueuedBytes: 100_000, keepAliveMs: false })
    const results: Promise<boolean>[] = []
    let most = 0
    // The kernel accepts a few megabytes at most in one turn of the event loop.
    for (let i = 0; i < 20_000 && stream.state === 'open'; i++) {
      results.push(stream.send(KIB))
      most = Math.max(most, res.socket?.writableLength ?? 0)
    }
    expect(stream.state).toBe('closed')
    expect(most).toBeGreaterThan(50_000)
    expect(most).toBeLessThan(110_000)
    expect(await results.at(-1)).toBe(false)
    expect(await stream.send('x')).toBe(false)
    const settled = await Promise.all(results)
    expect(settled).toContain(true)
    expect(stream.signal.aborted).toBe(true)
    client.resume()
    await client.over()
  })

  it('a single event may be larger than `maxQueuedBytes` if nothing is queued', async () => {
    const { client, stream } = await stalled({ maxQueuedBytes: 0 })
    client.resume()
    for (let i = 0; i < 3; i++) expect(await stream.send('y'.repeat(3_000_000))).toBe(true)
    await client.received(3)
    expect(client.events.map(({ data }) => data.length)).toEqual([3_000_000, 3_000_000, 3_000_000])
  })

  it('keep-alive comments are not sent to a full socket', async () => {
    const { client, res, stream } = await stalled({ keepAliveMs: 20, stallTimeoutMs: false })
    const loop = sendLoop(stream)
    await blocked(loop, res)
    const queued = res.socket?.writableLength
    const marker = await openWith({ keepAliveMs: 20 })
    await until(() => marker.comments.length >= 5, 'the marker has received five comments')
    expect(res.socket?.writableLength).toBe(queued)
    expect(client.comments).toEqual([])
  })

  const openWith = async (options: SseMiddlewareOptions) => {
    const { url } = await serveWith((_req, res) => void res.sse.open(), options)
    return TestClient.open(url)
  }

  describe('a program that sends as fast as it can', () => {
    // The client runs in a process of its own, so that its time is not attributed to the server.
    const READER = `require('node:http').get(process.argv[1], (response) => response.on('data', () => {}))`

    it.each<[string, (stream: SseStream, count: () => void) => Promise<unknown>]>([
      [
        'with an endless generator',
        (stream, count) =>
          stream.stream(
            (function* () {
              for (;;) {
                count()
                yield 'tick'
              }
            })(),
          ),
      ],
      [
        'with an endless async generator',
        (stream, count) =>
          stream.stream(
            (async function* () {
              for (;;) {
                count()
                yield 'tick'
              }
            })(),
          ),
      ],
      [
        'in a loop that awaits every send',
        async (stream, count) => {
          while (await stream.send('tick')) count()
        },
      ],
      [
        'in a loop that awaits every comment',
        async (stream, count) => {
          while (await stream.comment('tick')) count()
        },
      ],
    ])('does not block the event loop %s', async (_what, produce) => {
      let sent = 0
      let over = false
      const { url } = await serveWith(async (_req, res) => {
        await produce(res.sse, () => sent++)
        over = true
      })
      const reader = spawn(process.execPath, ['-e', READER, url], { stdio: 'ignore' })
      await until(() => sent > 0, 'it sends')
      const pauses: number[] = []
      const enough = sent + sized(100_000, 3_000)
      const isEnough = () => sent >= enough && pauses.length >= 20
      let from = clocks()
      while (!isEnough()) {
        await nextTurn()
        const now = clocks()
        pauses.push(Math.min(now.wall - from.wall, now.cpu - from.cpu))
        from = now
      }
      let ticks = 0
      const timer = setInterval(() => ticks++, 1)
      await until(() => ticks >= 5, 'timers fire')
      clearInterval(timer)
      reader.kill()
      await until(() => over, 'the disconnect is noticed')
      pauses.sort((a, b) => a - b)
      // The longest pause is ignored, because a busy machine may have caused it.
      expect(pauses[Math.min(Math.floor(pauses.length * 0.99), pauses.length - 2)]).toBeLessThan(100)
    })
  })

  it('a client that never reads a byte does not block another', async () => {
    const count = sized(20_000, 8_000)
    const { url, port } = await serveWith(
      async (_req, res) => {
        for (let i = 0; i < count && (await res.sse.send(KIB)); i++);
        res.sse.close()
      },
      { stallTimeoutMs: false },
    )
    const idle = net.connect(port, '127.0.0.1')
    idle.on('error', () => {}).pause()
    await once(idle, 'connect')
    idle.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    const client = await TestClient.open(url)
    await client.over()
    expect(client.events).toHaveLength(count)
    idle.destroy()
  })
})
