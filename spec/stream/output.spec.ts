import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { SharedBytes } from '../../lib/gzip/shared-bytes.ts'
import { WriteBuffer } from '../../lib/stream/write-buffer.ts'
import { Output } from '../../lib/stream/output.ts'
import { TestClient, until } from '../support/client.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

/** Opens an output on a real response, and the client that reads it. */
async function openOutput(prepare: (res: ServerResponse) => void = () => {}, buffer = new WriteBuffer()) {
  const ticks = { tick: 0 }
  const owner = { drained: jest.fn<void, []>(), failed: jest.fn<void, [unknown]>() }
  const made: { output: Output; res: ServerResponse }[] = []
  const { url } = await serve((req, res) => {
    prepare(res)
    res.removeHeader('Transfer-Encoding')
    res.shouldKeepAlive = false
    const output = new Output(res, owner, ticks, null, buffer)
    made.push({ output, res })
    output.begin(req, SharedBytes.of(Buffer.from(':\n')))
  })
  const client = await TestClient.open(url)
  const [{ output, res }] = made as [{ output: Output; res: ServerResponse }]
  return { output, res, socket: res.socket as Socket, client, owner, ticks }
}

const MIB = 1_048_576
const KIB_64 = 65_536
const event = (letter: string, length: number): SharedBytes => SharedBytes.of(Buffer.from(`data: ${letter.repeat(length)}\n\n`))

/** Writes shared bytes until the output is full, and reads nothing. */
function fill(output: Output): number {
  let written = 0
  while (!output.full && written < 64 * MIB) {
    output.write(event('f', 1_000))
    written++
  }
  return written
}

