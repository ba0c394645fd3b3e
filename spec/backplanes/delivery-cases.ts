import { turn } from '../support/fake-connection.ts'
import { inBackground, type Case, codeOf, type Client, freshName, type Kit, Ledger } from './kit.ts'

/**
 * Connects a client with an id to a node, while other nodes publish to the channel at each stage of the node's first read of it.
 * Returns the client, its node, the id, and a publisher.
 */
async function connectDuringRead(kit: Kit, ledger: Ledger, hooked: { readonly read?: () => unknown } = {}) {
  const [publisher, other] = await kit.nodes(2)
  const node = await kit.node(
    {},
    {
      channel: 'a',
      watched: () => ledger.publish(publisher, 'a', 'before the read'),
      reading: () =>
        Promise.all([ledger.burst(publisher, ['a'], 'during the read', 10), ledger.burst(other, ['a'], 'during the read, by another', 10)]),
      read: async () => {
        await ledger.publish(other, 'a', 'after the read')
        await hooked.read?.()
      },
    },
  )
  const first = await ledger.publish(publisher, 'a', 'first')
  await ledger.publish(publisher, 'a', 'long before')
  const [client] = await Promise.all([kit.client(node, ['a'], { lastEventId: first }), ledger.burst(other, ['a'], 'meanwhile', 10)])
  await ledger.publish(publisher, 'a', 'right after')
  await client.received('right after')
  return { client, node, first, publisher }
}

function expectAll(client: Client, texts: readonly string[]): void {
  expect(client.texts).toEqual(texts)
  expect(client.resets).toEqual([])
}

