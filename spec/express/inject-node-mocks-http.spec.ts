/* oxlint-disable no-underscore-dangle -- the methods of node-mocks-http begin with an underscore */
import { EventEmitter, once } from 'node:events'
import { createMocks } from 'node-mocks-http'
import { finiteApp, testFiniteStreams } from '../support/finite-streams.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'

describe.each(EXPRESS_VERSIONS)('node-mocks-http on %s', (_name, express) => {
  testFiniteStreams(() => {
    const app = finiteApp(express)
    return async ({ url, method = 'GET', headers = {} }) => {
      const { req, res } = createMocks({ url, method, headers }, { eventEmitter: EventEmitter })
      const ended = once(res, 'end')
      app(req, res)
      await ended
      const body = `${res._getBuffer().toString()}${res._getData() as string}`
      return { status: res._getStatusCode(), headers: res._getHeaders(), body }
    }
  })
})
