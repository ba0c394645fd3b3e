import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import type http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import { EventSource, type FetchLike } from 'eventsource'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { createDemo } from '../../demo/server.ts'
import { hasChromium, launchChromium } from '../support/chromium.ts'
import { TestClient, until } from '../support/client.ts'
import { serve, stopServers } from '../support/servers.ts'
import { TYPESCRIPT } from '../support/typescript.ts'

/** No Redis listens here, because these pages need none. */
const redisUrl = 'redis://127.0.0.1:1'
let demo: ReturnType<typeof createDemo>
let url: string
const visitors: Visitor[] = []

beforeEach(async () => {
  demo = createDemo({ retryMs: 200, sampleEveryMs: 50, redisUrl })
  // Each request looks up the demo, so that a test can replace it, as a restart does.
  const handler: http.RequestListener = (req, res) => void demo.app(req, res)
  ;({ url } = await serve(handler))
})

afterEach(async () => {
  for (const { source } of visitors.splice(0)) source.close()
  await demo.stop()
  await stopServers()
})

async function post(address: string, body?: object): Promise<number> {
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(url + address, { method: 'POST', headers, body: body === undefined ? null : JSON.stringify(body) })
  await response.arrayBuffer()
  return response.status
}

/** The EventSource of a page, with everything that it received. Between `hold` and `release`, its reconnects wait. */
class Visitor {
  readonly texts: string[] = []
  readonly replayed: number[] = []
  readonly source: EventSource
  losses = 0
  #gate: Promise<void> | undefined
  release: () => void = () => {}

  constructor(page: string) {
    const gated: FetchLike = async (address, init) => {
      await this.#gate
      return fetch(address, init)
    }
    this.source = new EventSource(`${url}/broadcast/events?page=${page}`, { fetch: gated })
    this.source.addEventListener('message', ({ data }) => this.texts.push((JSON.parse(data as string) as { text: string }).text))
    this.source.addEventListener('stream-open', ({ data }) => {
      this.replayed.push((JSON.parse(data as string) as { replayed: number }).replayed)
    })
    this.source.addEventListener('error', () => (this.losses += 1))
    visitors.push(this)
  }

  hold(): void {
    this.#gate = new Promise((resolve) => (this.release = resolve))
  }
}

describe('the broadcast router', () => {
  const say = (text: string) => post('/broadcast/messages', { page: 'other', text })

  it('resumes a page whose connection was cut, without a gap and without duplicates', async () => {
    const visitor = new Visitor('cut-me')
    const witness = new Visitor('witness')
    await until(() => visitor.replayed.length === 1 && witness.replayed.length === 1, 'both are live')
    await say('one')
    await until(() => visitor.texts.length === 1, 'the first message has arrived')

    visitor.hold()
    expect(await post('/broadcast/cut?page=cut-me')).toBe(204)
    await until(() => visitor.losses === 1, 'the connection is lost')
    for (const text of ['two', 'three', 'four']) expect(await say(text)).toBe(201)
    await until(() => witness.texts.length === 4, 'the other page has them')
    visitor.release()
    await until(() => visitor.replayed.length === 2, 'the page is live again')
    await say('five')
    await until(() => visitor.texts.includes('five') && witness.texts.includes('five'), 'the last message has arrived')

    expect(visitor.texts).toEqual(['one', 'two', 'three', 'four', 'five'])
    expect(visitor.replayed).toEqual([0, 3])
    expect(witness.texts).toEqual(visitor.texts)
    expect(witness.losses).toBe(0)
  })

  it('shows the last 20 messages to a new page', async () => {
    for (let number = 1; number <= 25; number += 1) await say(`message ${number}`)
    const visitor = new Visitor('new')
    await until(() => visitor.replayed.length === 1, 'the page is live')
    expect(visitor.texts).toEqual(Array.from({ length: 20 }, (_, index) => `message ${index + 6}`))
  })

  it.each([
    ['without a text', { page: 'a' }],
    ['with an empty text', { page: 'a', text: '  ' }],
    ['with a long text', { page: 'a', text: 'x'.repeat(501) }],
    ['without a page', { text: 'hello' }],
    ['without a body', undefined],
  ])('refuses a message %s', async (_what, body) => {
    expect(await post('/broadcast/messages', body)).toBe(400)
    expect(demo.hubs.broadcast.channel('broadcast').lastEventId).toBe('')
  })

  it('answers 404 when there is no stream to cut', async () => {
    expect(await post('/broadcast/cut?page=nobody')).toBe(404)
  })
})

describe('the icon', () => {
  it.each(['/', '/broadcast', '/machine', '/jobs'])('is linked by the page %s', async (address) => {
    const html = await (await fetch(url + address)).text()
    const icon = /<link rel="icon" href="([^"]+)">/.exec(html)?.[1]
    expect((await fetch(url + icon)).headers.get('content-type')).toBe('image/svg+xml')
  })

  it('is served for answers that are not HTML, too', async () => {
    const response = await fetch(`${url}/favicon.ico`)
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'image/svg+xml'])
    expect(await response.text()).toContain('<svg')
  })
})

