import type { Backplane } from '../../lib/backplanes/backplane.ts'
import { SseError } from '../../lib/basics/errors.ts'

/** A backplane whose engine is away: publishing and signals reject, and its log answers nothing within its timeout. */
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
