import express, { Router } from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'
import { createOpenPages } from './open-pages.ts'

interface Message {
  /** Counts up by one, so that a page can prove that it missed no message and saw none twice. */
  readonly number: number
  readonly page: string
  readonly text: string
  readonly at: number
}

type Channels = { broadcast: { message: Message } }

export interface BroadcastOptions {
  readonly retryMs?: number
}

/** A form posts messages, and every open page lists each of them once and in order. */
export function createBroadcast({ retryMs = 5_000 }: BroadcastOptions = {}) {
  const hub = new Hub<Channels>()
  const pages = createOpenPages()
  const router = Router()
  let count = 0

  // The long delay leaves time to send messages from another page while this one is disconnected.
  router.use(sseMiddleware({ retryMs }))

  router.get('/events', (req, res) => {
    pages.add(req, res)
    return res.sse.subscribe(hub, ['broadcast'], { rewind: 20 })
  })

  router.post('/messages', express.json(), async (req, res) => {
    const { page, text } = (req.body ?? {}) as Record<string, unknown>
    if (typeof page !== 'string' || typeof text !== 'string' || text.trim() === '' || text.length > 500) {
      res.status(400).json({ error: 'a message needs a page, and a text of 1 to 500 characters' })
      return
    }
    const id = await hub.publish('broadcast', 'message', { number: ++count, page, text: text.trim(), at: Date.now() })
    res.status(201).json({ id })
  })

  router.post('/cut', (req, res) => {
    res.sendStatus(pages.cut(req) ? 204 : 404)
  })

  return { router, hub, stop: () => hub.close() }
}
