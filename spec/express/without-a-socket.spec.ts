import { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough } from 'node:stream'
import { Hub, sseMiddleware } from 'express-sse-hub'
import { parse } from '../support/fake-connection.ts'

const request = () => new IncomingMessage(new PassThrough() as never)

const NO_RESPONSES: readonly (readonly [what: string, res: unknown, shown: string])[] = [
  ['undefined', undefined, 'undefined'],
  ['null', null, 'null'],
  ['an empty object', {}, '{}'],
  ['a string', 'text', "'text'"],
  ['an object with only setHeader', { setHeader() {} }, '{ setHeader: [Function: setHeader] }'],
  ['an object with only write', { write: () => true }, '{ write: [Function: write] }'],
  ['a request', request(), 'IncomingMessage {'],
  ['a fetch Response', new Response('text'), 'Response {'],
]

describe('an object that is not a response', () => {
  it.each(NO_RESPONSES)('is refused by the middleware: %s', (_what, res, shown) => {
    const next = jest.fn()
    let thrown: unknown
    try {
      sseMiddleware()(request(), res as ServerResponse, next)
    } catch (error) {
      thrown = error
    }
    expect(thrown).toBeInstanceOf(TypeError)
    const { message } = thrown as TypeError
    expect(message).toContain(
      `sseMiddleware: res must be a response of node:http, node:http2 or Express, with setHeader and write, got ${shown}`,
    )
    expect(next).not.toHaveBeenCalled()
  })

  it('is refused by a route of a hub, and is not subscribed', () => {
    const hub = new Hub()
    const next = jest.fn()
    expect(() => hub.handler({ channels: 'a' })(request(), {} as ServerResponse, next)).toThrow(/^sseMiddleware: res must be a response/)
    expect(next).not.toHaveBeenCalled()
    expect(hub.stats()).toMatchObject({ subscribers: 0, channels: 0 })
  })
})

describe('a response without a socket', () => {
  /** Makes a Node response that never has a socket. `text` returns the text written to it. */
  const respond = () => {
    const req = request()
    Object.assign(req, { method: 'GET', url: '/', httpVersionMajor: 1, httpVersionMinor: 1, httpVersion: '1.1' })
    const res = new ServerResponse(req)
    let text = ''
    res.write = ((chunk: Buffer) => {
      text += chunk.toString()
      return true
    }) as typeof res.write
    sseMiddleware()(req, res, () => {})
    const { sse } = res as unknown as Express.Response
    return { res, stream: sse, text: () => text }
  }

  it('receives a stream through its own write and end', async () => {
    const { res, stream, text } = respond()
    expect(await stream.send('a')).toBe(true)
    expect(stream.state).toBe('open')
    stream.close()
    expect(stream.state).toBe('closed')
    expect(await stream.send('b')).toBe(false)
    expect(res.writableEnded).toBe(true)
    expect(text()).toBe('retry: 2000\ndata: a\n\n')
  })

  it('does not keep its hub from closing', async () => {
    const { stream, text } = respond()
    const hub = new Hub()
    await hub.publish('a', 'item', 1)
    const subscription = await stream.subscribe(hub, 'a', { rewind: 1 })
    await hub.close()
    await subscription.ended
    expect(parse(text()).map(({ event }) => event)).toEqual(['item', 'stream-open', 'stream-end'])
  })
})