/** Delivery to connected clients. */
export const deliveryCases: readonly Case[] = [
  {
    name: 'delivers the events of many publishers to all nodes in one order, within and across channels',
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
        await Promise.all([reader.received(`marker of ${names.at(-1)}`), client.received(`marker of ${names.at(-1)}`)])
        expectAll(client, ledger.after(begin, names))
        expect(reader.data).toEqual(client.texts)
      }
      // The events of each publisher are in the order of its calls.
      for (const n of nodes.keys()) {
        expect(order.filter((text) => text.startsWith(`of ${n} `))).toEqual(Array.from({ length: 45 }, (_, i) => `of ${n} ${i}`))
      }
    },
  },
  {
    name: 'delivers to a live client the next event of any node',
    async run(kit) {
      const [node, other] = await kit.nodes(2)
      for (const [round, publisher] of [other, node, other, other, node, other].entries()) {
        const name = freshName()
        const client = await kit.client(node, [name])
        await publisher.publish(name, 'item', `round ${round}`)
        await client.received(`round ${round}`)
        expectAll(client, [`round ${round}`])
      }
    },
  },
  {
    name: 'starts events() with what its hub publishes right after the call, and nothing from before',
    async run(kit) {
      const [node, other] = await kit.nodes(2)
      for (let round = 0; round < 6; round++) {
        const name = freshName()
        await other.publish(name, 'item', 'before')
        const events = node.events([name])
        await node.publish(name, 'item', `one ${round}`)
        await node.publish(name, 'item', `two ${round}`)
        const reader = kit.readerOf(events)
        await reader.received(`two ${round}`)
        expect(reader.data).toEqual([`one ${round}`, `two ${round}`])
      }
    },
  },
  {
    name: 'delivers to a resuming client every event before, during and right after the read of its channel, once and in order',
    async run(kit) {
      const ledger = new Ledger()
      const { client, first } = await connectDuringRead(kit, ledger)
      expectAll(client, ledger.after(first))
    },
  },
  {
    name: 'delivers to a client without an id every event since it subscribed',
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
      await client.received('right after')
      expectAll(client, ledger.after(before))
    },
  },
  {
    name: 'delivers a burst between the read of a channel and its live delivery once and in order',
    async run(kit) {
      const ledger = new Ledger()
      const [publisher, other] = await kit.nodes(2)
      const burst = (name: string) =>
        Promise.all([ledger.burst(publisher, ['a', 'b'], name, 100), ledger.burst(other, ['b', 'a'], `${name}, by another`, 100)])
      const node = await kit.node({}, { channel: 'b', reading: () => burst('reading'), read: () => burst('read') })
      const first = await ledger.publish(publisher, 'a', 'first')
      const [client] = await Promise.all([kit.client(node, ['a', 'b'], { lastEventId: first }), burst('meanwhile')])
      await ledger.publish(publisher, 'b', 'marker')
      await client.received('marker')
      expectAll(client, ledger.after(first))
    },
  },
  {
    name: 'loses no event of a live channel while another channel is read for the same client',
    async run(kit) {
      const ledger = new Ledger()
      const [publisher, other] = await kit.nodes(2)
      const burst = (name: string) =>
        Promise.all([ledger.burst(publisher, ['a', 'b'], name, 6), ledger.burst(other, ['a'], `${name}, by another`, 6)])
      const node = await kit.node(
        {},
        { channel: 'b', watched: () => burst('watched'), reading: () => burst('reading'), read: () => burst('read') },
      )
      const consumer = await kit.client(node, ['a'])
      const first = await ledger.publish(publisher, 'a', 'first')
      await burst('before')
      const [client] = await Promise.all([kit.client(node, ['a', 'b'], { lastEventId: first }), burst('meanwhile')])
      await ledger.publish(publisher, 'a', 'marker')
      await Promise.all([client.received('marker'), consumer.received('marker')])
      expectAll(client, ledger.after(first))
      expectAll(consumer, ['first', ...ledger.after(first, ['a'])])
    },
  },
  {
    name: 'delivers an event once although the engine repeats it, before the channel is live or later',
    needs: ['repeats'],
    async run(kit) {
      const ledger = new Ledger()
      const { client, first, node, publisher } = await connectDuringRead(kit, ledger, { read: () => kit.repeat('a') })
      const reader = await kit.reader(node, ['a'], { lastEventId: first })
      await kit.repeat('a')
      await ledger.publish(publisher, 'a', 'marker')
      await Promise.all([client.received('marker'), reader.received('marker')])
      await kit.repeat('a')
      await ledger.publish(publisher, 'a', 'last marker')
      await Promise.all([client.received('last marker'), reader.received('last marker')])
      expectAll(client, ledger.after(first))
      expect(reader.data).toEqual(client.texts)
      const again = await kit.client(node, ['a'], { lastEventId: first })
      expectAll(again, client.texts)
    },
  },
  {
    name: 'delivers every event once and in order to a client that moves between nodes',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3)
      const first = await ledger.publish(nodes[0], 'a', 'first')
      const publishing = inBackground(
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
        await kit.until(() => client.texts.length > hop % 4 || client.texts.includes('last'), 'the client has received some events')
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
    name: 'catches up after an interruption with the events that were published during it',
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
        await ledger.burst(other, ['a', 'b'], `during interruption ${round}`, 10)
        await kit.until(() => node.health(), 'the node is healthy')
        await ledger.publish(node, 'b', `marker ${round}`)
        await Promise.all([client.received(`marker ${round}`), reader.received(`marker ${round}`)])
      }
      expectAll(client, ledger.after(first))
      expect(reader.data).toEqual(client.texts)
    },
  },
  {
    name: 'loses no event of other channels while one is refused, and none of that one once it is admitted',
    needs: ['log', 'refuses'],
    async run(kit) {
      const ledger = new Ledger()
      const [node, publisher] = await kit.nodes(2)
      const first = await ledger.publish(publisher, 'a', 'first')
      await ledger.publish(publisher, 'x', 'x before')
      const client = await kit.client(node, ['a'], { lastEventId: first })
      const both = await kit.client(node, ['a', 'x'], { lastEventId: first })
      const reader = await kit.reader(node, ['x'], { lastEventId: first })
      await Promise.all([both.received('x before'), reader.received('x before')])
      await kit.refuse('x')
      kit.interrupt(node)
      await ledger.burst(publisher, ['a', 'x'], 'while it is refused', 20)
      await kit.until(() => reader.isOver && !both.isOpen, 'every stream and reader of the channel has ended')
      expect(reader.error).toMatchObject({ code: 'SSE_BACKPLANE_UNAVAILABLE', message: expect.stringContaining("'x'") as string })
      await kit.until(() => node.health(), 'the node is healthy')
      for (let round = 0; round < 3; round++) {
        expect((await kit.client(node, ['x', 'a'], { lastEventId: both.lastId })).refusal).toBe('backplane')
        expect(await codeOf(() => node.events(['x']).next())).toBe('SSE_BACKPLANE_UNAVAILABLE')
        await ledger.publish(publisher, 'a', `round ${round}`)
        await client.received(`round ${round}`)
      }
      expectAll(client, ledger.after(first, ['a']))
      // The refusal is reported once, however often the channel was asked for.
      expect(kit.errors.splice(0)).toEqual([expect.objectContaining({ code: 'SSE_BACKPLANE_UNAVAILABLE' })])
      await kit.admit('x')
      const again = await kit.client(node, ['a', 'x'], { lastEventId: both.lastId })
      await ledger.publish(publisher, 'x', 'last')
      await again.received('last')
      expect([...both.texts, ...again.texts]).toEqual(ledger.after(first))
      expect([both.resets, again.resets]).toEqual([[], []])
    },
  },
]
