import { MemoryBackplane } from '../../lib/backplanes/memory.ts'
import { casesFor, runCase } from './contract.ts'
import type { Engine } from './kit.ts'

function memory(): Engine {
  const first = new MemoryBackplane()
  return { backplane: () => new MemoryBackplane(first) }
}

describe('MemoryBackplane', () => {
  it.each(casesFor(['no log']))('$name', async (each) => {
    expect.hasAssertions()
    await runCase(each, memory)
  })
})
