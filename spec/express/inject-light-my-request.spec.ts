import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { testFiniteStreams, type ToolAnswer } from '../support/finite-streams.ts'
import { TYPESCRIPT } from '../support/typescript.ts'

const children: ChildProcess[] = []
afterAll(() => {
  for (const child of children.splice(0)) child.kill()
})

describe.each([
  ['Express 4', 'express4'],
  ['Express 5', 'express'],
])('light-my-request on %s', (_name, module) => {
  testFiniteStreams(() => {
    const child = fork(path.join(__dirname, '../support/light-my-request-process.ts'), [module], { execArgv: [...TYPESCRIPT] })
    children.push(child)
    return async (request) => {
      child.send(request)
      const [answer] = (await once(child, 'message')) as [ToolAnswer]
      return answer
    }
  })
})
