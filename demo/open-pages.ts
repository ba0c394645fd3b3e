import type { Request, Response } from 'express'

/** The streams of the pages that are open. Each page names itself in the query: `?page=3f`. */
export function createOpenPages() {
  const streams = new Map<string, Response>()
  const nameOf = (req: Request): string => (req.query as Record<string, string>)['page'] ?? ''

  return {
    add(req: Request, res: Response): void {
      const name = nameOf(req)
      streams.set(name, res)
      res.on('close', () => {
        // The page may have reconnected before its old stream closed.
        if (streams.get(name) === res) streams.delete(name)
      })
    },
    /** Destroys the stream of a page, as a broken network does: nothing that is still due is sent. Returns whether there was one. */
    cut(req: Request): boolean {
      const stream = streams.get(nameOf(req))
      stream?.destroy()
      return stream !== undefined
    },
    all: (): readonly Response[] => [...streams.values()],
  }
}
