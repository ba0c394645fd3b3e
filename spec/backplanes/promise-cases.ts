import type { Published } from '../../lib/backplanes/backplane.ts'
import { publication } from '../support/publication.ts'
import { inBackground, type Case, codeOf, freshName, type RawNode, sent } from './kit.ts'

const positionsOf = (published: readonly { readonly position: number }[]): number[] => published.map(({ position }) => position)
const ascending = (positions: readonly number[]): number[] => positions.toSorted((a, b) => a - b)

/** Publishes events to channels in turn, all at once. */
async function burst(node: RawNode, channels: readonly string[], count: number): Promise<Published[]> {
  return Promise.all(
    Array.from({ length: count }, (_, n) => node.publish(channels[n % channels.length] as string, `${node.backplane.processId} ${n}`)),
  )
}

/** The error codes with which every call that has an answer is rejected. */
async function answersOf(node: RawNode): Promise<Record<string, unknown>> {
  const { backplane } = node
  const { log } = backplane
  const calls: Record<string, () => unknown> = {
    publish: () => node.publish('a', 'too late'),
    broadcast: () => backplane.broadcast('too late', false),
    'vital broadcast': () => backplane.broadcast('too late', true),
    watch: () => log?.watch(['b']) ?? node.publish('a', 'too late'),
    read: () => log?.read('token', '', [{ channel: 'a', after: 0 }]) ?? node.publish('a', 'too late'),
    acquire: () => log?.acquire('key', 1) ?? node.publish('a', 'too late'),
  }
  const answers = await Promise.all(Object.entries(calls).map(async ([name, call]) => [name, await codeOf(call)] as const))
  return Object.fromEntries(answers)
}

const REJECTED = Object.fromEntries(
  ['publish', 'broadcast', 'vital broadcast', 'watch', 'read', 'acquire'].map((name) => [name, 'SSE_BACKPLANE_UNAVAILABLE']),
)

