import type { Request, Response } from 'express'
import supertest from 'supertest'
import { Hub, sseMiddleware, type SseMiddlewareOptions } from 'express-sse-hub'
import { TestClient, until } from '../support/client.ts'
import * as support from '../support/open-stream.ts'
import { EXPRESS_VERSIONS } from '../support/express-versions.ts'
import { stopServers } from '../support/servers.ts'

afterEach(stopServers)

describe.each(EXPRESS_VERSIONS)('a stream on %s', (_name, express) => {
  const serveWith = (handler: (req: Request, res: Response) => unknown, options?: SseMiddlewareOptions) =>
    support.serveWith(express, handler, options)

  const openStream = (options?: SseMiddlewareOptions) => support.openStream(express, options)

  describe('send', () => {
    it('sends strings as they are and everything else as JSON', async () => {
      const { stream, client } = await openStream()
      const values = ['text', '', '{"a":1}', 'one\r\ntwo\rthree\n', { a: [1, null] }, 0, false, null, '\u2028ü😀']
      for (const value of values) expect(await stream.send(value)).toBe(true)
      await client.received(values.length)
      expect(client.events.map(({ data }) => data)).toEqual([
        'text',
        '',
        '{"a":1}',
        'one\ntwo\nthree\n',
        '{"a":[1,null]}',
        '0',
        'false',
        'null',
        '\u2028ü😀',
      ])
    })

    it('sends the event name, the id and the retry time', async () => {
      const { stream, client } = await openStream()
      await stream.send('x', { event: 'tick', id: '7', retry: 0 })
      await client.received(1)
      expect(client.events).toEqual([{ event: 'tick', id: '7', data: 'x' }])
      expect(client.retries).toEqual([2000, 0])
    })

    it('opens the stream by itself', async () => {
      const { url } = await serveWith((_req, res) => res.sse.send('first'))
      const client = await TestClient.open(url)
      await client.received(1)
      expect(client.text).toBe('retry: 2000\ndata: first\n\n')
    })

    it('passes everything but strings through the `serialize` option', async () => {
      const { stream, client } = await openStream({ serialize: (value) => `<${typeof value}>` })
      await stream.send('x')
      await stream.send(5n)
      await client.received(2)
      expect(client.events.map(({ data }) => data)).toEqual(['x', '<bigint>'])
    })

    const cycle: Record<string, unknown> = {}
    cycle['self'] = cycle
    it.each<[string, unknown, RegExp]>([
      ['undefined', undefined, /undefined/],
      ['a function', function tick() {}, /tick/],
      ['a symbol', Symbol('s'), /Symbol\(s\)/],
      ['a BigInt', 7n, /7n/],
      ['a cycle', cycle, /self/],
    ])('rejects %s, and leaves the stream open', async (_what, value, message) => {
      const { stream, client } = await openStream()
      await expect(stream.send(value)).rejects.toMatchObject({
        code: 'SSE_INVALID_DATA',
        message: expect.stringMatching(message) as string,
      })
      expect(stream.state).toBe('open')
      expect(await stream.send('after')).toBe(true)
      await client.received(1)
      expect(client.text).toBe('retry: 2000\ndata: after\n\n')
    })

    it.each<[string, Record<string, unknown>]>([
      ['an event with a line break', { event: 'a\ndata: forged' }],
      ['an id with a carriage return', { id: '1\rdata: forged' }],
      ['an id with NUL', { id: 'a\0b' }],
      ['a retry that is a string', { retry: '5\n\ndata: forged' }],
    ])('rejects %s, sends none of it, and leaves the stream open', async (_what, fields) => {
      const { stream, client } = await openStream()
      await expect(stream.send('x', fields)).rejects.toMatchObject({ code: 'SSE_INVALID_EVENT' })
      await stream.send('after')
      await client.received(1)
      expect(client.text).toBe('retry: 2000\ndata: after\n\n')
    })

    it('rejects invalid data before it opens the stream', async () => {
      const app = express()
      app.use(sseMiddleware())
      app.get('/', async (_req, res) => {
        const code = await res.sse.send(undefined).catch((error: unknown) => (error as { code: string }).code)
        res.status(500).json({ code, state: res.sse.state })
      })
      const answer = await supertest(app).get('/').expect(500)
      expect(answer.body).toEqual({ code: 'SSE_INVALID_DATA', state: 'idle' })
    })

    it('keeps the order of unawaited sends', async () => {
      const { stream, client } = await openStream()
      const sent = Array.from({ length: 2000 }, (_, n) => stream.send(n))
      expect(new Set(await Promise.all(sent))).toEqual(new Set([true]))
      await client.received(2000)
      expect(client.data).toEqual(Array.from({ length: 2000 }, (_, n) => n))
    })

    it('delivers an event of several megabytes whole, and the next after it', async () => {
      const { stream, client } = await openStream()
      const big = 'ü'.repeat(2_000_000)
      expect(await stream.send(big)).toBe(true)
      expect(await stream.send('after')).toBe(true)
      await client.received(2)
      expect(client.events[0]?.data === big).toBe(true)
    })
  })

  describe('on a subscribed stream', () => {
    const subscribed = async () => {
      const hub = new Hub()
      const { stream, client } = await openStream()
      const subscription = await stream.subscribe(hub, ['a'])
      await client.live()
      return { hub, stream, client, subscription }
    }

    it('send and stream refuse an id, and send an event without one between the events of the hub', async () => {
      const { hub, stream, client } = await subscribed()
      await expect(stream.send('x', { id: '1' })).rejects.toMatchObject({ code: 'SSE_ID_RESERVED' })
      await expect(stream.send('x', { id: '' })).rejects.toMatchObject({ code: 'SSE_ID_RESERVED' })
      await expect(stream.stream(['x'], (data) => ({ data, id: '1' }))).rejects.toMatchObject({ code: 'SSE_ID_RESERVED' })
      const id = await hub.publish('a', 'e', 1)
      await client.received(1)
      expect(await stream.send(2, { event: 'direct' })).toBe(true)
      await client.received(2)
      expect(client.channelEvents).toEqual([
        { id, event: 'e', data: '1' },
        { id: undefined, event: 'direct', data: '2' },
      ])
    })

    it('send and stream refuse an event name that begins with "stream-"', async () => {
      const { stream } = await subscribed()
      await expect(stream.send('x', { event: 'stream-reset' })).rejects.toMatchObject({ code: 'SSE_INVALID_EVENT' })
      await expect(stream.stream(['x'], (data) => ({ data, event: 'stream-x' }))).rejects.toMatchObject({ code: 'SSE_INVALID_EVENT' })
      expect(stream.state).toBe('open')
    })

    it('subscribe is refused, on the same hub, on another, and after the subscription is closed', async () => {
      const { hub, stream, subscription } = await subscribed()
      await expect(stream.subscribe(hub, ['b'])).rejects.toMatchObject({ code: 'SSE_ALREADY_SUBSCRIBED' })
      await expect(stream.subscribe(new Hub(), ['b'])).rejects.toMatchObject({ code: 'SSE_ALREADY_SUBSCRIBED' })
      subscription.close()
      await expect(stream.subscribe(hub, ['b'])).rejects.toMatchObject({ code: 'SSE_ALREADY_SUBSCRIBED' })
      expect(hub.channel('b').subscriberCount).toBe(0)
    })

    it('subscribe with an invalid argument does not use up the one subscription', async () => {
      const hub = new Hub()
      const { stream, client } = await openStream()
      await expect(stream.subscribe({} as Hub, ['a'])).rejects.toThrow(/hub must be a Hub/)
      await expect(stream.subscribe(hub, [])).rejects.toThrow(RangeError)
      await expect(stream.subscribe(hub, ['a'], { rewind: -1 })).rejects.toThrow(/rewind/)
      await stream.subscribe(hub, ['a'])
      await client.live()
    })
  })

  describe('comment', () => {
    it('sends comment lines, and cannot forge an event', async () => {
      const { stream, client } = await openStream()
      expect(await stream.comment('hello')).toBe(true)
      await stream.comment('a\ndata: forged\r\n\r\ndata: forged\r\revent: x')
      await stream.comment()
      await stream.send('after')
      await client.received(1)
      expect(client.events).toEqual([{ event: undefined, id: undefined, data: 'after' }])
      expect(client.comments).toEqual(['hello', 'a', 'data: forged', '', 'data: forged', '', 'event: x', ''])
    })

    it('refuses text that is not a string', async () => {
      const { stream } = await openStream()
      await expect(stream.comment(5 as unknown as string)).rejects.toThrow(/text must be a string, got 5/)
      expect(stream.state).toBe('open')
    })
  })

  describe('on a response that the program uses directly', () => {
    it('throws from open and rejects everything else once the head is sent', async () => {
      const outcomes: unknown[] = []
      const { url } = await serveWith(async (_req, res) => {
        res.write('mine')
        const codeOf = (error: unknown) => (error as { code: unknown }).code
        try {
          outcomes.push(res.sse.open())
        } catch (error) {
          outcomes.push(codeOf(error))
        }
        outcomes.push(await res.sse.send('x').catch(codeOf), await res.sse.comment('x').catch(codeOf))
        outcomes.push(await res.sse.stream(['x']).catch(codeOf), await res.sse.subscribe(new Hub(), ['a']).catch(codeOf))
        res.end()
      })
      const client = await TestClient.open(url)
      await client.over()
      expect(client.text).toBe('mine')
      expect(outcomes).toEqual(Array(5).fill('SSE_HEAD_SENT'))
    })

    it('stops the source of a stream() that it rejects', async () => {
      let stopped = false
      const { url } = await serveWith(async (_req, res) => {
        res.json('mine')
        const source = {
          [Symbol.iterator]: () => ({
            next: () => ({ done: false, value: 'x' }),
            return: () => ((stopped = true), { done: true, value: undefined }),
          }),
        }
        await res.sse.stream(source as Iterable<string>).catch(() => {})
      })
      await (await TestClient.open(url)).over()
      expect(stopped).toBe(true)
    })

    it('ignores close, which leaves the response to the program', async () => {
      const { url } = await serveWith((_req, res) => {
        res.write('mine')
        res.sse.close()
        res.sse.close({ reconnect: false })
        res.end(` ${res.sse.state}`)
      })
      const client = await TestClient.open(url)
      await client.over()
      expect(client.text).toBe('mine closed')
    })

    it('resolves send to false, at once and later, after the program ends the response', async () => {
      const responses: Response[] = []
      const { url } = await serveWith((_req, res) => {
        responses.push(res)
        res.sse.open()
      })
      const client = await TestClient.open(url)
      const res = responses[0] as Response
      res.end()
      const atOnce = res.sse.send('after the end')
      await client.over()
      expect(await atOnce).toBe(false)
      expect(await res.sse.send('later')).toBe(false)
      expect(client.events).toEqual([])
      await until(() => res.sse.state === 'closed', 'the stream is closed')
      expect(res.sse.signal.aborted).toBe(true)
    })
  })

  it("turns Nagle's algorithm off", async () => {
    const calls: unknown[] = []
    const { url } = await serveWith((req, res) => {
      jest.spyOn(req.socket, 'setNoDelay').mockImplementation((on) => (calls.push(on), req.socket))
      res.sse.open()
    })
    await TestClient.open(url)
    expect(calls).toEqual([true])
  })

  it('sends its own status instead of one that the program has set', async () => {
    const { url } = await serveWith((_req, res) => {
      res.status(500)
      res.sse.close()
    })
    const client = await TestClient.open(url)
    expect(client.status).toBe(200)
  })
})