describe('the files of the demo', () => {
  it('have different names', () => {
    const names = readdirSync(path.join(__dirname, '../../demo'), { recursive: true, encoding: 'utf8' }).map((file) => path.basename(file))
    expect(names.toSorted()).toEqual([...new Set(names)].toSorted())
  })
})

describe('the metrics route', () => {
  it('serves the statistics of the hubs as Prometheus text', async () => {
    const visitor = new Visitor('counted')
    await until(() => visitor.replayed.length === 1, 'the page is live')
    await post('/broadcast/messages', { page: 'other', text: 'one' })
    await until(() => visitor.texts.length === 1, 'the message has arrived')
    for (let scrape = 0; scrape < 2; scrape++) {
      const response = await fetch(`${url}/metrics`)
      const lines = (await response.text()).split('\n')
      expect(response.headers.get('content-type')).toContain('text/plain; version=0.0.4')
      expect(lines).toContain('sse_hub_subscribers{hub="broadcast"} 1')
      expect(lines).toContain('sse_hub_published_total{hub="broadcast"} 1')
      expect(lines).toContain('sse_hub_delivered_total{hub="broadcast"} 1')
      expect(lines).toContain('sse_hub_subscribers{hub="machine"} 0')
    }
  })
})

describe('the machine router', () => {
  it('sends a new page the earlier samples, then the new ones', async () => {
    const early = await TestClient.open(`${url}/machine/events`)
    await early.received(5)
    const seen = [...early.data]
    const late = await TestClient.open(`${url}/machine/events`)
    await late.live()
    await late.received(late.channelEvents.length + 2)
    const replayed = late.events.findIndex(({ event }) => event === 'stream-open')

    expect(replayed).toBeGreaterThanOrEqual(seen.length)
    expect(late.data.slice(0, seen.length)).toEqual(seen)
    for (const sample of late.data as Record<string, number>[]) {
      expect(sample['cpuPercent']).toBeGreaterThanOrEqual(0)
      expect(sample['cpuPercent']).toBeLessThanOrEqual(100)
      expect(sample['memoryPercent']).toBeGreaterThan(0)
      expect(sample['loopDelayMs']).toBeGreaterThanOrEqual(0)
    }
    early.leave()
    late.leave()
  })

  it('shows in the samples that the event loop was blocked', async () => {
    const client = await TestClient.open(`${url}/machine/events`)
    await client.received(2)
    expect(await post('/machine/block')).toBe(204)
    await until(() => (client.data as { loopDelayMs: number }[]).some(({ loopDelayMs }) => loopDelayMs > 200), 'a sample shows it')
    client.leave()
  })
})

describe('npm run demo', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)('ends by itself on %s while connections are open', async (signal) => {
    const root = path.join(__dirname, '../..')
    const env = { ...process.env, PORT: '0', REDIS_URL: redisUrl }
    const child = spawn(process.execPath, [...TYPESCRIPT, 'demo/server.ts'], { cwd: root, env })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    try {
      await until(() => /localhost:\d+/.test(output) || child.exitCode !== null, 'the demo listens')
      const port = /localhost:(\d+)/.exec(output)?.[1]
      const client = await TestClient.open(`http://127.0.0.1:${port}/broadcast/events`)
      await client.live()
      // An unused connection, such as browsers open in advance.
      const unused = net.connect(Number(port), '127.0.0.1')
      unused.on('error', () => {})
      await once(unused, 'connect')
      child.kill(signal)
      await client.over()
      const [code] = (await once(child, 'exit')) as [number | null]
      expect(code).toBe(0)
      // The second retry is that of stream-end, so the stream was ended and not cut.
      expect(client.retries).toHaveLength(2)
    } finally {
      child.kill('SIGKILL')
    }
  })
})

const inChromium = hasChromium('the tests of the demo pages') ? describe : describe.skip