describe('an output', () => {
  it('writes the bytes unframed and identical for every client', async () => {
    const first = await openOutput()
    const second = await openOutput()
    const shared = event('a', 10)
    for (const { output } of [first, second]) {
      output.write(shared)
      output.end()
    }
    await first.client.over()
    await second.client.over()
    expect(first.client.text).toBe(`:\n${shared.bytes.toString()}`)
    expect(second.client.text).toBe(first.client.text)
    expect(first.client.response.headers).not.toHaveProperty('transfer-encoding')
  })

  it('is not full after a write over the high-water mark that the kernel accepts', async () => {
    const { output, socket, client } = await openOutput()
    // The return value of `write` here differs between versions of Node.
    const write = socket.write.bind(socket)
    jest.spyOn(socket, 'write').mockImplementation((chunk) => write(chunk) && false)
    output.write(event('a', KIB_64 - 8))
    expect(socket.writableLength).toBe(0)
    expect(output.full).toBe(false)
    await client.received(1)
  })

  it('holds no more than one write of a large event while the socket is full', async () => {
    const { output, socket, client, owner } = await openOutput()
    client.pause()
    output.write(event('a', 16 * MIB))
    expect(output.full).toBe(true)
    expect(socket.writableLength).toBeGreaterThan(0)
    expect(socket.writableLength).toBeLessThanOrEqual(KIB_64)
    expect(owner.drained).not.toHaveBeenCalled()
    client.resume()
    await client.received(1)
    expect(client.events[0]?.data).toHaveLength(16 * MIB)
    await until(() => owner.drained.mock.calls.length === 1, 'the owner was notified')
    expect(output.full).toBe(false)
  })

  it('writes direct text after the large event that is in progress', async () => {
    const { output, client } = await openOutput()
    client.pause()
    output.write(event('a', 16 * MIB))
    expect(output.full).toBe(true)
    expect(output.writeDirect('data: direct\n\n')).toBe(true)
    client.resume()
    await client.received(2)
    expect(client.events.map(({ data }) => data.length)).toEqual([16 * MIB, 'direct'.length])
  })

  it('finishes the large event that is in progress before it ends', async () => {
    const { output, client } = await openOutput()
    client.pause()
    output.write(event('a', 16 * MIB))
    output.end()
    client.resume()
    await client.over()
    expect(client.events.map(({ data }) => data.length)).toEqual([16 * MIB])
  })

  it('notifies its owner once each time that it stops being full', async () => {
    const { output, client, owner } = await openOutput()
    for (let round = 1; round <= 3; round++) {
      client.pause()
      fill(output)
      expect(output.full).toBe(true)
      client.resume()
      await until(() => owner.drained.mock.calls.length === round, 'the owner was notified')
      expect(output.full).toBe(false)
    }
    output.end()
    await client.over()
    expect(owner.drained).toHaveBeenCalledTimes(3)
    expect(owner.failed).not.toHaveBeenCalled()
  })

  it('refuses direct text over the limit, and writes none of it', async () => {
    const { output, socket, client } = await openOutput()
    client.pause()
    fill(output)
    const queued = socket.writableLength
    const block = `data: ${'d'.repeat(1_000 - 8)}\n\n`
    let taken = 0
    while (taken < 1_000 && output.writeDirect(block, 10_000)) taken++
    expect(taken).toBe(10)
    expect(socket.writableLength).toBe(queued + 10_000)
    client.resume()
    await until(() => client.events.filter(({ data }) => data.startsWith('d')).length === 10, 'the accepted text has arrived')
    await until(() => !output.full, 'there is room')
    expect(output.writeDirect(block, 0)).toBe(true)
  })

  it('does not count queued shared bytes against the limit of direct text', async () => {
    const { output, client } = await openOutput()
    client.pause()
    fill(output)
    expect(output.writeDirect('data: d\n\n', 0)).toBe(true)
    expect(output.writeDirect('data: d\n\n', 0)).toBe(false)
  })

  it('joins the writes while it is corked into one', async () => {
    const { output, socket, client } = await openOutput()
    await until(() => client.text === ':\n', 'the head arrived')
    const before = socket.bytesWritten - socket.writableLength
    const write = jest.spyOn(socket, 'write')
    // One uncork writes everything, even after two corks.
    output.cork()
    output.cork()
    for (let n = 0; n < 10; n++) output.write(event('a', 100))
    expect(socket.bytesWritten - socket.writableLength).toBe(before)
    expect(output.full).toBe(false)
    output.uncork()
    await client.received(10)
    expect(write).toHaveBeenCalledTimes(1)
  })

  it('keeps the order of small and large writes while it is corked', async () => {
    const { output, client } = await openOutput()
    const lengths = [10, 5_000, 20, 30, 4_000, 4_000, 4_000, 4_000, 4_000, 100_000, 40]
    output.cork()
    for (const length of lengths) {
      if (length > 65_536) output.uncork()
      output.write(event('a', length))
    }
    output.uncork()
    await client.received(lengths.length)
    expect(client.events.map(({ data }) => data.length)).toEqual(lengths)
  })

  it('does not overwrite bytes that a socket still holds when outputs share a write buffer', async () => {
    const buffer = new WriteBuffer()
    const [one, two] = [await openOutput(undefined, buffer), await openOutput(undefined, buffer)]
    await until(() => one.client.text === ':\n', 'the head arrived')
    one.socket.cork()
    for (const [letter, { output }] of [
      ['a', one],
      ['b', two],
      ['c', one],
      ['d', two],
    ] as const) {
      output.cork()
      for (let n = 0; n < 3; n++) output.write(event(letter, 10))
      output.uncork()
    }
    one.socket.uncork()
    await Promise.all([one.client.received(6), two.client.received(6)])
    expect(one.client.events.map(({ data }) => data[0]).join('')).toBe('aaaccc')
    expect(two.client.events.map(({ data }) => data[0]).join('')).toBe('bbbddd')
  })

  it('writes at once while another output uses the write buffer, and mixes nothing up', async () => {
    const buffer = new WriteBuffer()
    const [one, two] = [await openOutput(undefined, buffer), await openOutput(undefined, buffer)]
    one.output.cork()
    one.output.write(event('a', 10))
    two.output.cork()
    two.output.write(event('b', 10))
    one.output.write(event('c', 10))
    two.output.uncork()
    one.output.uncork()
    await Promise.all([one.client.received(2), two.client.received(1)])
    expect(one.client.text).toBe(`:\n${event('a', 10).bytes.toString()}${event('c', 10).bytes.toString()}`)
    expect(two.client.text).toBe(`:\n${event('b', 10).bytes.toString()}`)
  })

  it('ends after the buffered writes', async () => {
    const { output, client } = await openOutput()
    output.cork()
    output.write(event('a', 10))
    output.end()
    await client.over()
    expect(client.text).toBe(`:\n${event('a', 10).bytes.toString()}`)
  })

  it('is full when the buffered writes do not leave', async () => {
    const { output, client, owner } = await openOutput()
    client.pause()
    while (!output.full) {
      output.cork()
      for (let n = 0; n < 50; n++) output.write(event('a', 1_000))
      output.uncork()
    }
    client.resume()
    await until(() => owner.drained.mock.calls.length === 1, 'the owner was notified')
    expect(output.full).toBe(false)
  })

  describe('measures a stall', () => {
    it('in ticks without a byte leaving, even while bytes are added', async () => {
      const { output, client, ticks } = await openOutput()
      client.pause()
      fill(output)
      // The kernel may accept a few more bytes later.
      await until(() => (ticks.tick++, output.stalledTicks() >= 200), 'nothing leaves')
      const stalled = output.stalledTicks()
      output.writeDirect('data: d\n\n')
      ticks.tick += 5
      expect(output.stalledTicks()).toBe(stalled + 5)
      client.resume()
      await until(() => output.stalledTicks() === 0, 'bytes leave')
    })

    it('after the end', async () => {
      const { output, client, ticks } = await openOutput()
      client.pause()
      fill(output)
      output.end()
      expect(output.stalledTicks()).toBe(0)
      await until(() => (ticks.tick++, output.stalledTicks() >= 200), 'nothing leaves')
      expect(client.ended).toBe(false)
    })
  })

  describe('behind a middleware that wraps the response', () => {
    it('writes through the wrapper, and flushes it after each write', async () => {
      const seen: string[] = []
      const flush = jest.fn()
      const { output, client } = await openOutput((res) => {
        const write = res.write.bind(res)
        res.write = ((chunk: Buffer | string) => {
          seen.push(String(chunk))
          return write(chunk, 'utf8')
        }) as typeof res.write
        Object.assign(res, { flush })
      })
      output.write(event('a', 3))
      output.writeDirect('data: d\n\n')
      await client.received(2)
      expect(seen).toEqual([':\n', 'data: aaa\n\n', 'data: d\n\n'])
      expect(flush).toHaveBeenCalledTimes(3)
    })

    it('notifies its owner when the wrapper throws, and accepts no more bytes', async () => {
      let isBroken = false
      const fault = new Error('wrapper broke')
      const { output, owner } = await openOutput((res) => {
        const write = res.write.bind(res)
        res.write = ((chunk: Buffer) => {
          if (isBroken) throw fault
          return write(chunk, 'utf8')
        }) as typeof res.write
      })
      isBroken = true
      expect(() => output.write(event('a', 3))).not.toThrow()
      expect(owner.failed.mock.calls).toEqual([[fault]])
      expect(output.full).toBe(true)
    })

    it('keeps to the pace of the client', async () => {
      const { output, res, client, owner } = await openOutput((response) => {
        const write = response.write.bind(response)
        response.write = ((chunk: Buffer) => write(chunk, 'utf8')) as typeof response.write
      })
      client.pause()
      output.write(event('a', 16 * MIB))
      expect(output.full).toBe(true)
      expect(res.writableLength).toBeLessThanOrEqual(KIB_64)
      client.resume()
      await client.received(1)
      await until(() => owner.drained.mock.calls.length === 1, 'the owner was notified')
    })
  })

  it('is full and throws nothing once the client has left', async () => {
    const { output, res, client, owner } = await openOutput()
    client.leave()
    await until(() => res.destroyed, 'the client has left')
    output.write(event('a', 3))
    expect(output.full).toBe(true)
    expect(output.writeDirect('data: d\n\n')).toBe(true)
    output.end()
    output.destroy()
    expect(owner.failed).not.toHaveBeenCalled()
  })
})
