import { fork } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'
import { until } from '../support/client.ts'
import type { Order, Report } from '../support/broadcast-server.ts'
import { TYPESCRIPT } from '../support/typescript.ts'

const EVENTS = 1_640
const EVENT_BYTES = 64_000
const BATCH = 10
const READERS = 99

/** Reads an event stream as bytes and checks that the numbers at the start of its events are consecutive. */
class Reader {
  received = 0
  faults = 0
  readonly #socket: net.Socket
  #tail = ''

  constructor(port: number, url = '/events') {
    this.#socket = net.connect(port, '127.0.0.1')
    this.#socket.on('error', () => {})
    this.#socket.write(`GET ${url} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n`)
  }

  read(): this {
    this.#socket.on('data', (chunk: Buffer) => {
      // The search is cheap: the marker is short, and the rest of an event is filler.
      const text = this.#tail + chunk.toString('latin1')
      let at = text.indexOf('data: 0')
      for (; at !== -1 && at + 14 <= text.length; at = text.indexOf('data: 0', at + 14)) {
        if (Number(text.slice(at + 6, at + 14)) !== this.received + 1) this.faults++
        this.received++
      }
      this.#tail = at === -1 ? text.slice(-6) : text.slice(at)
    })
    return this
  }

  stop(): void {
    this.#socket.destroy()
  }
}

interface Result {
  readonly peakBytes: number
  readonly faults: number
  readonly received: number[]
  readonly subscribers: number
  readonly sends: boolean[]
}

/** Publishes 105 MB to 99 clients that read, next to `stalled` clients that do not. */
async function broadcast(stalled: number): Promise<Result> {
  // The young generation is small, because garbage that awaits collection would blur the figure.
  const execArgv = ['--max-semi-space-size=1', ...TYPESCRIPT]
  const child = fork(path.join(__dirname, '../support/broadcast-server.ts'), { execArgv })
  const readers: Reader[] = []
  const ask = async (order: Order): Promise<Report> => {
    child.send(order)
    const [report] = (await once(child, 'message')) as [Report]
    return report
  }
  const report = async (): Promise<Result> => {
    const { peakBytes, subscribers, sends } = (await ask({ report: true })) as Extract<Report, { peakBytes: number }>
    return {
      peakBytes,
      subscribers,
      sends,
      faults: reading.reduce((sum, reader) => sum + reader.faults, 0),
      received: reading.map((reader) => reader.received),
    }
  }
  const reading: Reader[] = []
  try {
    const [{ port }] = (await once(child, 'message')) as [{ port: number }]
    for (let n = 0; n < READERS; n++) reading.push(new Reader(port).read())
    for (let n = 0; n < stalled; n++) readers.push(new Reader(port), new Reader(port, '/direct'))
    readers.push(...reading)
    for (let state = await report(); state.subscribers < READERS + stalled;) state = await report()
    for (let n = 0; n < EVENTS; n += BATCH) {
      await ask({ publish: { from: n + 1, to: n + BATCH, bytes: EVENT_BYTES } })
      await until(() => reading.every((reader) => reader.received >= n + BATCH), `all have event ${n + BATCH}`)
    }
    let result = await report()
    while (result.subscribers > READERS || result.sends.length < stalled) result = await report()
    return result
  } finally {
    for (const reader of readers) reader.stop()
    child.disconnect()
    await once(child, 'exit')
  }
}

describe('a client that never reads while its channel receives 105 MB', () => {
  it('costs the server less than 16 MB, costs 99 other clients no event, and is dropped', async () => {
    const without = await broadcast(0)
    const beside = await broadcast(1)
    for (const { received, faults } of [without, beside]) {
      expect(received).toEqual(Array.from({ length: READERS }, () => EVENTS))
      expect(faults).toBe(0)
    }
    expect(beside.subscribers).toBe(READERS)
    expect(beside.sends).toEqual([false])
    expect((beside.peakBytes - without.peakBytes) / 1e6).toBeLessThan(16)
  })
})
