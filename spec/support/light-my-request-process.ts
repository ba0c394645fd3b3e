import type express from 'express'
import inject from 'light-my-request'
import { finiteApp, type ToolAnswer, type ToolRequest } from './finite-streams.ts'

// This runs in a process of its own, because light-my-request changes the prototypes of Express.
const app = finiteApp(require(process.argv[2] as string) as typeof express)

async function answer({ url, method = 'GET', headers = {} }: ToolRequest): Promise<ToolAnswer> {
  const { statusCode: status, headers: sent, payload: body } = await inject(app as never, { url, method, headers })
  return { status, headers: sent, body }
}

process.on('message', (request: ToolRequest) => void answer(request).then((answered) => process.send?.(answered)))
