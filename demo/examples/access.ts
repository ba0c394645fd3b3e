import express, { type Request } from 'express'
import { Hub } from 'express-sse-hub'

// Access to channels: granted per request, limited in time, and revoked.
//   npx tsx demo/examples/access.ts
//   curl -N -H 'authorization: ann' 'localhost:3000/events?channel=news&channel=user:ann'
//   curl -i -H 'authorization: ann' 'localhost:3000/events?channel=user:bob'          (403)
//   curl -X POST -H 'authorization: ann' localhost:3000/logout

const hub = new Hub<{ news: { item: string }; [user: `user:${string}`]: { notice: string } }>()

/** Stand-ins for the sessions of a real app and their users. */
const sessions = new Set(['ann', 'bob'])
const userOf = (req: Request): string => req.get('authorization') ?? ''

export const app = express()
app.use((req, res, next) => (sessions.has(userOf(req)) ? next() : res.sendStatus(401)))

// The client names the channels. One that it may not see refuses the whole request, for live events and the replay alike.
app.get(
  '/events',
  hub.handler({
    authorize: (req: Request, channel) => channel === 'news' || channel === `user:${userOf(req)}`,
    // The stream belongs to the user and ends with the session. The client then reconnects and authenticates again.
    subscribe: (req) => ({ owner: userOf(req), expiresAt: Date.now() + 60 * 60 * 1_000 }),
  }),
)
app.post('/news/:text', async (req, res) => {
  res.json({ id: await hub.publish('news', 'item', req.params.text) })
})
app.post('/logout', async (req, res) => {
  // Access ends before the streams do: their clients reconnect soon, and receive 401.
  sessions.delete(userOf(req))
  res.json({ ended: await hub.disconnect(userOf(req)) })
})

if (require.main === module) app.listen(3000)
