import type { Backplane } from '../../lib/backplanes/backplane.ts'
import { SseError } from '../../lib/basics/errors.ts'

/** A backplane whose engine is away: publishes and control messages reject, and its log never answers. */
export function silentBackplane(): Backplane {
  const away = (): Promise<never> => Promise.reject(new SseError('SSE_BACKPLANE_UNAVAILABLE', 'the engine is away'))
  const never = (): Promise<never> => new Promise(() => {})
  return {
    log: { timeoutMs: 20, probeMs: 60_000, watch: never, unwatch() {}, read: never, reconnect() {}, acquire: never, release() {} },
    processId: 'silent',
    open: () => null,
    publish: away,
    broadcast: away,
    send() {},
    close: async () => {},
  }
}
