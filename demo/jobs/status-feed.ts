import type { createOpenPages } from '../open-pages.ts'

/** Sends the status of the server to every open page when it changes. These events are not the hub's, and have no id. */
export function createStatusFeed(pages: ReturnType<typeof createOpenPages>, check: () => Promise<object>, checkEveryMs: number) {
  let lastStatus = ''
  const timer = setInterval(() => void update(), checkEveryMs)

  async function update(): Promise<void> {
    if (pages.all().length === 0) return
    const status = JSON.stringify(await check())
    if (status !== lastStatus) for (const { sse } of pages.all()) void sse.send(status, { event: 'status' })
    lastStatus = status
  }
  return { stop: () => clearInterval(timer) }
}
