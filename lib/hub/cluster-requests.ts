import type { Backplane } from '../backplanes/backplane.ts'
import { type Deferred, deferred } from '../basics/promises.ts'
import type { OnError } from '../basics/on-error.ts'
import type { HubStats } from './counters.ts'
import type { SharedTarget } from './subscription-registry.ts'

/** How long the other processes have for an answer. */
const ANSWER_MS = 2_000

/** One process asks this of the others. */
export interface Questions {
  /** Ends the streams of an owner, or those that have only this channel; how many those were. */
  disconnect(target: SharedTarget, reconnect: boolean): Promise<number>
  stats(): HubStats
  /** How long the oldest stream of an owner has been open, in ms; `null` where there is none. */
  oldest(owner: string): number | null
  /** Ends the oldest stream of an owner; `false` where there is none. */
  closeOldest(owner: string): boolean
  readonly onError: OnError
}

/** The answers of the other processes, and how many gave none in time. */
export interface Answers<T> {
  readonly answers: readonly T[]
  readonly missing: number
}

type Question =
  | { readonly kind: 'disconnect'; readonly target: SharedTarget; readonly reconnect: boolean }
  | { readonly kind: 'stats' }
  | { readonly kind: 'oldest'; readonly owner: string }
  | { readonly kind: 'close-oldest'; readonly owner: string }

/** A question, or the answer to one, as it goes from process to process. */
interface Signal {
  readonly id: number
  readonly from: string
  readonly question?: Question
  readonly answer?: unknown
}

interface Answer {
  readonly from: string
  readonly answer: unknown
}

/** A question that waits for answers. */
interface Asked {
  readonly expected: Set<string>
  readonly answers: Answer[]
  readonly done: Deferred<void>
}

/** The other processes of a hub, and what they are asked. */
export class ClusterRequests {
  readonly #backplane: Backplane
  readonly #questions: Questions
  readonly #asked = new Map<number, Asked>()
  #lastId = 0

  constructor(backplane: Backplane, questions: Questions) {
    this.#backplane = backplane
    this.#questions = questions
  }

  /** Ends streams in all other processes. */
  async disconnect(target: SharedTarget, reconnect: boolean): Promise<Answers<number>> {
    return valuesOf(await this.#askAll({ kind: 'disconnect', target, reconnect }, true))
  }

  async stats(): Promise<Answers<HubStats>> {
    return valuesOf(await this.#askAll({ kind: 'stats' }, false))
  }

  /** Ends the oldest stream that an owner has in all processes, this one included; `false` where none was found. */
  async closeOldest(owner: string): Promise<boolean> {
    const askedAt = performance.now()
    const here = this.#questions.oldest(owner)
    const { answers } = await this.#askAll({ kind: 'oldest', owner }, false)
    // The others measured their ages later, about half a round trip after this process.
    let oldest = { from: this.#backplane.processId, age: here === null ? -1 : here + (performance.now() - askedAt) / 2 }
    for (const { from, answer } of answers) if (typeof answer === 'number' && answer > oldest.age) oldest = { from, age: answer }
    if (oldest.age < 0) return false
    if (oldest.from === this.#backplane.processId) return this.#questions.closeOldest(owner)
    const closed = await this.#ask({ kind: 'close-oldest', owner }, async (text) => {
      this.#backplane.send(oldest.from, text)
      return [oldest.from]
    })
    return closed.answers.some(({ answer }) => answer === true)
  }

  /** A signal has come: a question that is answered, or an answer that is waited for. */
  heard(text: string): void {
    const { id, from, question, answer } = JSON.parse(text) as Signal
    if (from === this.#backplane.processId) return
    if (question === undefined) this.#answered(id, { from, answer })
    else this.#answer(id, from, question).catch((error: unknown) => this.#questions.onError(error, { where: 'backplane' }))
  }

  #askAll(question: Question, isVital: boolean): Promise<Answers<Answer>> {
    return this.#ask(question, (text) => this.#backplane.broadcast(text, isVital))
  }

  /** Asks by `send`, which gives the ids of the processes that should answer. */
  async #ask(question: Question, send: (text: string) => Promise<readonly string[]>): Promise<Answers<Answer>> {
    const { processId } = this.#backplane
    const id = ++this.#lastId
    const asked: Asked = { expected: new Set(), answers: [], done: deferred() }
    this.#asked.set(id, asked)
    let timer: NodeJS.Timeout | undefined
    try {
      const ids = await send(JSON.stringify({ id, from: processId, question } satisfies Signal))
      // Some may have answered before it was known who should.
      const early = new Set(asked.answers.map(({ from }) => from))
      for (const other of ids) if (other !== processId && !early.has(other)) asked.expected.add(other)
      if (asked.expected.size > 0) {
        timer = setTimeout(asked.done.resolve, ANSWER_MS)
        await asked.done.promise
      }
      return { answers: asked.answers, missing: asked.expected.size }
    } finally {
      clearTimeout(timer)
      this.#asked.delete(id)
    }
  }

  #answered(id: number, answer: Answer): void {
    const asked = this.#asked.get(id)
    if (asked === undefined) return
    asked.answers.push(answer)
    if (asked.expected.delete(answer.from) && asked.expected.size === 0) asked.done.resolve()
  }

  async #answer(id: number, to: string, question: Question): Promise<void> {
    const answer = await this.#answerTo(question)
    if (answer !== undefined) this.#backplane.send(to, JSON.stringify({ id, from: this.#backplane.processId, answer } satisfies Signal))
  }

  #answerTo(question: Question): unknown {
    switch (question.kind) {
      case 'disconnect':
        return this.#questions.disconnect(question.target, question.reconnect)
      case 'stats':
        return this.#questions.stats()
      case 'oldest':
        return this.#questions.oldest(question.owner)
      case 'close-oldest':
        return this.#questions.closeOldest(question.owner)
      default:
        // A later version may ask for more.
        return undefined
    }
  }
}

function valuesOf<T>({ answers, missing }: Answers<Answer>): Answers<T> {
  return { answers: answers.map(({ answer }) => answer as T), missing }
}