/** The promises of a backplane to its hub, tested without a hub. */
export const promiseCases: readonly Case[] = [
  {
    name: 'gives every event a unique position in microseconds, in one order for all nodes',
    async run(kit) {
      const nodes = await kit.raws(3)
      const from = Date.now() * 1_000
      const bursts = await Promise.all(nodes.map((node) => burst(node, ['a', 'b'], 30)))
      for (const published of bursts) expect(positionsOf(published)).toEqual(ascending(positionsOf(published)))
      const all = bursts.flat()
      expect(new Set(positionsOf(all)).size).toBe(90)
      expect(new Set(all.map(({ epoch }) => epoch)).size).toBe(1)
      expect(all.every(({ isNew }) => isNew)).toBe(true)
      for (const node of nodes) {
        const { position } = await node.publish('c', 'later')
        expect(position).toBeGreaterThan(Math.max(...positionsOf(all)))
        expect(Number.isSafeInteger(position)).toBe(true)
        // The engine may have a clock of its own.
        expect(Math.abs(position - from)).toBeLessThan(3_600_000_000)
      }
    },
  },
  {
    name: 'delivers all events to every node, unchanged and in the order of their positions',
    async run(kit) {
      const nodes = await kit.raws(3)
      for (const node of nodes) await node.watch('a', 'b', 'c')
      const bursts = await Promise.all(nodes.map((node) => burst(node, ['a', 'b', 'c'], 30)))
      const marker = await nodes[0].publish('b', 'marker')
      const positions = ascending(positionsOf([...bursts.flat(), marker]))
      for (const node of nodes) {
        await node.received('marker')
        expect(positionsOf(node.events.map(({ event }) => event))).toEqual(positions)
        expect(node.events.every(({ epoch }) => epoch === marker.epoch)).toBe(true)
        const received = node.events.map(({ channel, event: { event, text, isString, key } }) => ({ channel, event, text, isString, key }))
        expect(received.at(-1)).toEqual({ channel: 'b', event: 'item', text: 'marker', isString: true, key: undefined })
        expect(node.events).toEqual(nodes[0].events)
      }
    },
  },
  {
    name: 'delivers each event with the previous position of its channel',
    needs: ['log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      const before = await other.publish('a', 'before')
      await node.watch('a', 'b')
      await Promise.all([burst(node, ['a', 'b'], 20), burst(other, ['b', 'a'], 20)])
      await other.publish('a', 'marker')
      await node.received('marker')
      for (const [channel, first] of [['a', before.position] as const, ['b', 0] as const]) {
        const events = node.events.filter((each) => each.channel === channel).map(({ event }) => event)
        expect(events.map(({ prev }) => prev)).toEqual([first, ...positionsOf(events).slice(0, -1)])
      }
    },
  },
  {
    name: 'delivers every event that is published after watch() has resolved',
    needs: ['log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      for (let round = 0; round < 10; round++) {
        const name = freshName()
        await node.watch(name)
        await other.publish(name, `round ${round}`)
        await node.read([{ channel: name, after: 0 }])
        expect(node.events.filter(({ channel }) => channel === name)).toHaveLength(1)
      }
    },
  },
  {
    name: 'reports a log head as reached after all events before it, and before all that follow',
    needs: ['log'],
    async run(kit) {
      const [node, ...others] = await kit.raws(3)
      await node.watch('a', 'b')
      const bursts: Promise<Published[]>[] = []
      const heads: { readonly newest: number; readonly reached: number }[] = []
      for (let round = 0; round < 8; round++) {
        bursts.push(...others.map((other) => inBackground(burst(other, ['a', 'b'], 12))))
        const [one, two] = await Promise.all([node.read([]), node.read([{ channel: 'a', after: 0 }])])
        heads.push(one, two)
      }
      const published = ascending(positionsOf((await Promise.all(bursts)).flat()))
      await others[0]?.publish('b', 'marker')
      await node.received('marker')
      for (const { newest, reached } of heads) {
        const before = node.calls.slice(0, reached).filter(({ name }) => name === 'event')
        expect(before).toHaveLength(published.filter((position) => position <= newest).length)
        const received = node.calls.slice(0, reached).flatMap((each) => (each.name === 'event' ? [each.event.position] : []))
        expect(Math.max(0, ...received)).toBeLessThan(newest)
      }
    },
  },
  {
    name: 'reads all channels at one log head',
    needs: ['log'],
    async run(kit) {
      const [node, ...others] = await kit.raws(3)
      await node.watch('a', 'b')
      const [first] = (await burst(node, ['a'], 1)) as [Published]
      const bursts: Promise<Published[]>[] = []
      const histories = []
      for (let round = 0; round < 8; round++) {
        bursts.push(...others.map((other) => inBackground(burst(other, ['a', 'b'], 12))))
        histories.push(
          await node.read(
            [
              { channel: 'b', after: 0 },
              { channel: 'a', after: first.position },
            ],
            first.epoch,
          ),
        )
      }
      await Promise.all(bursts)
      await node.publish('b', 'marker')
      await node.received('marker')
      for (const { epoch, newest, channels } of histories) {
        expect(epoch).toBe(first.epoch)
        const expected = (name: string) =>
          node.events
            .filter(({ channel, event: { position } }) => channel === name && position > first.position && position <= newest)
            .map(({ event }) => event)
        expect(channels.map(({ events }) => events)).toEqual([expected('b'), expected('a')])
        expect([channels[0]?.floor, (channels[1]?.floor ?? Infinity) <= first.position]).toEqual([0, true])
      }
      expect(histories.map(({ newest }) => newest)).toEqual(ascending(histories.map(({ newest }) => newest)))
    },
  },
  {
    name: 'returns a floor between the dropped events and the kept ones',
    needs: ['log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      const published: Published[] = []
      for (let n = 0; n < 6; n++) published.push(await [node, other][n % 2]!.publish('a', `${n}`, { bounds: { maxEvents: 3 } }))
      const { epoch } = published[0] as Published
      const positions = positionsOf(published)
      const read = async (after: number) => {
        const { channels } = await other.read(
          [
            { channel: 'a', after },
            { channel: 'never used', after: 0 },
          ],
          epoch,
        )
        expect(channels[1]).toEqual({ floor: 0, events: [] })
        const [{ floor, events }] = channels as [(typeof channels)[0]]
        return { isComplete: floor <= after, floor, texts: events.map(({ text }) => text) }
      }
      const all = await read(0)
      expect(all.texts).toEqual(['3', '4', '5'])
      expect([all.floor >= (positions[2] as number), all.floor < (positions[3] as number)]).toEqual([true, true])
      expect(await read(positions[1] as number)).toMatchObject({ isComplete: false, texts: ['3', '4', '5'] })
      expect(await read(positions[2] as number)).toMatchObject({ isComplete: true, texts: ['3', '4', '5'] })
      expect(await read(positions[4] as number)).toMatchObject({ isComplete: true, texts: ['5'] })
      expect(await read(positions[5] as number)).toMatchObject({ isComplete: true, texts: [] })
    },
  },
  {
    name: 'returns every kept event if the position is of another epoch',
    needs: ['log'],
    async run(kit) {
      const node = await kit.raw()
      await node.publish('a', 'one')
      const { position, epoch } = await node.publish('a', 'two')
      const textsIn = async (epochOfPosition: string): Promise<string[] | undefined> => {
        const { channels } = await node.read([{ channel: 'a', after: position }], epochOfPosition)
        return channels[0]?.events.map(({ text }) => text)
      }
      expect(await textsIn(epoch)).toEqual([])
      expect(await textsIn('0000000000')).toEqual(['one', 'two'])
      expect(await textsIn('')).toEqual(['one', 'two'])
    },
  },
  {
    name: 'delivers no event of a channel after unwatch(), and still those of the others',
    needs: ['log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      await node.watch('a', 'b')
      node.log.unwatch(['a'])
      await sent()
      await node.watch('c')
      for (const name of ['a', 'never watched', 'b', 'c']) await other.publish(name, `of ${name}`)
      await node.received('of c')
      expect(node.events.map(({ event }) => event.text)).toEqual(['of b', 'of c'])
      await node.watch('a')
      await other.publish('a', 'again')
      await node.received('again')
    },
  },
  {
    name: 'refuses one channel alone, in watch() and after an interruption, until it is admitted',
    needs: ['log', 'refuses'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      await kit.refuse('x')
      expect(await node.watch('a', 'x', 'b')).toEqual(['x'])
      expect(await node.watch('x')).toEqual(['x'])
      for (const name of ['x', 'a', 'b']) await other.publish(name, `of ${name}`)
      await node.received('of b')
      expect(node.events.map(({ event }) => event.text)).toEqual(['of a', 'of b'])
      await kit.admit('x')
      expect(await node.watch('x')).toEqual([])
      await other.publish('x', 'admitted')
      await node.received('admitted')
      await kit.refuse('x')
      const from = node.calls.length
      node.log.reconnect()
      const resumed = () => node.calls.slice(from).find(({ name }) => name === 'resumed')
      await kit.until(() => resumed() !== undefined, 'the connection is restored')
      expect(resumed()).toEqual({ name: 'resumed', refused: ['x'] })
      for (const name of ['x', 'a']) await other.publish(name, `${name} again`)
      await node.received('a again')
      expect(node.events.map(({ event }) => event.text)).not.toContain('x again')
    },
  },
  {
    name: 'reports an interruption, delivers nothing during it, and delivers every watched channel after it',
    needs: ['log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      await node.watch('a', 'b')
      for (let round = 0; round < 3; round++) {
        const from = node.calls.length
        const since = (): readonly string[] => node.calls.slice(from).map(({ name }) => name)
        const bursts = inBackground(burst(other, ['a', 'b'], 10))
        node.log.reconnect()
        const watching = node.watch(`c ${round}`).catch(() => {})
        await kit.until(() => since().includes('resumed'), 'the connection is restored')
        await Promise.all([watching, bursts])
        const [before, after] = [since().indexOf('interrupted'), since().indexOf('resumed')]
        expect([before >= 0, after - before]).toEqual([true, 1])
        // Channels that were watched before and during the interruption deliver.
        for (const channel of ['a', 'b', `c ${round}`]) {
          await other.publish(channel, `${channel} after ${round}`)
          await node.received(`${channel} after ${round}`)
        }
        expect(since().filter((name) => name === 'interrupted' || name === 'resumed')).toEqual(['interrupted', 'resumed'])
        const { epoch, channels } = await node.read([{ channel: 'a', after: 0 }])
        expect([epoch, channels[0]?.events.at(-1)?.text]).toEqual([(await bursts)[0]?.epoch, `a after ${round}`])
      }
    },
  },
  {
    name: 'recognises a repeated publish by its idempotency key, per channel and on every node',
    async run(kit) {
      const [node, other] = await kit.raws(2)
      await node.watch('a', 'b', 'ab')
      const first = await node.publish('a', 'first', { idempotencyKey: 'bk' })
      expect(first.isNew).toBe(true)
      for (const from of [other, node]) {
        expect(await from.publish('a', 'again', { idempotencyKey: 'bk' })).toEqual({ ...first, isNew: false })
      }
      expect((await other.publish('b', 'of another channel', { idempotencyKey: 'bk' })).isNew).toBe(true)
      expect((await other.publish('ab', 'of a channel whose name is longer', { idempotencyKey: 'k' })).isNew).toBe(true)
      expect((await other.publish('a', 'with another key', { idempotencyKey: 'bk ' })).isNew).toBe(true)
      await other.publish('a', 'marker')
      await node.received('marker')
      expect(node.events.map(({ event }) => event.text)).toEqual([
        'first',
        'of another channel',
        'of a channel whose name is longer',
        'with another key',
        'marker',
      ])
    },
  },
  {
    name: 'carries control messages to every node, or to one',
    async run(kit) {
      const nodes = await kit.raws(3)
      const ids = nodes.map(({ backplane }) => backplane.processId)
      expect(new Set(ids).size).toBe(3)
      for (const [n, text] of ['plain', 'with a\nline break, {braces} and 😀', ''].entries()) {
        const node = nodes[n] as RawNode
        expect((await node.backplane.broadcast(text, n === 1)).toSorted()).toEqual(ids.toSorted())
        for (const each of nodes) await each.receivedControlMessage(text)
      }
      nodes[0].backplane.send(nodes[1].backplane.processId, 'for one')
      await nodes[1].receivedControlMessage('for one')
      await nodes[0].backplane.broadcast('marker', false)
      for (const node of nodes) await node.receivedControlMessage('marker')
      const counts = nodes.map(({ controlMessages }) => controlMessages.filter((text) => text === 'for one').length)
      expect(counts).toEqual([0, 1, 0])
    },
  },
  {
    name: 'delivers an event before publish() returns, and starts at the position that open() returns',
    needs: ['no log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      const positionsAt = (each: RawNode): number[] => each.events.map(({ event }) => event.position)
      const answer = node.backplane.publish(publication('a', 'x'))
      expect([positionsAt(node), positionsAt(other)]).toEqual([[expect.any(Number)], positionsAt(node)])
      const { position, epoch } = await answer
      expect(positionsAt(node)).toEqual([position])
      const late = await kit.raw()
      expect(late.start).toEqual({ epoch, newest: position })
      expect(late.calls).toEqual([])
    },
  },
  {
    name: 'rejects every call after close(), and no longer calls its host',
    async run(kit) {
      const [node, other, third] = await kit.raws(3)
      await node.watch('a')
      await third?.watch('a')
      await other.publish('a', 'before')
      await node.received('before')
      await node.backplane.close()
      const count = node.calls.length
      expect(await answersOf(node)).toEqual(REJECTED)
      await node.backplane.close()
      const { log } = node.backplane
      // Calls without an answer do nothing.
      node.backplane.send(other.backplane.processId, 'too late')
      log?.unwatch(['b'])
      log?.release('key')
      log?.reconnect()
      for (const text of ['one', 'two', 'marker']) {
        await other.publish('a', text)
        const ids = await other.backplane.broadcast(text, true)
        expect(ids).not.toContain(node.backplane.processId)
        await third?.received(text)
        await Promise.all([third?.receivedControlMessage(text), other.receivedControlMessage(text)])
      }
      expect(node.calls.slice(count)).toEqual([])
      expect([other.controlMessages, third?.events.map(({ event }) => event.text)]).toEqual([
        ['one', 'two', 'marker'],
        ['before', 'one', 'two', 'marker'],
      ])
    },
  },
  {
    name: 'rejects every call as soon as close() is called',
    async run(kit) {
      const [node, other] = await kit.raws(2)
      await other.watch('a')
      const closing = node.backplane.close()
      expect(await answersOf(node)).toEqual(REJECTED)
      await closing
      await other.publish('a', 'marker')
      await other.received('marker')
      expect(other.events.map(({ event }) => event.text)).toEqual(['marker'])
    },
  },
]
