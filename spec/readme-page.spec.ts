import { readFileSync } from 'node:fs'
import path from 'node:path'
import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'
import type { Browser, Page } from 'playwright-core'
import { hasChromium, launchChromium } from './support/chromium.ts'
import { until } from './support/client.ts'
import { serve, stopServers } from './support/servers.ts'

const inChromium = hasChromium("the tests of the README's page in Chromium") ? describe : describe.skip
const README = readFileSync(path.join(__dirname, '../README.md'), 'utf8')
const SCRIPT =
  [...README.matchAll(/```js\n([^]*?)```/g)].map(([, code]) => code as string).find((code) => code.includes('new EventSource')) ?? ''

inChromium("the README's page", () => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launchChromium()
  })
  afterAll(() => browser.close())
  afterEach(stopServers)

  /** Opens the page, and keeps everything that it prints. If `status` is not 200, the server answers with it in place of the stream. */
  async function open({ hasClock = false } = {}) {
    const hub = new Hub()
    const app = express()
    const answers = { status: 200, streams: 0, heads: 0, logins: 0 }
    app.use(sseMiddleware({ retryMs: 10 }))
    app.get('/', (_req, res) => void res.type('html').send(`<!doctype html><title>t</title><script>${SCRIPT}</script>`))
    app.get('/login', (_req, res) => void res.send(String(++answers.logins)))
    app.get('/events', (req, res) => {
      if (req.method === 'GET') answers.streams++
      else answers.heads++
      if (answers.status !== 200) return res.sendStatus(answers.status)
      return res.sse.subscribe(hub, 'orders')
    })
    const { url, server } = await serve(app)
    const tab: Page = await browser.newPage()
    const printed: unknown[] = []
    tab.on('console', (message) => {
      if (message.type() === 'log') printed.push(message.text())
    })
    // Delays of the page take a hundredth of their time, or end when the test advances the clock.
    if (hasClock) await tab.clock.install()
    else await tab.addInitScript('{ const wait = setTimeout; window.setTimeout = (callback, ms) => wait(callback, ms / 100) }')
    await tab.goto(url)
    await until(() => hub.stats().subscribers === 1, 'the page is subscribed')
    const publish = (n: number): Promise<string> => hub.publish('orders', 'created', n)
    return { hub, tab, server, answers, printed, publish }
  }

  it.each([502, 503, 429, 500])('reconnects after answers of %i, and misses nothing', async (status) => {
    const { hub, server, answers, printed, publish } = await open()
    for (let n = 0; n < 3; n++) await publish(n)
    await until(() => printed.length === 3, 'the first events have arrived')
    answers.status = status
    server.closeAllConnections()
    const before = answers.streams
    for (let n = 3; n < 6; n++) await publish(n)
    await until(() => answers.streams >= before + 3, 'it has tried three times')
    answers.status = 200
    await until(() => hub.stats().subscribers === 1, 'it is subscribed again')
    await publish(6)
    await until(() => printed.length === 7, 'all events have arrived')
    expect([printed, answers.logins]).toEqual([['0', '1', '2', '3', '4', '5', '6'], 0])
  })

  it('goes to the login page after a 401', async () => {
    const { server, answers } = await open()
    answers.status = 401
    server.closeAllConnections()
    await until(() => answers.logins === 1, 'it is on the login page')
    expect(answers.heads).toBe(1)
  })

  it.each<[string, (server: { closeAllConnections(): void }, hub: Hub, answers: { status: number }) => unknown]>([
    ['a 403', (server, _hub, answers) => ((answers.status = 403), server.closeAllConnections())],
    ['stream-close', (_server, hub) => hub.disconnect({ channel: 'orders' }, { reconnect: false })],
  ])('stays away after %s', async (_what, end) => {
    const { hub, tab, server, answers } = await open({ hasClock: true })
    await end(server, hub, answers)
    await until(() => hub.stats().subscribers === 0 && (answers.status === 200 || answers.heads === 1), 'the page has noticed')
    const { streams } = answers
    await tab.clock.runFor(60_000)
    // This request of the page follows any that it has made meanwhile.
    await tab.evaluate("fetch('/login')")
    expect([answers.streams, answers.logins]).toEqual([streams, 1])
  })
})
