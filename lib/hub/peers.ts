import type { Backplane } from '../backplanes/backplane.ts'
import type { OnError } from '../basics/guard.ts'
import type { HubStats } from './counters.ts'

/** How long the other processes have for an answer. */
const ANSWER_MS = 2_000

/** What one process can ask of the others. */
export interface Questions {
  /** Ends the streams of an owner; how many those were. */
  disconnect(owner: string): Promise<number>
  stats(): HubStats
  readonly onError: OnError
}

/** The answers of the other processes, and how many gave none in time. */
export interface Answers<T> {
  readonly answers: readonly T[]
  readonly missing: number
}

type Question = 'disconnect' | 'stats'

/** A question, or the answer to one, as it goes from process to process. */
interface Signal {
  readonly id: number
  readonly from: string
  readonly question?: Question
  readonly owner?: string
  readonly answer?: unknown
}

interface Asked {
  readonly expected: Set<string>
  readonly answers: unknown[]
  /** Those who answered before it was known who should. */
  readonly early: Set<string>
  done: () => void
}

/** The other processes of a hub, and what they are asked. */
export class Peers {
  readonly #backplane: Backplane
  readonly #questions: Questions
  readonly #asked = new Map<number, Asked>()
  #lastId = 0

  constructor(backplane: Backplane, questions: Questions) {
    this.#backplane = backplane
    this.#questions = questions
  }

  /** Ends the streams of an owner in all other processes. */
  disconnect(owner: string): Promise<Answers<number>> {
    return this.#ask('disconnect', owner) as Promise<Answers<number>>
  }

  stats(): Promise<Answers<HubStats>> {
    return this.#ask('stats', '') as Promise<Answers<HubStats>>
  }

  /** A signal has come: a question that is answered, or an answer that is waited for. */
  heard(text: string): void {
    const { id, from, question, owner = '', answer } = JSON.parse(text) as Signal
    if (from === this.#backplane.processId) return
    if (question === undefined) this.#answered(id, from, answer)
    else this.#answer(id, from, question, owner).catch((error: unknown) => this.#questions.onError(error, { where: 'backplane' }))
  }

  async #ask(question: Question, owner: string): Promise<Answers<unknown>> {
    const { processId } = this.#backplane
    const id = ++this.#lastId
    const asked: Asked = { expected: new Set(), answers: [], early: new Set(), done() {} }
    this.#asked.set(id, asked)
    let timer: NodeJS.Timeout | undefined
    try {
      const isVital = question === 'disconnect'
      const ids = await this.#backplane.signal(JSON.stringify({ id, from: processId, question, owner } satisfies Signal), isVital)
      for (const other of ids) if (other !== processId && !asked.early.has(other)) asked.expected.add(other)
      if (asked.expected.size > 0) {
        await new Promise<void>((resolve) => {
          asked.done = resolve
          timer = setTimeout(resolve, ANSWER_MS)
        })
      }
      return { answers: asked.answers, missing: asked.expected.size }
    } finally {
      clearTimeout(timer)
      this.#asked.delete(id)
    }
  }

  #answered(id: number, from: string, answer: unknown): void {
    const asked = this.#asked.get(id)
    if (asked === undefined) return
    asked.answers.push(answer)
    asked.early.add(from)
    if (asked.expected.delete(from) && asked.expected.size === 0) asked.done()
  }

  async #answer(id: number, to: string, question: Question, owner: string): Promise<void> {
    // A later version may ask for more.
    if (question !== 'disconnect' && question !== 'stats') return
    const answer = question === 'disconnect' ? await this.#questions.disconnect(owner) : this.#questions.stats()
    this.#backplane.send(to, JSON.stringify({ id, from: this.#backplane.processId, answer } satisfies Signal))
  }
}
