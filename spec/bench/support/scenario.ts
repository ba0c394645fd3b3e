import type { ScenarioResult } from '../report/result.ts'
import type { QuietMachine } from './quiet.ts'

/** What a scenario is run with. */
export interface BenchContext {
  /** Fewer rounds and smaller counts, to see that all works. */
  readonly quick: boolean
  /** How many connections one server process may have at most. */
  readonly maxConnections: number
  /** Measures when nobody else uses the machine. */
  readonly machine: QuietMachine
  readonly log: (line: string) => void
}

export type Scenario = (context: BenchContext) => Promise<ScenarioResult>

/** The rounds of a measurement: every one in each round, and first in turn, so that what changes on the machine hits all alike. */
export async function interleave<T>(names: readonly T[], rounds: number, run: (name: T, round: number) => Promise<void>): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (let n = 0; n < names.length; n++) {
      const name = names[(n + round) % names.length]
      if (name !== undefined) await run(name, round)
    }
  }
}

/** Lists of measured values by a key. */
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
