import express, { type Response, Router } from 'express'
import { Hub, sseMiddleware } from 'express-sse-hub'

interface Message {
  /** Counts up by one, by which a page can prove that it missed none and saw none twice. */
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
  const streams = new Map<string, Response>()
  const router = Router()
  let count = 0

  // A long wait, so that there is time to send from another page while this one is away.
  router.use(sseMiddleware({ retryMs }))

  router.get('/events', (req, res) => {
    const { page = '' } = req.query as Record<string, string>
    streams.set(page, res)
    res.on('close', () => {
      // The page may be back already: then this is not its stream any more.
      if (streams.get(page) === res) streams.delete(page)
    })
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
    const { page = '' } = req.query as Record<string, string>
    const stream = streams.get(page)
    // As a broken network does it: without a goodbye, and without sending what is still due.
    stream?.destroy()
    res.sendStatus(stream ? 204 : 404)
  })

  return { router, hub, stop: () => hub.close() }
}
