import express, { type Request } from 'express'
import { Hub } from 'express-sse-hub'

// Who may see what, for how long, and not any more.
//   npx tsx demo/examples/access.ts
//   curl -N -H 'authorization: ann' 'localhost:3000/events?channel=news&channel=user:ann'
//   curl -i -H 'authorization: ann' 'localhost:3000/events?channel=user:bob'          (403)
//   curl -X POST -H 'authorization: ann' localhost:3000/logout

const hub = new Hub<{ news: { item: string }; [user: `user:${string}`]: { notice: string } }>()

/** In a real app: the sessions, and the user of one. */
const sessions = new Set(['ann', 'bob'])
const userOf = (req: Request): string => req.get('authorization') ?? ''

export const app = express()
app.use((req, res, next) => (sessions.has(userOf(req)) ? next() : res.sendStatus(401)))

// The client names the channels, and is given those that it may see: live, and replayed.
app.get(
  '/events',
  hub.handler({
    authorize: (req: Request, channel) => channel === 'news' || channel === `user:${userOf(req)}`,
    // The stream belongs to the user, and ends with the session: the client comes back, and is authenticated anew.
    subscribe: (req) => ({ owner: userOf(req), expiresAt: Date.now() + 60 * 60 * 1_000 }),
  }),
)
app.post('/news/:text', async (req, res) => {
  res.json({ id: await hub.publish('news', 'item', req.params.text) })
})
app.post('/logout', async (req, res) => {
  // First the access, then the streams: their clients come back at once, and are answered 401.
  sessions.delete(userOf(req))
  res.json({ ended: await hub.disconnect(userOf(req)) })
})

if (require.main === module) app.listen(3000)
