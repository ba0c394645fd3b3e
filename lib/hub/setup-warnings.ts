import cluster from 'node:cluster'
import { SseError, describeValue } from '../basics/errors.ts'
import type { OnError } from '../basics/on-error.ts'
import { hasMissingValue } from '../basics/names.ts'

/** The most names that are reported. */
const MAX_NAMES = 100

/** Reports mistakes in how a program uses its hub, each once. */
export class SetupWarnings {
  readonly #onError: OnError
  readonly #names = new Set<string>()
  /** Whether the processes still have to be checked. */
  #isUnchecked: boolean

  /** @param isAlone whether the program passed no backplane. */
  constructor(onError: OnError, isAlone: boolean) {
    this.#onError = onError
    this.#isUnchecked = isAlone
  }

  /** Reports a channel or owner whose name contains a missing value, such as `user:undefined`. */
  checkName(what: 'channel' | 'owner', name: string): void {
    if (!hasMissingValue(name) || this.#names.size >= MAX_NAMES || this.#names.has(`${what} ${name}`)) return
    this.#names.add(`${what} ${name}`)
    const message =
      `Hub: the ${what} ${describeValue(name)} was built from a missing value, ` +
      'so clients that have nothing to do with each other would share it; check the value first'
    this.#onError(new SseError(what === 'channel' ? 'SSE_INVALID_CHANNEL' : 'SSE_INVALID_OWNER', message), { where: what })
  }

  /** Reports that this process is one of several and that no backplane connects their hubs. */
  checkProcesses(): void {
    if (!this.#isUnchecked) return
    this.#isUnchecked = false
    if (!cluster.isWorker && process.env['pm_id'] === undefined) return
    const message =
      'Hub: this process is one of several (a cluster worker, or pm2), and the hub has no backplane: ' +
      'clients receive only what their own process publishes. ' +
      'Give all processes a backplane, or pass backplane: new MemoryBackplane() if that is what you want'
    this.#onError(new SseError('SSE_BACKPLANE_MISSING', message), { where: 'backplane' })
  }
}
