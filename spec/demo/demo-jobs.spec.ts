import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { Queue } from 'bullmq'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import type { HashState } from '../../demo/jobs/hash-job.ts'
import { redisSettings } from '../../demo/jobs/jobs-hub.ts'
import { createDemo } from '../../demo/server.ts'
import { hasChromium, launchChromium } from '../support/chromium.ts'
import { TestClient, until } from '../support/client.ts'
import { DemoProcess, stopDemoProcesses } from '../support/demo-process.ts'
import { deleteKeys, describeRedis, freshPrefix, REDIS_URL, RedisServer } from '../support/redis.ts'
import { serve, stopServers } from '../support/servers.ts'

const describePages = hasChromium('the tests of the jobs page') ? describeRedis : describe.skip
const FILES = 220
const ALL_STEPS = Array.from({ length: FILES }, (_, index) => index + 1)
/** A worker that receives this step no longer rests. */
const END = FILES + 1
const NO_REDIS = 'redis://127.0.0.1:1'

/** A server of the demo, which can be replaced by a new one as a restart does. */
interface Web {
  url: string
  server: http.Server
  demo: ReturnType<typeof createDemo>
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'sse-hub-jobs-'))
const webs: Web[] = []
let prefix: string
let worker: DemoProcess

const names = Array.from({ length: FILES }, (_, index) => (index % 2 === 0 ? `file-${index}.txt` : `deep/er/file ${index}.txt`))
const contentOf = (name: string): string => `${name}\n`.repeat(50)
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
const wholeHash = sha256(
  names
    .map((name) => `./${name}`)
    .toSorted()
    .map((name) => `${sha256(contentOf(name.slice(2)))}  ${name}\n`)
    .join(''),
)

