import { contentCases } from './content-cases.ts'
import { deliveryCases } from './delivery-cases.ts'
import { type Capability, type Case, type Engine, Kit } from './kit.ts'
import { processCases } from './process-cases.ts'
import { promiseCases } from './promise-cases.ts'
import { resumeCases } from './resume-cases.ts'

/** The cases of the contract that every backplane must fulfil. */
export const CASES: readonly Case[] = [...promiseCases, ...deliveryCases, ...resumeCases, ...contentCases, ...processCases]

/** The cases for an engine with these capabilities. */
export function casesFor(capabilities: readonly Capability[]): readonly Case[] {
  return CASES.filter(({ needs = [] }) => needs.every((need) => capabilities.includes(need)))
}

/** Runs a case over an engine of its own, and checks that no error was reported. */
export async function runCase(each: Case, makeEngine: () => Engine, patienceMs = 60_000): Promise<void> {
  const kit = new Kit(makeEngine, patienceMs)
  try {
    await each.run(kit)
    expect(kit.errors).toEqual([])
  } finally {
    await kit.dispose()
  }
}
