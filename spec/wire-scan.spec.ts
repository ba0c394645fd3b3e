import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { gzipSync } from 'node:zlib'
import { TestClient, until } from './support/client.ts'
import { serve, stopServers } from './support/servers.ts'
import { takeFound } from './support/wire-scan.ts'

afterEach(stopServers)

const HEAD = { 'Content-Type': 'text/event-stream' }

describe('the scan of everything that the servers of the suite send', () => {
  it.each([
    ['a retry by itself', ['retry: 2000\n\n'], ['retry: 2000']],
    ['a comment with a blank line', ['data: a\n\n', ':\n\n', 'data: b\n\n'], [':']],
    ['an id by itself in several writes', ['data: a\n', '\nid: 7\n', '\ndata: b\n\n'], ['id: 7']],
    ['an event by itself', ['event: data:\n\n'], ['event: data:']],
    ['a blank line after an event', ['data: a\n\n\n\n'], ['', '']],
  ])('finds %s', async (_what, writes, blocks) => {
    for (const version of ['chunked', 'gzip', 'close'] as const) {
      const { url } = await serve((_req, res) => {
        res.writeHead(200, {
          ...HEAD,
          ...(version === 'gzip' ? { 'Content-Encoding': 'gzip' } : {}),
          ...(version === 'close' ? { Connection: 'close', 'Transfer-Encoding': 'identity' } : {}),
        })
        if (version === 'gzip') res.write(gzipSync(writes.join('')))
        else for (const write of writes) res.write(write)
        res.end()
      })
      const client = await TestClient.open(url)
      await client.over()
      const found: string[] = []
      await until(() => found.push(...takeFound()) >= blocks.length, `${version} is scanned`)
      expect(found.map((block) => block.trim())).toEqual(blocks)
    }
  })

  it('finds a comment with a blank line on HTTP/2', async () => {
    const server = http2.createServer((_req, res) => {
      res.writeHead(200, HEAD)
      res.write(':\n\n')
      res.end('data: a\n\n')
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const stream = session.request({ ':path': '/' })
    stream.resume()
    await once(stream, 'end')
    session.destroy()
    server.close()
    expect(takeFound().map((block) => block.trim())).toEqual([':'])
  })

  it.each([
    [
      'events, comments, and a retry before an event',
      HEAD,
      ['retry: 1\n:\n', 'id: 1\nevent: e\ndata: a\ndata: b\n\n:\n', ': c\ndata\ndata: \n\n'],
    ],
    ['blank lines in another content type', { 'Content-Type': 'text/plain' }, ['a\n\nb\n\n']],
  ])('accepts %s', async (_what, head, writes) => {
    const { url } = await serve((_req, res) => {
      res.writeHead(200, head)
      for (const write of writes) res.write(write)
      res.end()
    })
    await (await TestClient.open(url)).over()
    expect(takeFound()).toEqual([])
  })
})
