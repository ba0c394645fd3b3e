import type { Backplane } from '../backplanes/backplane.ts'
import { type Deferred, deferred } from '../basics/promises.ts'
import type { OnError } from '../basics/on-error.ts'
import type { HubStats } from './hub-stats.ts'
import { checkTarget, type SharedTarget, type SubscriptionRegistry } from './subscription-registry.ts'

/** The time in which the other processes must answer. */
const ANSWER_MS = 2_000

/** The answers of the other processes, and how many did not answer in time. */
export interface Answers<T> {
  readonly answers: readonly T[]
  readonly missing: number
}

type Request =
  | { readonly kind: 'disconnect'; readonly target: SharedTarget; readonly reconnect: boolean }
  | { readonly kind: 'stats' }
  | { readonly kind: 'oldest'; readonly owner: string }
  | { readonly kind: 'close-oldest'; readonly owner: string }

/** A control message between processes: a request, or the answer to one. */
interface ControlMessage {
  readonly id: number
  readonly from: string
  readonly request?: Request
  readonly answer?: unknown
}

interface Answer {
  readonly from: string
  readonly answer: unknown
}

/** A request that waits for answers. */
interface OpenRequest {
  readonly expected: Set<string>
  readonly answers: Answer[]
  readonly done: Deferred<void>
}

/** Requests to the other processes that share a hub's backplane, and the answers to theirs. */
export class ClusterRequests {
  readonly #backplane: Backplane
  readonly #registry: SubscriptionRegistry
  readonly #stats: () => HubStats
  readonly #onError: OnError
  readonly #open = new Map<number, OpenRequest>()
  #lastId = 0

  /** @param stats returns the figures of this process. */
  constructor(backplane: Backplane, registry: SubscriptionRegistry, stats: () => HubStats, onError: OnError) {
    this.#backplane = backplane
    this.#registry = registry
    this.#stats = stats
    this.#onError = onError
  }

  /** Ends the streams of a target in all other processes. Resolves with the number of streams that each process ended. */
  async disconnect(target: SharedTarget, reconnect: boolean): Promise<Answers<number>> {
    return valuesOf(await this.#askAll({ kind: 'disconnect', target, reconnect }, true))
  }

  /** The figures of all other processes. */
  async stats(): Promise<Answers<HubStats>> {
    return valuesOf(await this.#askAll({ kind: 'stats' }, false))
  }

  /** Closes the oldest stream of an owner in all processes, this one included. Resolves with `false` if none was found. */
  async closeOldest(owner: string): Promise<boolean> {
    const askedAt = performance.now()
    const here = this.#registry.ageOfOldest(owner)
    const { answers } = await this.#askAll({ kind: 'oldest', owner }, false)
    // The other processes measured the age of their oldest streams about half a round trip later than this one.
    let oldest = { from: this.#backplane.processId, age: here === null ? -1 : here + (performance.now() - askedAt) / 2 }
    for (const { from, answer } of answers) {
      if (typeof answer === 'number' && answer > oldest.age) oldest = { from, age: answer }
    }
    if (oldest.age < 0) return false
    if (oldest.from === this.#backplane.processId) return this.#registry.closeOldest(owner)
    const closed = await this.#ask({ kind: 'close-oldest', owner }, async (text) => {
      this.#backplane.send(oldest.from, text)
      return [oldest.from]
    })
    return closed.answers.some(({ answer }) => answer === true)
  }

  /** Receives a control message: answers a request, or notes an answer. A message that no hub can have sent is reported. */
  received(text: string): void {
    try {
      const { id, from, request, answer } = JSON.parse(text) as ControlMessage
      if (from === this.#backplane.processId) return
      if (request === undefined) this.#answered(id, { from, answer })
      else this.#answer(id, from, request).catch((error: unknown) => this.#onError(error, { where: 'backplane' }))
    } catch (error) {
      this.#onError(error, { where: 'backplane' })
    }
  }

  #askAll(request: Request, isVital: boolean): Promise<Answers<Answer>> {
    return this.#ask(request, (text) => this.#backplane.broadcast(text, isVital))
  }

  /** Sends a request with `send`, which resolves with the ids of the processes that should answer. Collects the answers. */
  async #ask(request: Request, send: (text: string) => Promise<readonly string[]>): Promise<Answers<Answer>> {
    const { processId } = this.#backplane
    const id = ++this.#lastId
    const open: OpenRequest = { expected: new Set(), answers: [], done: deferred() }
    this.#open.set(id, open)
    let timer: NodeJS.Timeout | undefined
    try {
      const ids = await send(JSON.stringify({ id, from: processId, request } satisfies ControlMessage))
      // Some processes may have answered before `send` resolved.
      const early = new Set(open.answers.map(({ from }) => from))
      for (const other of ids) if (other !== processId && !early.has(other)) open.expected.add(other)
      if (open.expected.size > 0) {
        timer = setTimeout(open.done.resolve, ANSWER_MS)
        await open.done.promise
      }
      return { answers: open.answers, missing: open.expected.size }
    } finally {
      clearTimeout(timer)
      this.#open.delete(id)
    }
  }

  #answered(id: number, answer: Answer): void {
    const open = this.#open.get(id)
    if (open === undefined) return
    open.answers.push(answer)
    if (open.expected.delete(answer.from) && open.expected.size === 0) open.done.resolve()
  }

  async #answer(id: number, to: string, request: Request): Promise<void> {
    const answer = await this.#answerTo(request)
    if (answer !== undefined) {
      this.#backplane.send(to, JSON.stringify({ id, from: this.#backplane.processId, answer } satisfies ControlMessage))
    }
  }

  #answerTo(request: Request): unknown {
    switch (request.kind) {
      case 'disconnect':
        // A target from another process is checked like one from this process.
        return this.#registry.disconnect(checkTarget('owner' in request.target ? request.target.owner : request.target), request.reconnect)
      case 'stats':
        return this.#stats()
      case 'oldest':
        return this.#registry.ageOfOldest(request.owner)
      case 'close-oldest':
        return this.#registry.closeOldest(request.owner)
      default:
        // A later version of this package may send other requests.
        return undefined
    }
  }
}

function valuesOf<T>({ answers, missing }: Answers<Answer>): Answers<T> {
  return { answers: answers.map(({ answer }) => answer as T), missing }
}
