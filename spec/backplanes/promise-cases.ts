import type { Published } from '../../lib/backplanes/backplane.ts'
import { aside, type Case, codeOf, freshName, type RawNode, sent } from './kit.ts'

const positionsOf = (published: readonly { readonly position: number }[]): number[] => published.map(({ position }) => position)
const ascending = (positions: readonly number[]): number[] => positions.toSorted((a, b) => a - b)

/** Publishes to channels in turn, all at once. */
async function burst(node: RawNode, channels: readonly string[], count: number): Promise<Published[]> {
  return Promise.all(
    Array.from({ length: count }, (_, n) => node.publish(channels[n % channels.length] as string, `${node.backplane.processId} ${n}`)),
  )
}

/** What all calls that have an answer are answered with. */
async function answersOf(node: RawNode): Promise<Record<string, unknown>> {
  const { backplane } = node
  const { log } = backplane
  const calls: Record<string, () => unknown> = {
    publish: () => node.publish('a', 'too late'),
    signal: () => backplane.broadcast('too late', false),
    'vital signal': () => backplane.broadcast('too late', true),
    watch: () => log?.watch(['b']) ?? node.publish('a', 'too late'),
    read: () => log?.read('token', '', [{ channel: 'a', after: 0 }]) ?? node.publish('a', 'too late'),
    acquire: () => log?.acquire('key', 1) ?? node.publish('a', 'too late'),
  }
  const answers = await Promise.all(Object.entries(calls).map(async ([name, call]) => [name, await codeOf(call)] as const))
  return Object.fromEntries(answers)
}

const REJECTED = Object.fromEntries(
  ['publish', 'signal', 'vital signal', 'watch', 'read', 'acquire'].map((name) => [name, 'SSE_BACKPLANE_UNAVAILABLE']),
)

