import type { Request, Response } from 'express'

/** The streams of the pages that are open: told from time to time how the server is, beside what the hub sends them. */
export function createOpenPages(look: () => Promise<object>, lookEveryMs: number) {
  const streams = new Map<string, Response>()
  const pageOf = (req: Request): string => (req.query as Record<string, string>)['page'] ?? ''

  let told = ''
  const tellAll = async (): Promise<void> => {
    const status = streams.size === 0 ? told : JSON.stringify(await look())
    if (status !== told) for (const { sse } of streams.values()) void sse.send(status, { event: 'status' })
    told = status
  }
  const timer = setInterval(() => void tellAll(), lookEveryMs)

  return {
    add(req: Request, res: Response): void {
      const page = pageOf(req)
      streams.set(page, res)
      // The page may be back already: then this is not its stream any more.
      res.on('close', () => streams.get(page) === res && streams.delete(page))
    },
    /** As a broken network does it. */
    cut: (req: Request): boolean => streams.get(pageOf(req))?.destroy() !== undefined,
    stop: () => clearInterval(timer),
  }
}
