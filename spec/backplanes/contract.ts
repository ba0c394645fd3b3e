import { contentCases } from './content-cases.ts'
import { deliveryCases } from './delivery-cases.ts'
import { type Capability, type Case, type Engine, Kit } from './kit.ts'
import { processCases } from './process-cases.ts'
import { promiseCases } from './promise-cases.ts'
import { resumeCases } from './resume-cases.ts'

/** What holds for every backplane. */
export const CASES: readonly Case[] = [...promiseCases, ...deliveryCases, ...resumeCases, ...contentCases, ...processCases]

/** The cases for an engine that declares these capabilities. */
export function casesFor(capabilities: readonly Capability[]): readonly Case[] {
  return CASES.filter(({ needs = [] }) => needs.every((need) => capabilities.includes(need)))
}

/** Runs a case over an engine of its own: it holds, nothing was reported, and nothing is left. */
export async function runCase(each: Case, makeEngine: () => Engine, patienceMs = 10_000): Promise<void> {
  const kit = new Kit(makeEngine, patienceMs)
  try {
    await each.run(kit)
    expect(kit.errors).toEqual([])
  } finally {
    await kit.dispose()
  }
}
