import { type Request, Router } from 'express'
import { UserName } from './hash-job.ts'

const COOKIE = { path: '/jobs', httpOnly: true, sameSite: 'strict' } as const

/** The user of a request, from a cookie that anyone can set. A real app takes the user from its session. */
export function userOf(req: Request): string | undefined {
  const [, name] = /(?:^|; )demo-user=([^;]*)/.exec(req.get('cookie') ?? '') ?? []
  return UserName.safeParse(name).data
}

/** Sets and deletes the cookie with the user's name. */
export function createUserRouter(onLeave: (user: string) => Promise<unknown>) {
  const router = Router()
  router.put('/', (req, res) => {
    const { name } = (req.body ?? {}) as Record<string, unknown>
    const user = UserName.safeParse(name)
    if (user.success) res.cookie('demo-user', user.data, COOKIE).sendStatus(204)
    else res.status(400).json({ error: user.error.issues[0]?.message })
  })
  router.delete('/', async (req, res) => {
    const user = userOf(req)
    res.clearCookie('demo-user', COOKIE)
    if (user !== undefined) await onLeave(user)
    res.sendStatus(204)
  })
  return router
}
