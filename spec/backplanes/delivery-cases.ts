import { turn } from '../support/fake-connection.ts'
import { aside, type Case, codeOf, type Client, freshName, type Kit, Ledger } from './kit.ts'

/**
 * A client comes to a node with an id, while others publish to its channel at every moment of the node's first read of it.
 * Also gives the node, and the id.
 */
async function comeWhileRead(kit: Kit, ledger: Ledger, hooked: { readonly read?: () => unknown } = {}) {
  const [publisher, other] = await kit.nodes(2)
  const node = await kit.node(
    {},
    {
      channel: 'a',
      watched: () => ledger.publish(publisher, 'a', 'watched, and not read yet'),
      reading: () =>
        Promise.all([ledger.burst(publisher, ['a'], 'during the read', 10), ledger.burst(other, ['a'], 'during the read, too', 10)]),
      read: async () => {
        await ledger.publish(other, 'a', 'read, and not known yet')
        await hooked.read?.()
      },
    },
  )
  const first = await ledger.publish(publisher, 'a', 'first')
  await ledger.publish(publisher, 'a', 'long before')
  const [client] = await Promise.all([kit.client(node, ['a'], { lastEventId: first }), ledger.burst(other, ['a'], 'beside', 10)])
  await ledger.publish(publisher, 'a', 'right after')
  await client.heard('right after')
  return { client, node, first, publisher }
}

function expectAll(client: Client, texts: readonly string[]): void {
  expect(client.texts).toEqual(texts)
  expect(client.resets).toEqual([])
}

