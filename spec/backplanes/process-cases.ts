import type { Hub } from 'express-sse-hub'
import { type Case, type Client, codeOf, Ledger, sent } from './kit.ts'

const refusalsOf = (clients: readonly Client[]): unknown[] => clients.map(({ refusal }) => refusal)

/** Calls that concern the streams of all processes: disconnect, stats, limits and close. */
export const processCases: readonly Case[] = [
  {
    name: 'ends the streams of an owner on every node, and resolves with their number',
    async run(kit) {
      const nodes = await kit.nodes(3)
      const [node, other, third] = nodes as [Hub, Hub, Hub]
      const owner = 'user: {1}\n😀'
      const ended = [
        ...(await Promise.all([node, other, other].map((hub) => kit.client(hub, ['a'], { owner })))),
        await kit.client(third, ['a', 'b'], { owner }),
      ]
      const others = await Promise.all(nodes.flatMap((hub) => [kit.client(hub, ['a'], { owner: 'user: {1}' }), kit.client(hub, ['a'])]))
      await other.publish('a', 'item', 'before')
      expect(await node.disconnect(owner)).toBe(4)
      expect(ended.map(({ isOpen }) => isOpen)).toEqual([false, false, false, false])
      await node.publish('a', 'item', 'marker')
      for (const client of others) {
        await client.received('marker')
        expect([client.isOpen, client.texts]).toEqual([true, ['before', 'marker']])
      }
      expect(await third.disconnect(owner)).toBe(0)
      expect(await third.disconnect('user: {1}')).toBe(3)
      expect(others.map(({ isOpen }) => isOpen)).toEqual([false, true, false, true, false, true])
    },
  },
  {
    name: 'ends the streams that have only one channel on every node, for good if asked',
    async run(kit) {
      const nodes = await kit.nodes(3)
      const [node, other] = nodes as [Hub, Hub, Hub]
      const ended = await Promise.all(nodes.map((hub) => kit.client(hub, ['job: {1}\n😀'])))
      const others = await Promise.all(nodes.flatMap((hub) => [kit.client(hub, ['job: {1}\n😀', 'a']), kit.client(hub, ['a'])]))
      await other.publish('job: {1}\n😀', 'item', 'before')
      expect(await node.disconnect({ channel: 'job: {1}\n😀' }, { reconnect: false })).toBe(3)
      await kit.until(() => ended.every(({ isOpen }) => !isOpen), 'all streams have ended')
      expect(ended.map(({ isOpen, isEndedForGood, texts }) => [isOpen, isEndedForGood, texts])).toEqual(
        nodes.map(() => [false, true, ['before']]),
      )
      await node.publish('a', 'item', 'marker')
      for (const client of others) await client.received('marker')
      expect(others.map(({ isOpen }) => isOpen)).toEqual(Array(6).fill(true))
      expect(await other.disconnect({ channel: 'a' })).toBe(3)
      expect(others.map(({ isOpen, isEndedForGood }) => [isOpen, isEndedForGood])).toEqual(
        nodes.flatMap(() => [
          [true, false],
          [false, false],
        ]),
      )
    },
  },
  {
    name: 'adds up the stats of all nodes',
    async run(kit) {
      const [node, other, third] = (await kit.nodes(3)) as unknown as [Hub, Hub, Hub]
      const clients = await Promise.all([node, other, other].map((hub) => kit.client(hub, ['a'])))
      for (const hub of [node, other, third, third]) await hub.publish('a', 'item', 'x')
      await third.publish('a', 'item', 'marker')
      for (const client of clients) await client.received('marker')
      for (const hub of [node, other, third]) {
        expect(await hub.stats({ all: true })).toMatchObject({
          processes: 3,
          missing: 0,
          subscribers: 3,
          published: 5,
          delivered: 15,
          resets: 0,
          refusals: 0,
        })
      }
      expect([node, other, third].map((hub) => hub.stats().subscribers)).toEqual([1, 2, 0])
    },
  },
  {
    name: 'counts the streams of an owner on all nodes against its limit',
    needs: ['limits'],
    async run(kit) {
      const [node, other, third] = (await kit.nodes(3, { maxSubscribersPerOwner: 2 })) as unknown as [Hub, Hub, Hub]
      const owner = 'user: {1}\n😀'
      const connect = (hub: Hub): Promise<Client> => kit.client(hub, ['a'], { owner })
      const [first, second] = [await connect(node), await connect(other)]
      expect(refusalsOf([first, second, await connect(third), await connect(node)])).toEqual([
        undefined,
        undefined,
        'maxSubscribersPerOwner',
        'maxSubscribersPerOwner',
      ])
      expect(refusalsOf([await kit.client(third, ['a'], { owner: 'user' }), await kit.client(third, ['a'])])).toEqual([
        undefined,
        undefined,
      ])
      // A stream that ends makes room for one more, on any node.
      first.leave()
      await sent()
      await node.publish('a', 'item', 'x')
      const next = await connect(third)
      expect(refusalsOf([next, await connect(third), await connect(other), await connect(node)])).toEqual([
        undefined,
        ...Array<string>(3).fill('maxSubscribersPerOwner'),
      ])
      // A node that closes makes room for its streams, too.
      await other.close()
      expect(refusalsOf([await connect(node), await connect(third)])).toEqual([undefined, 'maxSubscribersPerOwner'])
      expect(next.isOpen).toBe(true)
    },
  },
  {
    name: 'reports whether an owner at its limit has streams on other nodes',
    needs: ['limits'],
    async run(kit) {
      const [node, other] = await kit.raws(2)
      const acquired: unknown[] = []
      for (const each of [node, node, node, other]) acquired.push(await each.log.acquire('owner', 2))
      expect(acquired).toEqual(['counted', 'counted', 'full', 'maybe-full'])
      node.log.release('owner')
      await node.read([])
      expect(await other.log.acquire('owner', 2)).toBe('counted')
      expect([await node.log.acquire('owner', 2), await other.log.acquire('owner', 2)]).toEqual(['maybe-full', 'maybe-full'])
      expect(await other.log.acquire('owner', 1)).toBe('full')
    },
  },
  {
    name: 'admits no more streams of an owner than its limit if they arrive on all nodes at once',
    needs: ['limits'],
    async run(kit) {
      const nodes = await kit.nodes(3, { maxSubscribersPerOwner: 2 })
      for (let round = 0; round < 5; round++) {
        const clients = await Promise.all([...nodes, ...nodes, ...nodes].map((hub) => kit.client(hub, ['a'], { owner: `user ${round}` })))
        expect(refusalsOf(clients).filter((reason) => reason === undefined)).toHaveLength(2)
        expect(refusalsOf(clients).filter((reason) => reason === 'maxSubscribersPerOwner')).toHaveLength(7)
      }
    },
  },
  {
    name: 'ends the oldest stream of an owner, on any node, to admit a new one',
    needs: ['limits'],
    async run(kit) {
      const [node, other, third] = (await kit.nodes(3, { maxSubscribersPerOwner: { max: 2, whenFull: 'close-oldest' } })) as unknown as [
        Hub,
        Hub,
        Hub,
      ]
      const connect = (hub: Hub, owner = 'user'): Promise<Client> => kit.client(hub, ['a'], { owner })
      const bystander = await connect(node, 'another')
      const clients: Client[] = []
      for (const hub of [node, other, third, node, node, other]) {
        clients.push(await connect(hub))
        await sent()
        // The ages of the streams must differ.
        const openedAt = performance.now()
        await kit.until(() => performance.now() - openedAt > 50, 'the clock has advanced')
        const open = clients.map(({ isOpen }) => isOpen)
        expect([open, refusalsOf(clients).every((reason) => reason === undefined)]).toEqual([
          clients.map((_, n) => n >= clients.length - 2),
          true,
        ])
      }
      await third.publish('a', 'item', 'marker')
      for (const client of [bystander, ...clients.slice(-2)]) await client.received('marker')
    },
  },
  {
    name: 'stores an event once although any node publishes it again with its idempotency key, at any time',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3)
      const client = await kit.client(nodes[1], ['a', 'b'])
      const reader = await kit.reader(nodes[2] as Hub, ['a', 'b'])
      const id = await ledger.publish(nodes[0], 'a', 'first', { idempotencyKey: 'key' })
      for (const hub of nodes) expect(await hub.publish('a', 'other', { not: 'stored' }, { idempotencyKey: 'key' })).toBe(id)
      // All publish at once, and one of them is first.
      const ids = await Promise.all(
        [...nodes, ...nodes].map((hub) => hub.publish('a', 'item', 'at once', { idempotencyKey: 'odd: {key}\n😀' })),
      )
      expect(new Set(ids).size).toBe(1)
      const inOther = await nodes[2]?.publish('b', 'item', 'in another channel', { idempotencyKey: 'key' })
      await nodes[1].publish('a', 'item', 'marker')
      await Promise.all([client.received('marker'), reader.received('marker')])
      expect(client.texts).toEqual(['first', 'at once', 'in another channel', 'marker'])
      expect(client.ids.slice(0, 3)).toEqual([id, ids[0], inOther])
      expect(reader.data).toEqual(client.texts)
      const late = await kit.client(nodes[0], ['a', 'b'], { rewind: 10 })
      expect(late.texts).toEqual(client.texts)
      expect(nodes.reduce((sum, hub) => sum + hub.stats().published, 0)).toBe(4)
    },
  },
  {
    name: 'keeps serving on the other nodes when one closes',
    async run(kit) {
      const ledger = new Ledger()
      const [node, other, third] = (await kit.nodes(3)) as unknown as [Hub, Hub, Hub]
      const first = await ledger.publish(other, 'a', 'first')
      const gone = await kit.client(other, ['a'], { owner: 'user' })
      const live = await Promise.all([node, third].map((hub) => kit.client(hub, ['a'], { owner: 'user', lastEventId: first })))
      const reader = await kit.reader(node, ['a'], { lastEventId: first })
      const closing = other.close()
      await ledger.burst(node, ['a'], 'while it closes', 5)
      await closing
      expect([gone.isOpen, ...live.map(({ isOpen }) => isOpen)]).toEqual([false, true, true])
      await ledger.burst(third, ['a', 'b'], 'after', 6)
      await ledger.publish(node, 'a', 'marker')
      for (const client of live) {
        await client.received('marker')
        expect([client.resets, client.texts]).toEqual([[], ledger.after(first, ['a'])])
      }
      await reader.received('marker')
      expect(reader.data).toEqual(ledger.after(first, ['a']))
      // The clients of the closed node connect to the others.
      for (const hub of [node, third]) {
        const client = await kit.client(hub, ['a', 'b'], { lastEventId: first })
        expect([client.resets, client.texts]).toEqual([[], ledger.after(first)])
        expect(hub.health()).toBe(true)
        expect(await hub.stats({ all: true })).toMatchObject({ processes: 2, missing: 0 })
      }
      expect(await node.disconnect('user')).toBe(2)
    },
  },
  {
    name: 'refuses everything on a closed hub',
    async run(kit) {
      const [node, other] = await kit.nodes(2)
      const client = await kit.client(node, ['a'])
      const reader = await kit.reader(node, ['a'])
      await other.publish('a', 'item', 'before')
      await Promise.all([client.received('before'), reader.received('before')])
      await node.close()
      expect(await codeOf(() => node.publish('a', 'item', 'too late'))).toBe('SSE_HUB_CLOSED')
      expect(await codeOf(() => node.stats({ all: true }))).toBe('SSE_BACKPLANE_UNAVAILABLE')
      expect((await kit.client(node, ['a'])).refusal).toBe('closing')
      expect([await node.disconnect('owner'), node.health(), client.isOpen]).toEqual([0, false, false])
      await reader.over()
      const late = node.events(['a'])
      expect(await late.next()).toEqual({ done: true, value: undefined })
      const observer = await kit.client(other, ['a'], { rewind: 10 })
      await other.publish('a', 'item', 'marker')
      await observer.received('marker')
      expect([observer.texts, client.texts, reader.data]).toEqual([['before', 'marker'], ['before'], ['before']])
    },
  },
]
