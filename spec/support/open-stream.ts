import type express from 'express'
import type { Request, Response } from 'express'
import { sseMiddleware, type SseMiddlewareOptions, type SseStream } from 'express-sse-hub'
import { TestClient } from './client.ts'
import { serve, type TestServer } from './servers.ts'

/** Serves an app with the middleware and one route, `/`. */
export async function serveWith(
  factory: typeof express,
  handler: (req: Request, res: Response) => unknown,
  options?: SseMiddlewareOptions,
): Promise<TestServer> {
  const app = factory()
  app.use(sseMiddleware(options))
  app.all('/', handler)
  return serve(app)
}

/** Opens a stream, and returns it with its response and the client that reads it. */
export async function openStream(
  factory: typeof express,
  options?: SseMiddlewareOptions,
): Promise<{ stream: SseStream; client: TestClient; res: Response }> {
  const responses: Response[] = []
  const { url } = await serveWith(
    factory,
    (_req, res) => {
      responses.push(res)
      res.sse.open()
    },
    options,
  )
  const client = await TestClient.open(url)
  const [res] = responses as [Response]
  return { stream: res.sse, client, res }
}