/** What those who follow channels are given, while they do. */
export const deliveryCases: readonly Case[] = [
  {
    name: 'gives all nodes all events of many publishers in one order, on each channel and across channels',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3)
      const channels = ['a', 'b', 'c']
      const begin = await ledger.publish(nodes[0], 'a', 'begin')
      const consumers = await Promise.all(
        nodes.flatMap((node) =>
          [channels, ...channels.map((name) => [name])].map(async (names) => ({
            names,
            reader: await kit.reader(node, names),
            client: await kit.client(node, names),
          })),
        ),
      )
      await Promise.all(nodes.map((node, n) => ledger.burst(node, channels, `of ${n}`, 45)))
      for (const name of channels) await ledger.publish(nodes[1], name, `marker of ${name}`)
      const order = ledger.after(begin)
      for (const { names, reader, client } of consumers) {
        await Promise.all([reader.heard(`marker of ${names.at(-1)}`), client.heard(`marker of ${names.at(-1)}`)])
        expectAll(client, ledger.after(begin, names))
        expect(reader.data).toEqual(client.texts)
      }
      // Each publisher's own come in the order of its calls.
      for (const n of nodes.keys()) {
        expect(order.filter((text) => text.startsWith(`of ${n} `))).toEqual(Array.from({ length: 45 }, (_, i) => `of ${n} ${i}`))
      }
    },
  },
  {
    name: 'lets a client that is live hear what any node publishes right after',
    async run(kit) {
      const [node, other] = await kit.nodes(2)
      for (const [round, publisher] of [other, node, other, other, node, other].entries()) {
        const name = freshName()
        const client = await kit.client(node, [name])
        await publisher.publish(name, 'item', `round ${round}`)
        await client.heard(`round ${round}`)
        expectAll(client, [`round ${round}`])
      }
    },
  },
  {
    name: 'lets events() hear what its hub publishes right after the call, and nothing from before',
    async run(kit) {
      const [node, other] = await kit.nodes(2)
      for (let round = 0; round < 6; round++) {
        const name = freshName()
        await other.publish(name, 'item', 'before')
        const events = node.events([name])
        await node.publish(name, 'item', `one ${round}`)
        await node.publish(name, 'item', `two ${round}`)
        const reader = kit.consumer(events)
        await reader.heard(`two ${round}`)
        expect(reader.data).toEqual([`one ${round}`, `two ${round}`])
      }
    },
  },
  {
    name: 'gives a client that resumes what is published before, during and right after the read of its channel, once and in order',
    async run(kit) {
      const ledger = new Ledger()
      const { client, first } = await comeWhileRead(kit, ledger)
      expectAll(client, ledger.after(first))
    },
  },
  {
    name: 'gives a client without an id what is published from the moment on at which it came',
    async run(kit) {
      const ledger = new Ledger()
      const publisher = await kit.node()
      const node = await kit.node(
        {},
        {
          channel: 'a',
          watched: () => ledger.publish(publisher, 'a', 'watched'),
          reading: () => ledger.burst(publisher, ['a'], 'during', 10),
          read: () => ledger.publish(publisher, 'a', 'read'),
        },
      )
      const before = await ledger.publish(publisher, 'a', 'before')
      const client = await kit.client(node, ['a'])
      await ledger.publish(publisher, 'a', 'right after')
      await client.heard('right after')
      expectAll(client, ledger.after(before))
    },
  },
  {
    name: 'gives a burst that comes between the read of a channel and its going live, once and in order',
    async run(kit) {
      const ledger = new Ledger()
      const [publisher, other] = await kit.nodes(2)
      const burst = (name: string) =>
        Promise.all([ledger.burst(publisher, ['a', 'b'], name, 100), ledger.burst(other, ['b', 'a'], `${name}, too`, 100)])
      const node = await kit.node({}, { channel: 'b', reading: () => burst('reading'), read: () => burst('read') })
      const first = await ledger.publish(publisher, 'a', 'first')
      const [client] = await Promise.all([kit.client(node, ['a', 'b'], { lastEventId: first }), burst('beside')])
      await ledger.publish(publisher, 'b', 'marker')
      await client.heard('marker')
      expectAll(client, ledger.after(first))
    },
  },
  {
    name: 'loses nothing of a channel that is followed already while another is read for the same client',
    async run(kit) {
      const ledger = new Ledger()
      const [publisher, other] = await kit.nodes(2)
      const burst = (name: string) =>
        Promise.all([ledger.burst(publisher, ['a', 'b'], name, 6), ledger.burst(other, ['a'], `${name}, too`, 6)])
      const node = await kit.node(
        {},
        { channel: 'b', watched: () => burst('watched'), reading: () => burst('reading'), read: () => burst('read') },
      )
      const consumer = await kit.client(node, ['a'])
      const first = await ledger.publish(publisher, 'a', 'first')
      await burst('before')
      const [client] = await Promise.all([kit.client(node, ['a', 'b'], { lastEventId: first }), burst('beside')])
      await ledger.publish(publisher, 'a', 'marker')
      await Promise.all([client.heard('marker'), consumer.heard('marker')])
      expectAll(client, ledger.after(first))
      expectAll(consumer, ['first', ...ledger.after(first, ['a'])])
    },
  },
  {
    name: 'gives nobody twice what the engine tells again, before the channel is live or late',
    needs: ['repeats'],
    async run(kit) {
      const ledger = new Ledger()
      const { client, first, node, publisher } = await comeWhileRead(kit, ledger, { read: () => kit.repeat('a') })
      const reader = await kit.reader(node, ['a'], { lastEventId: first })
      await kit.repeat('a')
      await ledger.publish(publisher, 'a', 'marker')
      await Promise.all([client.heard('marker'), reader.heard('marker')])
      await kit.repeat('a')
      await ledger.publish(publisher, 'a', 'last marker')
      await Promise.all([client.heard('last marker'), reader.heard('last marker')])
      expectAll(client, ledger.after(first))
      expect(reader.data).toEqual(client.texts)
      const again = await kit.client(node, ['a'], { lastEventId: first })
      expectAll(again, client.texts)
    },
  },
  {
    name: 'gives a client that goes from node to node while others publish everything once and in order',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3)
      const first = await ledger.publish(nodes[0], 'a', 'first')
      const publishing = aside(
        (async () => {
          for (let n = 0; n < 90; n++) {
            await ledger.publish(nodes[n % 2] as (typeof nodes)[0], n % 3 === 0 ? 'b' : 'a', `${n}`)
            await turn()
          }
          await ledger.publish(nodes[0], 'a', 'last')
        })(),
      )
      const seen: string[] = []
      let lastEventId = first
      for (let hop = 0; seen.at(-1) !== 'last'; hop++) {
        const client = await kit.client(nodes[hop % 3] as (typeof nodes)[0], ['a', 'b'], { lastEventId })
        await kit.until(() => client.texts.length > hop % 4 || client.texts.includes('last'), 'the client has some')
        client.leave()
        expect(client.resets).toEqual([])
        seen.push(...client.texts)
        lastEventId = client.lastId
      }
      await publishing
      expect(seen).toEqual(ledger.after(first))
    },
  },
  {
    name: 'catches up with what was published while the connection of a node was broken',
    needs: ['log'],
    async run(kit) {
      const ledger = new Ledger()
      const [node, other] = await kit.nodes(2)
      const first = await ledger.publish(other, 'a', 'first')
      const client = await kit.client(node, ['a', 'b'], { lastEventId: first })
      const reader = await kit.reader(node, ['b', 'a'], { lastEventId: first })
      for (let round = 0; round < 3; round++) {
        await ledger.burst(other, ['a', 'b'], `before ${round}`, 10)
        kit.interrupt(node)
        await ledger.burst(other, ['a', 'b'], `while it is away ${round}`, 10)
        await kit.until(() => node.health(), 'the node is back')
        await ledger.publish(node, 'b', `marker ${round}`)
        await Promise.all([client.heard(`marker ${round}`), reader.heard(`marker ${round}`)])
      }
      expectAll(client, ledger.after(first))
      expect(reader.data).toEqual(client.texts)
    },
  },
  {
    name: 'loses nothing of the other channels while one is refused, and goes on with that one where clients were',
    needs: ['log', 'refuses'],
    async run(kit) {
      const ledger = new Ledger()
      const [node, publisher] = await kit.nodes(2)
      const first = await ledger.publish(publisher, 'a', 'first')
      await ledger.publish(publisher, 'x', 'x before')
      const client = await kit.client(node, ['a'], { lastEventId: first })
      const both = await kit.client(node, ['a', 'x'], { lastEventId: first })
      const reader = await kit.reader(node, ['x'], { lastEventId: first })
      await Promise.all([both.heard('x before'), reader.heard('x before')])
      await kit.refuse('x')
      kit.interrupt(node)
      await ledger.burst(publisher, ['a', 'x'], 'while it is refused', 20)
      await kit.until(() => reader.isOver && !both.isOpen, 'who follows the channel has ended')
      expect(reader.error).toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE', message: expect.stringContaining("'x'") as string })
      await kit.until(() => node.health(), 'the node is back')
      for (let round = 0; round < 3; round++) {
        expect((await kit.client(node, ['x', 'a'], { lastEventId: both.lastId })).refusal).toBe('backplane')
        expect(await codeOf(() => node.events(['x']).next())).toBe('SSE_BACKPLANE_UNAVAILABLE')
        await ledger.publish(publisher, 'a', `round ${round}`)
        await client.heard(`round ${round}`)
      }
      expectAll(client, ledger.after(first, ['a']))
      // However often it was asked for.
      expect(kit.errors.splice(0)).toEqual([expect.objectContaining({ code: 'SSE_BACKPLANE_UNAVAILABLE' })])
      await kit.admit('x')
      const again = await kit.client(node, ['a', 'x'], { lastEventId: both.lastId })
      await ledger.publish(publisher, 'x', 'last')
      await again.heard('last')
      expect([...both.texts, ...again.texts]).toEqual(ledger.after(first))
      expect([both.resets, again.resets]).toEqual([[], []])
    },
  },
]