inChromium('the demo pages in Chromium', () => {
  let browser: Browser
  let contexts: BrowserContext[] = []
  let faults: string[] = []

  beforeAll(async () => {
    browser = await launchChromium()
  })

  afterAll(async () => browser?.close())

  beforeEach(() => {
    faults = []
  })

  afterEach(async () => {
    await Promise.all(contexts.splice(0).map((context) => context.close()))
    if (faults.length > 0) throw new Error(`the pages had faults: ${faults.join(', ')}`)
  })

  /** Opens a page in a window of its own. An error, a request to another host, and a request that fails are faults. */
  async function open(address: string): Promise<Page> {
    const context = await browser.newContext()
    contexts.push(context)
    context.on('weberror', (fault) => faults.push(fault.error().message))
    context.on('request', (request) => {
      if (!request.url().startsWith(`${url}/`)) faults.push(`asked for ${request.url()}`)
    })
    context.on('response', (response) => {
      if (response.status() >= 400) faults.push(`${response.status()} for ${response.url()}`)
    })
    const page = await context.newPage()
    await page.goto(url + address)
    return page
  }

  const isIn = (page: Page, state: string) => page.locator(`#status[data-state=${state}]`).waitFor()
  const texts = (page: Page) => page.locator('.message .text').allTextContents()

  async function openBroadcast(): Promise<Page> {
    const page = await open('/broadcast')
    await isIn(page, 'live')
    return page
  }

  async function send(page: Page, text: string): Promise<void> {
    await page.getByLabel('Message to every open page').fill(text)
    await page.getByRole('button', { name: 'Send' }).click()
    await isListed(page, text)
  }

  const isListed = (page: Page, text: string) => page.locator('.message .text', { hasText: text }).first().waitFor()

  it('links from the index to every page', async () => {
    const index = await open('/')
    const links = await index.locator('.pages a').evaluateAll((all) => all.map((link) => String((link as { href?: string }).href)))
    expect(links.map((link) => link.slice(url.length))).toEqual(['/broadcast', '/machine', '/jobs'])
    for (const link of links) {
      await index.goto(link)
      await isIn(index, link.endsWith('/jobs') ? 'away' : 'live')
    }
  })

  it('lists a message once in each of two pages, as text', async () => {
    const [first, second] = [await openBroadcast(), await openBroadcast()]
    const markup = '<img src="/none" onerror="throw 1">'
    await send(first, markup)
    await send(second, 'from the second')
    await send(first, 'and the last')
    await isListed(second, 'and the last')
    for (const page of [first, second]) expect(await texts(page)).toEqual([markup, 'from the second', 'and the last'])
  })

  it('catches up after its connection was cut, in order and without duplicates', async () => {
    const [cut, other] = [await openBroadcast(), await openBroadcast()]
    await send(other, 'before')
    await isListed(cut, 'before')

    let release = () => {}
    const isReleased = new Promise<void>((resolve) => (release = resolve))
    await cut.route('**/broadcast/events?**', async (route) => {
      await isReleased
      await route.continue()
    })
    await cut.getByRole('button', { name: 'Cut my connection' }).click()
    await isIn(cut, 'reconnecting')
    for (const text of ['away 1', 'away 2', 'away 3']) await send(other, text)
    expect(await texts(cut)).toEqual(['before'])
    release()
    await isIn(cut, 'live')
    await send(other, 'after')
    await isListed(cut, 'after')

    expect(await texts(cut)).toEqual(['before', 'away 1', 'away 2', 'away 3', 'after'])
    expect(await texts(other)).toEqual(await texts(cut))
    expect(await cut.locator('.message', { hasText: 'caught up' }).count()).toBe(3)
    expect(await cut.locator('#journal .open').first().textContent()).toContain('after 3 replayed messages')
    for (const what of ['doubled', 'missing']) expect(await cut.locator(`#${what}`).textContent()).toBe('0')
  })

  it('says that it missed messages after the server was restarted', async () => {
    const page = await openBroadcast()
    await send(page, 'before the restart')
    const old = demo
    demo = createDemo({ retryMs: 200, sampleEveryMs: 50, redisUrl })
    await old.stop()
    await page.locator('.break.missed').waitFor()
    await isIn(page, 'live')
    await send(page, 'after the restart')

    expect(await page.locator('.break.missed').textContent()).toBe('Messages were missed here: the server was restarted')
    expect(await page.locator('#journal .reset').textContent()).toContain('"reason":"restarted"')
    expect(await texts(page)).toEqual(['before the restart', 'after the restart'])
  })

  it('draws the earlier samples and then the new ones', async () => {
    const client = await TestClient.open(`${url}/machine/events`)
    await client.received(10)
    const page = await open('/machine')
    await isIn(page, 'live')
    const said = await page.locator('#said').textContent()
    const replayed = Number(/with (\d+) replayed/.exec(said ?? '')?.[1])
    expect(replayed).toBeGreaterThanOrEqual(10)
    await page.waitForFunction(`[...document.querySelectorAll('svg')].every((svg) => svg.dataset.taken >= ${replayed + 5})`)

    for (const chart of ['cpuPercent', 'memoryPercent', 'load', 'loopDelayMs']) {
      const svg = page.locator(`svg[data-chart=${chart}]`)
      const line = (await svg.locator('.line').getAttribute('d')) ?? ''
      expect(line.split('L').length).toBeGreaterThanOrEqual(replayed + 5)
      expect(line).not.toMatch(/NaN|Infinity/)
      expect(await svg.getAttribute('aria-label')).toMatch(/now \d/)
      expect((await svg.boundingBox())?.height).toBeGreaterThan(100)
    }
    client.leave()
  })
})
