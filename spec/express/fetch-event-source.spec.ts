import path from 'node:path'
import express from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'
import { hasChromium, launchChromium } from '../support/chromium.ts'
import { until } from '../support/client.ts'
import { serve, stopServers } from '../support/servers.ts'

const inChromium = hasChromium('the tests of @microsoft/fetch-event-source in Chromium') ? describe : describe.skip
const MODULE = path.join(path.dirname(require.resolve('@microsoft/fetch-event-source/package.json')), 'lib/esm')
/** A page with the default handlers of the library. It parses every message, as the library's tutorial does, and records the results. */
const PAGE = `<!doctype html><title>t</title><script type="module">
import { fetchEventSource } from '/module/index.js'
window.page = { items: [], failed: [], ended: false }
const onmessage = ({ event, data }) => {
  try {
    const parsed = event === 'stream-position' || event === 'stream-close' ? undefined : JSON.parse(data)
    if (event === 'item') page.items.push(parsed)
  } catch (error) {
    page.failed.push([event, data])
  }
}
fetchEventSource('/events', { onmessage, openWhenHidden: true }).then(() => (page.ended = true), (error) => page.failed.push(String(error)))
</script>`

interface Page {
  readonly items: number[]
  readonly failed: unknown[]
  readonly ended: boolean
}

afterEach(stopServers)

inChromium('fetch-event-source with default handlers', () => {
  it('reconnects after every cut without gaps or duplicates, ignores keep-alives, and stops after stream-close', async () => {
    const hub = new Hub()
    const app = express()
    const responses = new Set<express.Response>()
    let connects = 0
    app.use(sseMiddleware({ retryMs: 20, keepAliveMs: 20 }))
    app.use('/module', express.static(MODULE, { extensions: ['js'] }))
    app.get('/', (_req, res) => void res.type('html').send(PAGE))
    app.get('/events', (_req, res) => {
      connects++
      responses.add(res)
      res.on('close', () => responses.delete(res))
      return res.sse.subscribe(hub, 'a')
    })
    const { url } = await serve(app)
    const browser = await launchChromium()
    try {
      const tab = await browser.newPage()
      await tab.goto(url)
      const page = async (): Promise<Page> => tab.evaluate<Page>('page')
      await until(() => hub.stats().subscribers === 1, 'the page is subscribed')
      for (let n = 0; n < 400; n++) {
        await hub.publish('a', 'item', n)
        if (n % 40 !== 39) continue
        const before = connects
        for (const res of responses) res.destroy()
        await hub.publish('a', 'item', ++n)
        await until(() => connects > before, 'the page has reconnected')
      }
      let seen = await page()
      while (seen.items.at(-1) !== 400 && seen.failed.length === 0) seen = await page()
      expect(seen).toEqual({ items: Array.from({ length: 401 }, (_, n) => n), failed: [], ended: false })
      const quiet = connects
      for (const res of responses) res.sse.close({ reconnect: false })
      while (!(seen = await page()).ended && seen.failed.length === 0);
      expect([connects, seen.ended]).toEqual([quiet, true])
    } finally {
      await browser.close()
    }
  })
})
