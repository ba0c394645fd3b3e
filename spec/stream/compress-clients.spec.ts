import { execFile } from 'node:child_process'
import type { Socket } from 'node:net'
import { promisify } from 'node:util'
import { createParser } from 'eventsource-parser'
import { EventSource } from 'eventsource'
import { Hub, sseMiddleware } from 'express-sse-hub'
import express from 'express'
import { hasChromium, launchChromium } from '../support/chromium.ts'
import { until } from '../support/client.ts'
import { serve, stopServers } from '../support/servers.ts'
import { isLong, sized } from '../support/scale.ts'

const run = promisify(execFile)
const MODES = [true, 'shared'] as const
const ROUNDS = sized(12, 4)
const PER_ROUND = 8
/** Rounds of the clients that start anew in each round. */
const OTHER_ROUNDS = sized(6, 2)
const ITEMS = ROUNDS * PER_ROUND

/** A client's result: the numbers of the events and the count of resets that it received. */
interface Received {
  readonly items: number[]
  readonly resets: number
}

const PAGE = `<!doctype html><script>
  window.received = { items: [], resets: 0 }
  const source = new EventSource('/events')
  source.addEventListener('item', ({ data }) => received.items.push(JSON.parse(data).n))
  source.addEventListener('stream-reset', () => received.resets++)
</script>`

/** Decompresses a stream with Python's zlib as far as possible, and prints the text. */
const PYTHON = `
import sys, zlib, http.client, urllib.request
headers = {'Accept': 'text/event-stream', 'Accept-Encoding': 'gzip', 'Last-Event-ID': sys.argv[2]}
request = urllib.request.Request(sys.argv[1], headers=headers)
decoder = zlib.decompressobj(31)
with urllib.request.urlopen(request) as response:
    assert response.headers['Content-Encoding'] == 'gzip'
    while True:
        try:
            chunk = response.read1(65536)
        except (ConnectionResetError, http.client.IncompleteRead):
            break
        if not chunk:
            break
        sys.stdout.write(decoder.decompress(chunk).decode())
print(': eof' if decoder.eof else ': open')
`

async function start(compress: true | 'shared') {
  const hub = new Hub({ replay: (name) => ({ maxEvents: name === 'items' ? 1_000 : 1 }) })
  const sockets = new Set<Socket>()
  let streams: { close(): void }[] = []
  const app = express()
  app.use(sseMiddleware({ compress, retryMs: 20 }))
  app.get('/', (_req, res) => void res.type('html').send(PAGE))
  app.get('/events', async (_req, res) => {
    expect(res.req.headers['accept-encoding']).toContain('gzip')
    sockets.add(res.req.socket)
    streams.push(res.sse)
    await res.sse.subscribe(hub, ['items', 'noise'])
  })
  const { url } = await serve(app)
  let n = 0
  return {
    hub,
    url,
    publish: async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        await hub.publish('items', 'item', { n: ++n, state: 'created', note: `this is what all of them say: ${'again '.repeat(n % 30)}` })
        await hub.publish('noise', 'noise', { n })
      }
    },
    /** Closes the streams, or cuts their connections. */
    end: (isCut: boolean): void => {
      if (isCut) for (const socket of sockets) socket.destroy()
      else for (const stream of streams) stream.close()
      sockets.clear()
      streams = []
    },
    isServing: (): boolean => streams.length > 0,
  }
}

/** Publishes to a client whose stream is alternately cut and closed, and publishes more while the client is away. */
async function tryOn(server: Awaited<ReturnType<typeof start>>, received: () => Promise<Received>): Promise<Received> {
  for (let round = 0; round < ROUNDS; round++) {
    await until(() => server.isServing(), 'the client is connected')
    await server.publish(PER_ROUND - 2)
    const expected = (round + 1) * PER_ROUND - 2
    await untilAsync(async () => (await received()).items.length >= expected, `${expected} items arrived`)
    server.end(round % 2 === 0)
    await server.publish(2)
  }
  await untilAsync(async () => (await received()).items.length >= ITEMS, 'all items arrived')
  return received()
}

async function untilAsync(condition: () => Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + 60_000
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`timed out waiting until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const ALL = Array.from({ length: ITEMS }, (_, index) => index + 1)
const inChromium = hasChromium('the tests of compressed streams in Chromium') ? describe : describe.skip

afterEach(stopServers)

describe.each(MODES)('a compressed stream (%p)', (compress) => {
  it('is read by an EventSource on Node through reconnects, replay and resets', async () => {
    const server = await start(compress)
    const received = { items: [] as number[], resets: 0 }
    const source = new EventSource(`${server.url}/events`)
    source.addEventListener('item', ({ data }) => received.items.push((JSON.parse(data as string) as { n: number }).n))
    source.addEventListener('stream-reset', () => received.resets++)
    const { items, resets } = await tryOn(server, async () => received)
    source.close()
    expect(items).toEqual(ALL)
    expect(resets).toBeGreaterThanOrEqual(ROUNDS - 1)
  })

  inChromium('in Chromium', () => {
    it('is read by its EventSource through reconnects, replay and resets', async () => {
      const server = await start(compress)
      const browser = await launchChromium()
      try {
        const page = await browser.newPage()
        await page.goto(server.url)
        const { items, resets } = await tryOn(server, async () => page.evaluate<Received>('received'))
        expect(items).toEqual(ALL)
        expect(resets).toBeGreaterThanOrEqual(ROUNDS - 1)
      } finally {
        await browser.close()
      }
    })
  })

  const CLIENTS: [string, (url: string, lastId: string) => Promise<{ stdout: string }>][] = [
    [
      'curl',
      async (url, lastId) =>
        run('curl', ['-sSN', '--compressed', '-H', `Last-Event-ID: ${lastId}`, url]).catch((error: { stdout: string }) => error),
    ],
    ["Python's zlib", async (url, lastId) => run('python3', ['-c', PYTHON, url, lastId])],
  ]
  // Python runs only in the long run, because it takes a second to start.
  it.each(CLIENTS.filter(([name]) => isLong || name === 'curl'))(
    'is read by %s through reconnects, replay and resets',
    async (name, client) => {
      const server = await start(compress)
      const items: number[] = []
      const ends: boolean[] = []
      let resets = 0
      let lastId = ''
      for (let round = 0; round < OTHER_ROUNDS; round++) {
        const isCut = round % 2 === 0
        const reading = client(`${server.url}/events`, lastId)
        await until(() => server.hub.channel('items').subscriberCount === 1, 'the client is subscribed')
        await server.publish(6)
        server.end(isCut)
        const { stdout } = await reading
        // curl does not report how the gzip body ended.
        ends.push(name === 'curl' || stdout.trimEnd().endsWith(isCut ? ': open' : ': eof'))
        const parser = createParser({
          onEvent: ({ id, event, data }) => {
            lastId = id ?? lastId
            if (event === 'item') items.push((JSON.parse(data) as { n: number }).n)
            if (event === 'stream-reset') resets++
          },
        })
        parser.feed(stdout)
        await until(() => server.hub.channel('items').subscriberCount === 0, 'the client is unsubscribed')
        await server.publish(2)
      }
      expect(ends).not.toContain(false)
      expect(items).toEqual(ALL.slice(0, items.length))
      expect(items.length).toBeGreaterThanOrEqual(OTHER_ROUNDS * 8 - 2)
      expect(resets).toBeGreaterThanOrEqual(OTHER_ROUNDS - 1)
    },
  )
})