/** What a backplane promises its hub, seen without one. */
export const promiseCases: readonly Case[] = [
  {
    name: 'gives every event a place of its own in one order of microseconds, whichever node publishes',
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
        // The engine's clock may be another one.
        expect(Math.abs(position - from)).toBeLessThan(3_600_000_000)
      }
    },
  },
  {
    name: 'tells every node of all events, in the order of their places, as they were published',
    async run(kit) {
      const nodes = await kit.raws(3)
      for (const node of nodes) await node.watch('a', 'b', 'c')
      const bursts = await Promise.all(nodes.map((node) => burst(node, ['a', 'b', 'c'], 30)))
      const marker = await nodes[0].publish('b', 'marker')
      const positions = ascending(positionsOf([...bursts.flat(), marker]))
      for (const node of nodes) {
        await node.heard('marker')
        expect(positionsOf(node.events.map(({ event }) => event))).toEqual(positions)
        expect(node.events.every(({ epoch }) => epoch === marker.epoch)).toBe(true)
        const heard = node.events.map(({ channel, event: { event, text, isString, key } }) => ({ channel, event, text, isString, key }))
        expect(heard.at(-1)).toEqual({ channel: 'b', event: 'item', text: 'marker', isString: true, key: undefined })
        expect(node.events).toEqual(nodes[0].events)
      }
    },
  },
  {
    name: 'names with each event the one before it in its channel',
    needs: ['log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      const before = await other.publish('a', 'before')
      await node.watch('a', 'b')
      await Promise.all([burst(node, ['a', 'b'], 20), burst(other, ['b', 'a'], 20)])
      await other.publish('a', 'marker')
      await node.heard('marker')
      for (const [channel, first] of [['a', before.position] as const, ['b', 0] as const]) {
        const events = node.events.filter((told) => told.channel === channel).map(({ event }) => event)
        expect(events.map(({ prev }) => prev)).toEqual([first, ...positionsOf(events).slice(0, -1)])
      }
    },
  },
  {
    name: 'tells of what is published once watch() has resolved',
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
    name: 'tells that a moment is reached after all events before it, and before all that follow',
    needs: ['log'],
    async run(kit) {
      const [node, ...others] = await kit.raws(3)
      await node.watch('a', 'b')
      const bursts: Promise<Published[]>[] = []
      const moments: { readonly newest: number; readonly reached: number }[] = []
      for (let round = 0; round < 8; round++) {
        bursts.push(...others.map((other) => aside(burst(other, ['a', 'b'], 12))))
        const [one, two] = await Promise.all([node.read([]), node.read([{ channel: 'a', after: 0 }])])
        moments.push(one, two)
      }
      const published = ascending(positionsOf((await Promise.all(bursts)).flat()))
      await others[0]?.publish('b', 'marker')
      await node.heard('marker')
      for (const { newest, reached } of moments) {
        const before = node.told.slice(0, reached).filter(({ what }) => what === 'event')
        expect(before).toHaveLength(published.filter((position) => position <= newest).length)
        const told = node.told.slice(0, reached).flatMap((each) => (each.what === 'event' ? [each.event.position] : []))
        expect(Math.max(0, ...told)).toBeLessThan(newest)
      }
    },
  },
  {
    name: 'reads of all channels what there was at one moment',
    needs: ['log'],
    async run(kit) {
      const [node, ...others] = await kit.raws(3)
      await node.watch('a', 'b')
      const [first] = (await burst(node, ['a'], 1)) as [Published]
      const bursts: Promise<Published[]>[] = []
      const histories = []
      for (let round = 0; round < 8; round++) {
        bursts.push(...others.map((other) => aside(burst(other, ['a', 'b'], 12))))
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
      await node.heard('marker')
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
    name: 'says up to where events are gone, and only that',
    needs: ['log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      const published: Published[] = []
      for (let n = 0; n < 6; n++) published.push(await [node, other][n % 2]!.publishWith({ maxEvents: 3 }, 'a', `${n}`))
      const { epoch } = published[0] as Published
      const places = positionsOf(published)
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
      expect([all.floor >= (places[2] as number), all.floor < (places[3] as number)]).toEqual([true, true])
      expect(await read(places[1] as number)).toMatchObject({ isComplete: false, texts: ['3', '4', '5'] })
      expect(await read(places[2] as number)).toMatchObject({ isComplete: true, texts: ['3', '4', '5'] })
      expect(await read(places[4] as number)).toMatchObject({ isComplete: true, texts: ['5'] })
      expect(await read(places[5] as number)).toMatchObject({ isComplete: true, texts: [] })
    },
  },
  {
    name: 'reads all that is kept where a place is of another epoch',
    needs: ['log'],
    async run(kit) {
      const node = await kit.raw()
      await node.publish('a', 'one')
      const { position, epoch } = await node.publish('a', 'two')
      const texts = async (of: string): Promise<string[] | undefined> => {
        const { channels } = await node.read([{ channel: 'a', after: position }], of)
        return channels[0]?.events.map(({ text }) => text)
      }
      expect(await texts(epoch)).toEqual([])
      expect(await texts('0000000000')).toEqual(['one', 'two'])
      expect(await texts('')).toEqual(['one', 'two'])
    },
  },
  {
    name: 'tells nothing of a channel that is not watched any more, and goes on with the others',
    needs: ['log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      await node.watch('a', 'b')
      node.log.unwatch(['a'])
      await sent()
      await node.watch('c')
      for (const name of ['a', 'never watched', 'b', 'c']) await other.publish(name, `of ${name}`)
      await node.heard('of c')
      expect(node.events.map(({ event }) => event.text)).toEqual(['of b', 'of c'])
      await node.watch('a')
      await other.publish('a', 'again')
      await node.heard('again')
    },
  },
  {
    name: 'refuses a channel alone, to who watches it and to who comes back, until it is admitted',
    needs: ['log', 'refuses'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      await kit.refuse('x')
      expect(await node.watch('a', 'x', 'b')).toEqual(['x'])
      expect(await node.watch('x')).toEqual(['x'])
      for (const name of ['x', 'a', 'b']) await other.publish(name, `of ${name}`)
      await node.heard('of b')
      expect(node.events.map(({ event }) => event.text)).toEqual(['of a', 'of b'])
      await kit.admit('x')
      expect(await node.watch('x')).toEqual([])
      await other.publish('x', 'admitted')
      await node.heard('admitted')
      await kit.refuse('x')
      const from = node.told.length
      node.log.reconnect()
      const resumed = () => node.told.slice(from).find((told) => told.what === 'resumed')
      await kit.until(() => resumed() !== undefined, 'it is back')
      expect(resumed()).toEqual({ what: 'resumed', refused: ['x'] })
      for (const name of ['x', 'a']) await other.publish(name, `${name} again`)
      await node.heard('a again')
      expect(node.events.map(({ event }) => event.text)).not.toContain('x again')
    },
  },
  {
    name: 'tells when it is interrupted and when it is back, nothing in between, and then of all channels that are watched',
    needs: ['log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      await node.watch('a', 'b')
      for (let round = 0; round < 3; round++) {
        const from = node.told.length
        const since = (): readonly string[] => node.told.slice(from).map(({ what }) => what)
        const bursts = aside(burst(other, ['a', 'b'], 10))
        node.log.reconnect()
        const watching = node.watch(`c ${round}`).catch(() => {})
        await kit.until(() => since().includes('resumed'), 'it is back')
        await Promise.all([watching, bursts])
        const [before, after] = [since().indexOf('interrupted'), since().indexOf('resumed')]
        expect([before >= 0, after - before]).toEqual([true, 1])
        // Whether it was watched before or is now, it is told.
        for (const channel of ['a', 'b', `c ${round}`]) {
          await other.publish(channel, `${channel} after ${round}`)
          await node.heard(`${channel} after ${round}`)
        }
        expect(since().filter((what) => what === 'interrupted' || what === 'resumed')).toEqual(['interrupted', 'resumed'])
        const { epoch, channels } = await node.read([{ channel: 'a', after: 0 }])
        expect([epoch, channels[0]?.events.at(-1)?.text]).toEqual([(await bursts)[0]?.epoch, `a after ${round}`])
      }
    },
  },
  {
    name: 'knows a publish again by its idempotency key, in its channel, on every node',
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
      await node.heard('marker')
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
    name: 'carries signals to every node, and to one',
    async run(kit) {
      const nodes = await kit.raws(3)
      const ids = nodes.map(({ backplane }) => backplane.processId)
      expect(new Set(ids).size).toBe(3)
      for (const [n, text] of ['plain', 'with a\nline break, {braces} and 😀', ''].entries()) {
        const node = nodes[n] as RawNode
        expect((await node.backplane.broadcast(text, n === 1)).toSorted()).toEqual(ids.toSorted())
        for (const each of nodes) await each.heardSignal(text)
      }
      nodes[0].backplane.send(nodes[1].backplane.processId, 'for one')
      await nodes[1].heardSignal('for one')
      await nodes[0].backplane.broadcast('marker', false)
      for (const node of nodes) await node.heardSignal('marker')
      const counts = nodes.map(({ signals }) => signals.filter((text) => text === 'for one').length)
      expect(counts).toEqual([0, 1, 0])
    },
  },
  {
    name: 'tells of an event before publish() returns, from the place on at which open() began',
    needs: ['no log'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      const told = (each: RawNode): (number | undefined)[] => each.events.map(({ event }) => event.position)
      const bounds = { maxEvents: 10, maxAgeMs: 60_000, maxBytes: 10_000, latestPerKey: false }
      const answer = node.backplane.publish({
        channel: 'a',
        event: 'item',
        text: 'x',
        isString: true,
        key: undefined,
        idempotencyKey: undefined,
        bounds,
      })
      expect([told(node), told(other)]).toEqual([[expect.any(Number)], told(node)])
      const { position, epoch } = await answer
      expect(told(node)).toEqual([position])
      const late = await kit.raw()
      expect(late.place).toEqual({ epoch, newest: position })
      expect(late.told).toEqual([])
    },
  },
  {
    name: 'rejects every call once it is closed, and tells its host nothing more',
    async run(kit) {
      const [node, other, third] = await kit.raws(3)
      await node.watch('a')
      await third?.watch('a')
      await other.publish('a', 'before')
      await node.heard('before')
      await node.backplane.close()
      const count = node.told.length
      expect(await answersOf(node)).toEqual(REJECTED)
      await node.backplane.close()
      const { log } = node.backplane
      // What has no answer does nothing.
      node.backplane.send(other.backplane.processId, 'too late')
      log?.unwatch(['b'])
      log?.release('key')
      log?.reconnect()
      for (const text of ['one', 'two', 'marker']) {
        await other.publish('a', text)
        const ids = await other.backplane.broadcast(text, true)
        expect(ids).not.toContain(node.backplane.processId)
        await third?.heard(text)
        await Promise.all([third?.heardSignal(text), other.heardSignal(text)])
      }
      expect(node.told.slice(count)).toEqual([])
      expect([other.signals, third?.events.map(({ event }) => event.text)]).toEqual([
        ['one', 'two', 'marker'],
        ['before', 'one', 'two', 'marker'],
      ])
    },
  },
  {
    name: 'rejects every call from the moment on at which it is told to close',
    async run(kit) {
      const [node, other] = await kit.raws(2)
      await other.watch('a')
      const closing = node.backplane.close()
      expect(await answersOf(node)).toEqual(REJECTED)
      await closing
      await other.publish('a', 'marker')
      await other.heard('marker')
      expect(other.events.map(({ event }) => event.text)).toEqual(['marker'])
    },
  },
]
