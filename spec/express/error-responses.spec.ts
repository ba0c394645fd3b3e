import { Hub, SseError, sseMiddleware } from 'express-sse-hub'
import type express from 'express'
import request from 'supertest'
import { TestClient, until } from '../support/client.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

describe.each(EXPRESS_VERSIONS)('an SseError on %s', (_, factory) => {
  it('is answered with its status and headers, and in production without its message', async () => {
    // The default error handler of Express logs each error.
    const log = jest.spyOn(console, 'error').mockImplementation(() => {})
    const hub = new Hub({ maxSubscribers: 1 })
    const app = factory()
    app.set('env', 'production')
    app.use(sseMiddleware())
    app.get('/events', (_req, res) => res.sse.subscribe(hub, ['a']))
    app.get('/forbidden', hub.handler({ channels: ['a'], authorize: () => false }))
    app.get('/bad', hub.handler({ authorize: () => true }))
    const { url } = await serve(app)
    await (await TestClient.open(`${url}/events`)).live()
    const accept = { accept: 'application/json' }
    const full = await request(url).get('/events').set(accept)
    expect(full.status).toBe(503)
    expect(Number(full.get('Retry-After'))).toBeGreaterThanOrEqual(10)
    expect(Number(full.get('Retry-After'))).toBeLessThanOrEqual(30)
    await hub.close()
    const closed = await request(url).get('/events').set(accept)
    expect(closed.status).toBe(503)
    expect(Number(closed.get('Retry-After'))).toBeGreaterThanOrEqual(1)
    expect(Number(closed.get('Retry-After'))).toBeLessThanOrEqual(5)
    const [forbidden, bad] = [await request(url).get('/forbidden'), await request(url).get('/bad')]
    expect([forbidden.status, bad.status]).toEqual([403, 400])
    for (const { text } of [full, closed, forbidden, bad]) expect(text).not.toMatch(/maxSubscribers|hub|channel|\.ts/)
    await until(() => log.mock.calls.length >= 4, 'all errors are logged')
    log.mockRestore()
  })

  it('carries its headers to the answer of an error handler of the application', async () => {
    const hub = new Hub()
    await hub.close()
    const app = factory()
    const errors: unknown[] = []
    app.use(sseMiddleware())
    app.get('/events', (_req, res) => res.sse.subscribe(hub, ['a']))
    app.use((error: SseError, _req: express.Request, res: express.Response, _next: express.NextFunction) => {
      errors.push(error)
      res.status(error.status).json({ code: error.code })
    })
    const { url } = await serve(app)
    const { status, body, headers } = await request(url).get('/events').set({ accept: 'application/json' })
    expect([status, body]).toEqual([503, { code: 'SSE_HUB_CLOSED' }])
    expect(errors).toEqual([expect.any(SseError)])
    expect((errors[0] as SseError).headers).toEqual({ 'Retry-After': headers['retry-after'] as string })
  })
})