beforeAll(() => {
  mkdirSync(path.join(folder, 'node_modules/deep/er'), { recursive: true })
  for (const name of names) writeFileSync(path.join(folder, 'node_modules', name), contentOf(name))
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A worker in another process. It rests after a step until it receives a later one. */
function startWorker(step = END): DemoProcess {
  const options = { redisUrl: REDIS_URL, prefix, root: folder, lockMs: 600 }
  return new DemoProcess('spec/support/demo-worker.ts', { args: [JSON.stringify(options), String(step)] })
}

function makeDemo(redisUrl = REDIS_URL): Web['demo'] {
  return createDemo({ redisUrl, prefix, retryMs: 200, checkEveryMs: 100 })
}

async function serveDemo(redisUrl = REDIS_URL): Promise<Web> {
  const web = { demo: makeDemo(redisUrl) } as Web
  Object.assign(web, await serve((req, res) => void web.demo.app(req, res)))
  webs.push(web)
  return web
}

async function stopWebs(): Promise<void> {
  await Promise.all(webs.splice(0).map(({ demo }) => demo.stop()))
  await stopServers()
}

interface Answer {
  readonly status: number
  readonly error: unknown
}

async function ask(web: Web, user: string | undefined, method: string, address: string, body: string): Promise<Answer> {
  const headers = { 'content-type': 'application/json', ...(user !== undefined && { cookie: `demo-user=${user}` }) }
  const response = await fetch(`${web.url}/jobs${address}`, { method, headers, body })
  const text = await response.text()
  return { status: response.status, error: text.startsWith('{') ? (JSON.parse(text) as { error: unknown }).error : text }
}

/** The number of jobs that no worker has taken. */
async function waiting(): Promise<number> {
  const { queueName, queuePrefix } = redisSettings({ prefix })
  const queue = new Queue(queueName, { connection: { url: REDIS_URL }, prefix: queuePrefix, skipMetasUpdate: true })
  const count = await queue.getWaitingCount()
  await queue.close()
  return count
}

async function startJob(web: Web, user: string, order: object = { folder: 'node_modules', filesPerStep: 1 }): Promise<void> {
  expect(await ask(web, user, 'POST', '', JSON.stringify(order))).toMatchObject({ status: 201 })
}

/** A new prefix for the keys of the hub and the queue. */
const newPrefix = (): string => (prefix = freshPrefix())

describeRedis('the jobs router', () => {
  let web: Web

  beforeAll(async () => {
    newPrefix()
    web = await serveDemo()
    await until(() => web.demo.hubs.jobs.health(), 'the server has its Redis')
  })

  afterAll(async () => {
    await stopWebs()
    await deleteKeys([prefix])
  })

  it.each([
    ['another folder', '{"folder":"/etc"}', /^folder: .*node_modules/],
    ['a folder that is none', '{"folder":7}', /^folder: /],
    ['no folder', '{}', /^folder: /],
    ['no file in a step', '{"folder":"lib","filesPerStep":0}', /^filesPerStep: .*1/],
    ['too many files in a step', '{"folder":"lib","filesPerStep":1001}', /^filesPerStep: .*1000/],
    ['half a file in a step', '{"folder":"lib","filesPerStep":1.5}', /^filesPerStep: .*int/],
    ['the name of another user', '{"folder":"lib","user":"bob"}', /user/],
    ['two faults', '{"folder":7,"filesPerStep":0}', /^folder: .*; filesPerStep: /],
    ['a list', '[]', /object/],
    ['something that is not JSON', '{"folder', /JSON/],
  ])('refuses a job with %s', async (_what, body, message) => {
    expect(await ask(web, 'ann', 'POST', '', body)).toEqual({ status: 400, error: expect.stringMatching(message) })
  })

  it.each([undefined, 'no%20body', ''])('refuses a job from the user %s', async (user) => {
    expect(await ask(web, user, 'POST', '', '{"folder":"lib"}')).toMatchObject({ status: 401 })
  })

  it.each(['{"name":""}', '{"name":"a b"}', '{"name":"a;b"}', `{"name":"${'x'.repeat(33)}"}`])('refuses the name in %s', async (body) => {
    expect(await ask(web, undefined, 'PUT', '/user', body)).toEqual({ status: 400, error: 'a name has 1 to 32 letters, digits, _ or -' })
    expect(await ask(web, undefined, 'PUT', '/user', '{}')).toEqual({ status: 400, error: 'a name is text' })
  })

  it('sends a page without a user the status, and no jobs', async () => {
    await startJob(web, 'cyd')
    const client = await TestClient.open(`${web.url}/jobs/events?page=1`)
    await until(() => client.named('status').length > 0, 'the status has arrived')
    expect(client.data[0]).toEqual({ user: null, redis: true, host: new URL(REDIS_URL).host, workers: 0 })
    client.leave()
  })

  it('ends the streams of a user who leaves, on every server', async () => {
    const other = await serveDemo()
    const headers = { cookie: 'demo-user=dee' }
    const clients = await Promise.all([web, other].map(({ url }) => TestClient.open(`${url}/jobs/events?page=2`, { headers })))
    for (const client of clients) await client.live()
    const bystander = await TestClient.open(`${web.url}/jobs/events?page=3`, { headers: { cookie: 'demo-user=eve' } })
    await bystander.live()
    expect(await ask(web, 'dee', 'DELETE', '/user', '')).toMatchObject({ status: 204 })
    for (const client of clients) await client.over()
    await startJob(web, 'eve')
    await until(() => bystander.named('queued').length === 1, 'the other stream is still open')
    bystander.leave()
  })
})

describeRedis('npm run demo:worker', () => {
  afterAll(async () => {
    await stopDemoProcesses()
    await stopWebs()
    await deleteKeys([prefix])
  })

  it('does the jobs of its own folder, and ends on SIGINT', async () => {
    const child = new DemoProcess('demo/worker.ts', { env: { REDIS_URL, DEMO_PREFIX: newPrefix() } })
    const web = await serveDemo()
    const client = await TestClient.open(`${web.url}/jobs/events`, { headers: { cookie: 'demo-user=ann' } })
    await client.live()
    await startJob(web, 'ann', { folder: 'demo', filesPerStep: 5 })
    const last = () =>
      client
        .named('progress')
        .map(({ data }) => JSON.parse(data) as HashState)
        .find(({ state }) => state === 'done')
    await until(() => last() !== undefined, 'the job is done')
    expect(last()).toMatchObject({ folder: 'demo', hash: expect.stringMatching(/^[0-9a-f]{64}$/) })
    expect(client.named('queued')).toHaveLength(1)
    child.signal('SIGINT')
    await child.over()
    expect(child.output).toBe('The worker waits for jobs of the page /jobs.\n')
    expect(child.exitCode).toBe(0)
    client.leave()
  })
})

describePages('the jobs page in Chromium', () => {
  let browser: Browser
  let contexts: BrowserContext[] = []
  let faults: string[] = []
  let one: Web
  let two: Web

  beforeAll(async () => {
    newPrefix()
    worker = startWorker()
    browser = await launchChromium()
    one = await serveDemo()
    two = await serveDemo()
  })

  afterAll(async () => {
    await stopDemoProcesses()
    await browser?.close()
    await stopWebs()
    await deleteKeys([prefix])
  })

  beforeEach(() => {
    faults = []
  })

  afterEach(async () => {
    await Promise.all(contexts.splice(0).map((context) => context.close()))
    if (faults.length > 0) throw new Error(`there were faults: ${faults.join(', ')}`)
  })

  /** Opens the page in a window of its own, which keeps the steps that its EventSource receives. */
  async function open(web: Web, user?: string): Promise<Page> {
    const context = await browser.newContext()
    contexts.push(context)
    context.on('weberror', (fault) => faults.push(fault.error().message))
    context.on('request', (request) => {
      if (!request.url().startsWith(`${web.url}/`)) faults.push(`asked for ${request.url()}`)
    })
    if (user !== undefined) await context.addCookies([{ name: 'demo-user', value: user, domain: '127.0.0.1', path: '/jobs' }])
    const page = await context.newPage()
    await page.addInitScript(`
      window.steps = []
      window.EventSource = class extends EventSource {
        constructor(address) {
          super(address)
          this.addEventListener('progress', ({ data }) => window.steps.push(JSON.parse(data).step))
        }
      }
    `)
    await page.goto(`${web.url}/jobs`)
    return page
  }

  async function openLive(web: Web, user: string): Promise<Page> {
    const page = await open(web, user)
    await isIn(page, 'live')
    return page
  }

  const isIn = (page: Page, state: string) => page.locator(`#status[data-state=${state}]`).waitFor()
  const jobIs = (page: Page, state: string) => page.locator(`.job[data-state=${state}]`).waitFor()
  const isAt = (page: Page, step: number) => page.locator(`.job[data-step="${step}"]`).waitFor()
  const steps = (page: Page) => page.evaluate<number[]>('window.steps')
  const runs = (page: Page) => page.evaluate<string[]>(`[...document.querySelectorAll('.track span')].map(({ className }) => className)`)
  const counted = (page: Page) =>
    page.evaluate<object>(
      `Object.fromEntries(['events', 'caught', 'doubled', 'missing'].map((id) => [id, Number(document.getElementById(id).textContent)]))`,
    )

  async function start(page: Page, filesPerStep: number): Promise<void> {
    await page.getByLabel('Files in a step').fill(String(filesPerStep))
    await page.getByRole('button', { name: 'Start a job' }).click()
  }

  it('shows a job to its user on both servers, to the end, and to no other user', async () => {
    const ann = await open(one)
    await ann.getByLabel('Name').fill('ann')
    await ann.getByRole('button', { name: 'Continue' }).click()
    await isIn(ann, 'live')
    const [again, bob] = [await openLive(two, 'ann'), await openLive(one, 'bob')]
    for (const banner of ['#idle', '#away']) await ann.locator(banner).waitFor({ state: 'hidden' })

    await start(ann, 1)
    for (const page of [ann, again]) {
      await jobIs(page, 'done')
      expect(await page.locator('.hash').textContent()).toBe(wholeHash)
      expect(await page.locator('.figures').textContent()).toContain(`Step ${FILES} of ${FILES}: ${FILES} of ${FILES} files`)
      expect(await steps(page)).toEqual(ALL_STEPS)
      expect(await counted(page)).toEqual({ events: FILES, caught: 0, doubled: 0, missing: 0 })
    }
    // Bob's own events were published after all of ann's.
    await start(bob, 1_000)
    await jobIs(bob, 'done')
    expect(await steps(bob)).toEqual([1])
    expect(await bob.locator('.job').count()).toBe(1)
  })

  it('begins in the middle of a job with its current state', async () => {
    worker.send(50)
    const first = await openLive(one, 'cyd')
    await start(first, 1)
    await isAt(first, 50)
    const page = await openLive(two, 'cyd')
    await isAt(page, 50)
    expect(await runs(page)).toEqual(['known'])
    expect(await steps(page)).toEqual([])
    worker.send(END)
    await jobIs(page, 'done')
    expect(await steps(page)).toEqual(ALL_STEPS.slice(50))
    expect(await counted(page)).toEqual({ events: FILES - 50, caught: 0, doubled: 0, missing: 0 })
  })

  it('loses nothing when its connection is cut or the server is restarted, and says that it has caught up', async () => {
    worker.send(50)
    const page = await openLive(one, 'dan')
    const witness = await openLive(two, 'dan')
    await start(page, 1)
    await isAt(page, 50)
    let release = () => {}
    const isReleased = new Promise<void>((resolve) => (release = resolve))
    await page.route('**/jobs/events?**', async (route) => {
      await isReleased
      await route.continue()
    })
    await page.getByRole('button', { name: 'Cut my connection' }).click()
    await isIn(page, 'reconnecting')
    worker.send(150)
    await isAt(witness, 150)
    expect(await steps(page)).toEqual(ALL_STEPS.slice(0, 50))
    release()
    await isIn(page, 'live')
    await isAt(page, 150)
    expect(await counted(page)).toEqual({ events: 150, caught: 100, doubled: 0, missing: 0 })
    expect(await page.locator('#journal .open').first().textContent()).toContain('Caught up: live from here, after 100 replayed events')
    expect(await runs(page)).toEqual(['live', 'caught'])

    const old = one.demo
    one.demo = makeDemo()
    one.server.closeAllConnections()
    worker.send(END)
    for (const each of [page, witness]) {
      await jobIs(each, 'done')
      expect(await steps(each)).toEqual(ALL_STEPS)
      expect(await counted(each)).toMatchObject({ events: FILES, doubled: 0, missing: 0 })
      expect(await each.locator('.hash').textContent()).toBe(wholeHash)
    }
    await old.stop()
  })

  it('shows that a job has failed, and why', async () => {
    const page = await openLive(one, 'fay')
    await page.getByLabel('Folder').selectOption('lib')
    await start(page, 1)
    await jobIs(page, 'failed')
    expect(await page.locator('.outcome').textContent()).toBe('lib could not be hashed')
  })

  it('says that no worker is running, and continues with another one without a repeated step', async () => {
    worker.send(40)
    const page = await openLive(one, 'gus')
    await start(page, 1)
    await isAt(page, 40)
    const isHeld = () => page.locator('.job .held', { hasText: 'waits for a worker' }).waitFor()
    // A worker that is stopped returns its job to the queue.
    worker.signal('SIGTERM')
    worker.send(END)
    await worker.over()
    expect(worker.exitCode).toBe(0)
    expect(await waiting()).toBe(1)
    await page.getByText('No worker is running: jobs wait').waitFor()
    await isHeld()

    const killed = startWorker(120)
    await isAt(page, 120)
    killed.signal('SIGKILL')
    await isHeld()
    worker = startWorker()
    await jobIs(page, 'done')
    await page.locator('#idle').waitFor({ state: 'hidden' })
    expect(await steps(page)).toEqual(ALL_STEPS)
    expect(await counted(page)).toEqual({ events: FILES, caught: 0, doubled: 0, missing: 0 })
    expect(await page.locator('.hash').textContent()).toBe(wholeHash)
  })

  it('says that it needs Redis if there is none, which server and worker print at most once', async () => {
    const idle = new DemoProcess('demo/worker.ts', { env: { REDIS_URL: NO_REDIS } })
    const child = new DemoProcess('demo/server.ts', { env: { PORT: '0', REDIS_URL: NO_REDIS } })
    const [line, port] = await child.prints(/.*localhost:(\d+)\n/)
    const web = { url: `http://127.0.0.1:${port}` } as Web
    const refused = await TestClient.open(`${web.url}/jobs/events`, { headers: { cookie: 'demo-user=ann' } })
    for (const user of [undefined, 'ann']) {
      const page = await open(web, user)
      await isIn(page, 'away')
      expect(await page.locator('#away').innerText()).toMatch(/needs Redis, and there is none at 127\.0\.0\.1:1\s+Start one.*redis-server/)
    }
    // The stream was refused with a retry, and the server prints nothing about it.
    await refused.over()
    expect(refused.retries).toHaveLength(2)
    expect(await ask(web, 'ann', 'POST', '', '{"folder":"lib"}')).toEqual({ status: 503, error: 'there is no Redis at 127.0.0.1:1' })
    expect((await fetch(`${web.url}/broadcast`)).status).toBe(200)
    for (const each of [child, idle]) each.signal('SIGTERM')
    for (const each of [child, idle]) {
      await each.over()
      expect(each.exitCode).toBe(0)
    }
    expect(child.output).toBe(line)
    expect(idle.output.split('\n').toSorted()).toEqual([
      '',
      'The hub: RedisBackplane: Redis at 127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1',
      'The worker waits for jobs of the page /jobs.',
    ])
  })

  it('continues by itself when Redis is back', async () => {
    const redis = await RedisServer.start()
    try {
      const web = await serveDemo(redis.url)
      const page = await openLive(web, 'ann')
      await redis.kill()
      await isIn(page, 'away')
      await redis.run()
      await isIn(page, 'live')
      await start(page, 1)
      await page.locator('.job .held').waitFor()
      expect(await page.locator('#journal .reset b').allTextContents()).toContain('stream-reset')
      await webs.pop()?.demo.stop()
    } finally {
      await redis.stop()
    }
  })

  it('counts the deliveries of the jobs hub in the metrics', async () => {
    const text = await (await fetch(`${one.url}/metrics`)).text()
    expect(text).toMatch(/sse_hub_delivered_total\{hub="jobs"\} [1-9]/)
  })
})

describe('the state of a job', () => {
  it('is small enough for the log to keep every step', () => {
    const progress = { step: 99_999, steps: 100_000, files: 99_999, totalFiles: 100_000, bytes: 1e12 }
    const state: HashState = { id: 'x'.repeat(36), folder: 'node_modules', at: Date.now(), state: 'active', ...progress }
    expect(JSON.stringify(state).length * 2_000).toBeLessThan(1_048_576)
  })
})
