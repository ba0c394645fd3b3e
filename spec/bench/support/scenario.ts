import type { ScenarioResult } from '../report/result.ts'
import type { QuietMachine } from './quiet.ts'

/** Context of a scenario. */
export interface BenchContext {
  /** Use fewer rounds and smaller counts, to see that everything works. */
  readonly quick: boolean
  /** Limit of the connections of a server process. */
  readonly maxConnections: number
  /** Measures while the machine is otherwise idle. */
  readonly machine: QuietMachine
  readonly log: (line: string) => void
}

export type Scenario = (context: BenchContext) => Promise<ScenarioResult>

/** Runs the rounds of a measurement. The order rotates from round to round, so that changes of the machine affect all names alike. */
export async function interleave<T>(names: readonly T[], rounds: number, run: (name: T, round: number) => Promise<void>): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (let n = 0; n < names.length; n++) {
      const name = names[(n + round) % names.length]
      if (name !== undefined) await run(name, round)
    }
  }
}

/** Lists of measured values by key. */
export class Samples {
  readonly #values = new Map<string, number[]>()

  add(key: string, value: number): void {
    const values = this.#values.get(key)
    if (values === undefined) this.#values.set(key, [value])
    else values.push(value)
  }

  of(key: string): readonly number[] {
    return this.#values.get(key) ?? []
  }
}
