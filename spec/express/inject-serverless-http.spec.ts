import serverless from 'serverless-http'
import { finiteApp, testFiniteStreams } from '../support/finite-streams.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'

interface LambdaAnswer {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, string>>
  readonly multiValueHeaders: Readonly<Record<string, readonly string[]>>
  readonly body: string
}

describe.each(EXPRESS_VERSIONS)('serverless-http on %s', (_name, express) => {
  testFiniteStreams(() => {
    const handler = serverless(finiteApp(express))
    return async ({ url, method = 'GET', headers = {} }) => {
      const event = { httpMethod: method, path: url, headers, body: '', requestContext: { identity: { sourceIp: '127.0.0.1' } } }
      const { statusCode: status, body, ...head } = (await handler(event, {})) as LambdaAnswer
      return { status, headers: { ...head.headers, ...head.multiValueHeaders }, body }
    }
  })
})
