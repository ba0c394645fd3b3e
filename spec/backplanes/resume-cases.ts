import type { Hub, ReplayOptions } from 'express-sse-hub'
import { type Case, type Client, type ClientOptions, freshName, idAt, type Kit, Ledger } from './kit.ts'

/** The texts that a client has received, with its resets if there are any. */
function outcomeOf({ texts, resets }: Client): unknown {
  return resets.length === 0 ? texts : { resets, texts }
}

/** Connects a client to a node, disconnects it, and resolves with its outcome. */
async function replay(
  kit: Kit,
  node: Hub,
  channels: readonly string[],
  lastEventId: string | undefined,
  options: ClientOptions = {},
): Promise<unknown> {
  const client = await kit.client(node, channels, { ...options, lastEventId })
  client.leave()
  return outcomeOf(client)
}

const reset = (reason: string, ...channels: string[]) => ({ resets: [{ channels, reason }], texts: [] as string[] })

/** Publishes `<prefix> 0`, `<prefix> 1` and so on from several nodes in turn. Resolves with the ids. */
async function publishInTurn(ledger: Ledger, nodes: readonly Hub[], channel: string, prefix: string, count: number): Promise<string[]> {
  const ids: string[] = []
  for (let n = 0; n < count; n++) ids.push(await ledger.publish(nodes[n % nodes.length] as Hub, channel, `${prefix} ${n}`))
  return ids
}

/** Ids that no hub can have written. */
const UNKNOWN: readonly (readonly [description: string, change: (id: string) => string])[] = [
  ['garbage', () => 'garbage'],
  ['a number', () => '17'],
  ['a negative position', (id) => id.replace('-', '--')],
  ['a channel that is not encoded', (id) => `${id} %`],
  ['long garbage', () => 'x'.repeat(8_192)],
]

/** Replay for clients that reconnect to any node. */
export const resumeCases: readonly Case[] = [
  {
    name: 'resumes after any event with exactly the events that follow, on every node, by stream and by events()',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3)
      // One node has a subscriber from the beginning.
      await kit.client(nodes[2] as Hub, ['a', 'b'])
      const ids = [
        ...(await publishInTurn(ledger, nodes, 'a', 'a', 5)),
        ...(await publishInTurn(ledger, nodes, 'b', 'b', 5)),
        ...(await publishInTurn(ledger, nodes, 'a', 'later a', 5)),
      ]
      await kit.settled(...nodes)
      for (const id of ids) {
        for (const node of nodes) {
          const client = await kit.client(node, ['a', 'b'], { lastEventId: id })
          expect(outcomeOf(client)).toEqual(ledger.after(id))
          expect(client.replayed).toBe(client.texts.length)
          client.leave()
          expect(await replay(kit, node, ['b'], id)).toEqual(ledger.after(id, ['b']))
          // A client that has every event receives nothing when it reconnects.
          expect(await replay(kit, node, ['a', 'b'], client.lastId)).toEqual([])
        }
      }
      const readers = await Promise.all(nodes.map((node) => kit.reader(node, ['a', 'b'], { lastEventId: ids[2] as string })))
      await ledger.publish(nodes[0], 'a', 'marker')
      for (const reader of readers) {
        await reader.received('marker')
        expect(reader.data).toEqual(ledger.after(ids[2] as string))
      }
    },
  },
  {
    name: 'resets a client that missed an event dropped by maxEvents, and no other',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3, { replay: { maxEvents: 5 } })
      const live = await kit.client(nodes[1], ['a'])
      const ids = await publishInTurn(ledger, nodes, 'a', 'event', 12)
      await live.received('event 11')
      // Only then have all logs been trimmed.
      await kit.settled(...nodes)
      for (const node of nodes) {
        // Events 7 to 11 are kept, so a client that has event 6 misses nothing.
        for (const [n, id] of ids.entries()) {
          expect(await replay(kit, node, ['a'], id)).toEqual(n < 6 ? reset('expired', 'a') : ledger.after(id))
        }
      }
      const late = await Promise.all(nodes.map((node) => kit.client(node, ['a'], { lastEventId: ids[3] })))
      await ledger.publish(nodes[0], 'a', 'marker')
      for (const client of late) {
        await client.received('marker')
        expect(outcomeOf(client)).toEqual({ ...reset('expired', 'a'), texts: ['marker'] })
      }
    },
  },
  {
    name: 'resets a client that missed an event dropped by maxBytes, and no other',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3, { replay: { maxBytes: 10_000 } })
      const live = await kit.client(nodes[1], ['a'])
      const ids = await publishInTurn(ledger, nodes, 'a', 'x'.repeat(1_000), 24)
      await kit.until(() => live.texts.length === 24, 'the client has every event')
      // Only then have all logs been trimmed.
      await kit.settled(...nodes)
      for (const node of nodes) {
        const answers = []
        for (const id of ids) answers.push(await replay(kit, node, ['a'], id))
        const kept = answers.findIndex(Array.isArray)
        // Engines differ in what they count besides the data.
        expect([kept >= 24 - 10 - 1, kept <= 24 - 7 - 1]).toEqual([true, true])
        expect(answers).toEqual(ids.map((id, n) => (n < kept ? reset('expired', 'a') : ledger.after(id))))
      }
    },
  },
  {
    name: 'resets a client that missed an event dropped by maxAgeMs, and no other',
    async run(kit) {
      const maxAgeMs = 150
      const nodes = await kit.nodes(3, { replay: (channel): ReplayOptions => (channel === 'a' ? { maxAgeMs } : {}) })
      await kit.client(nodes[1], ['a'])
      const before = await nodes[0].publish('b', 'item', 'before')
      const old = await nodes[0].publish('a', 'item', 'old')
      await kit.settled(...nodes)
      const tooOldAt = performance.now() + maxAgeMs + 10
      await kit.until(() => performance.now() > tooOldAt, 'the event is too old')
      const clients = await Promise.all(
        nodes.map((node) =>
          Promise.all([
            kit.client(node, ['a'], { lastEventId: before }),
            kit.client(node, ['a'], { lastEventId: old }),
            kit.client(node, ['a'], { rewind: 10 }),
          ]),
        ),
      )
      for (const three of clients) expect(three.map(outcomeOf)).toEqual([reset('expired', 'a'), [], []])
      await nodes[2]?.publish('a', 'item', 'marker')
      for (const client of clients.flat()) {
        await client.received('marker')
        expect(client.texts).toEqual(['marker'])
      }
      // A client that has the marker has missed nothing, whichever events are too old.
      for (const node of nodes) expect(await replay(kit, node, ['a'], clients[0]?.[0].lastId)).toEqual([])
    },
  },
  {
    name: 'answers an id that no hub can have written with one reset, and then delivers new events',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3)
      const [id] = (await publishInTurn(ledger, nodes, 'a', 'before', 3)) as [string]
      for (const [n, [description, change]] of UNKNOWN.entries()) {
        const client = await kit.client(nodes[n % 3] as Hub, ['a', 'b'], { lastEventId: change(id) })
        expect([description, outcomeOf(client)]).toEqual([description, reset('unknown-id', 'a', 'b')])
        const next = await ledger.publish(nodes[0], 'a', `next ${n}`)
        await client.received(`next ${n}`)
        expect(client.texts).toEqual([`next ${n}`])
        // The client resumes from the reset on every node, so it is reset once.
        const from = client.events[0]?.id
        await kit.settled(...nodes)
        for (const node of nodes) expect(await replay(kit, node, ['a', 'b'], from)).toEqual([`next ${n}`])
        expect(await replay(kit, nodes[1], ['a', 'b'], next)).toEqual([])
        client.leave()
      }
    },
  },
  {
    name: 'answers an id ahead of the log head with one reset',
    async run(kit) {
      const nodes = await kit.nodes(3)
      await kit.client(nodes[1], ['a'])
      const id = await nodes[0].publish('a', 'item', 'before')
      for (const node of nodes) {
        const client = await kit.client(node, ['a'], { lastEventId: idAt(id, Number.MAX_SAFE_INTEGER) })
        expect(outcomeOf(client)).toEqual(reset('unknown-id', 'a'))
        await nodes[0].publish('a', 'item', 'marker')
        await client.received('marker')
        client.leave()
        expect(await replay(kit, node, ['a'], client.events[0]?.id)).toEqual(['marker'])
      }
    },
  },
  {
    name: 'answers an id of another log with one reset',
    async run(kit) {
      const elsewhere = await kit.elsewhere().node()
      const foreign = await elsewhere.publish('a', 'item', 'elsewhere')
      const nodes = await kit.nodes(3)
      await kit.client(nodes[1], ['a'])
      await nodes[0].publish('a', 'item', 'before')
      await kit.settled(...nodes)
      for (const node of nodes) {
        const client = await kit.client(node, ['a'], { lastEventId: foreign })
        expect(outcomeOf(client)).toEqual(reset('restarted', 'a'))
        await nodes[2]?.publish('a', 'item', 'marker')
        await client.received('marker')
        client.leave()
        expect(await replay(kit, node, ['a'], client.events[0]?.id)).toEqual(['marker'])
      }
      // The other log does not receive the events of this one.
      const client = await kit.client(elsewhere, ['a'], { lastEventId: foreign })
      await elsewhere.publish('a', 'item', 'there')
      await client.received('there')
      expect(outcomeOf(client)).toEqual(['there'])
    },
  },
  {
    name: 'resumes a client whose id is ahead of what its node has received',
    async run(kit) {
      const [publisher, node] = await kit.nodes(2)
      const consumer = await kit.client(node, ['a'])
      for (let round = 0; round < 10; round++) {
        // The node receives the event of the first channel, but not that of the second.
        for (const channel of ['a', 'not watched there']) {
          const id = await publisher.publish(channel, 'item', `${channel} ${round}`)
          const client = await kit.client(node, ['a'], { lastEventId: id })
          expect(outcomeOf(client)).toEqual([])
          await publisher.publish('a', 'item', `next ${channel} ${round}`)
          await client.received(`next ${channel} ${round}`)
          expect(outcomeOf(client)).toEqual([`next ${channel} ${round}`])
          client.leave()
          const reader = await kit.reader(node, ['a'], { lastEventId: id })
          await publisher.publish('a', 'item', `marker ${channel} ${round}`)
          await reader.received(`marker ${channel} ${round}`)
          expect(reader.data).toEqual([`next ${channel} ${round}`, `marker ${channel} ${round}`])
        }
      }
      expect(consumer.resets).toEqual([])
    },
  },
  {
    name: 'resets no client of a channel without events, and delivers the first event to clients that were there before',
    async run(kit) {
      const ledger = new Ledger()
      const [node, other, ...more] = await kit.nodes(4)
      const id = await ledger.publish(node, 'a', 'of another channel')
      const first = await kit.client(node, ['quiet'])
      first.leave()
      for (const each of [node, other]) {
        for (const from of [id, first.lastId]) expect(await replay(kit, each, ['quiet', 'quiet too'], from)).toEqual([])
      }
      const live = await kit.client(other, ['quiet'], { lastEventId: id })
      await ledger.publish(node, 'quiet', 'first')
      await live.received('first')
      await kit.settled(node, other)
      for (const each of [node, other, ...more]) {
        for (const from of [id, first.lastId]) expect(await replay(kit, each, ['quiet', 'quiet too'], from)).toEqual(['first'])
        expect(await replay(kit, each, ['quiet'], live.lastId)).toEqual([])
      }
    },
  },
  {
    name: 'resets only the channel that was trimmed, and replays the other in full',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3, { replay: (channel): ReplayOptions => ({ maxEvents: channel === 'short' ? 2 : 100 }) })
      const live = await kit.client(nodes[1], ['short', 'long'])
      const first = await ledger.publish(nodes[0], 'long', 'first')
      for (let n = 0; n < 8; n++) await ledger.publish(nodes[n % 3] as Hub, n % 2 === 0 ? 'short' : 'long', `${n}`)
      await live.received('7')
      // Only then have all logs been trimmed.
      await kit.settled(...nodes)
      const clients = await Promise.all(nodes.map((node) => kit.client(node, ['long', 'short'], { lastEventId: first })))
      for (const client of clients) {
        expect(outcomeOf(client)).toEqual({ resets: [{ channels: ['short'], reason: 'expired' }], texts: ledger.after(first, ['long']) })
        expect(client.events[0]).toMatchObject({
          event: 'stream-reset',
          id: idAt(first, Number(/\d+(?=\/)/.exec(first)?.[0])).replace(/[^/]*$/, ''),
        })
      }
      await ledger.publish(nodes[2] as Hub, 'short', 'marker')
      for (const client of clients) {
        await client.received('marker')
        expect(client.texts).toEqual([...ledger.after(first, ['long']), 'marker'])
      }
      for (const node of nodes) expect(await replay(kit, node, ['long'], first)).toEqual(ledger.after(first, ['long']))
    },
  },
  {
    name: 'delivers a channel that keeps no events live, and resets a client that missed one',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(4, { replay: { maxEvents: 0 } })
      const live = await Promise.all(nodes.slice(1).map((node) => kit.client(node, ['a'])))
      const ids = await publishInTurn(ledger, nodes, 'a', 'event', 6)
      for (const client of live) {
        await client.received('event 5')
        expect(outcomeOf(client)).toEqual(['event 0', 'event 1', 'event 2', 'event 3', 'event 4', 'event 5'])
        client.leave()
      }
      // Only then have all logs been trimmed.
      await kit.settled(...nodes)
      for (const node of nodes) {
        expect(await replay(kit, node, ['a'], ids[4])).toEqual(reset('expired', 'a'))
        expect(await replay(kit, node, ['a'], ids[5])).toEqual([])
        expect(await replay(kit, node, ['a'], undefined, { rewind: 3 })).toEqual([])
      }
    },
  },
  {
    name: 'rewinds to the last events of each channel, also on a node without subscribers of them',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3)
      await kit.client(nodes[1], ['a', 'b'])
      await publishInTurn(ledger, nodes, 'a', 'a', 5)
      await publishInTurn(ledger, nodes, 'b', 'b', 2)
      await kit.settled(...nodes)
      for (const node of nodes) {
        expect(await replay(kit, node, ['a', 'b', 'never used'], undefined, { rewind: 3 })).toEqual(['a 2', 'a 3', 'a 4', 'b 0', 'b 1'])
        expect(await replay(kit, node, ['a', 'b'], undefined)).toEqual([])
      }
    },
  },
  {
    name: 'replays events from before a node joined on that node',
    needs: ['log'],
    async run(kit) {
      const ledger = new Ledger()
      const early = await kit.nodes(2)
      const ids = await publishInTurn(ledger, early, 'a', 'before', 5)
      const node = await kit.node()
      expect(await replay(kit, node, ['a'], ids[1])).toEqual(ledger.after(ids[1] as string))
      const client = await kit.client(node, ['a'], { lastEventId: ids[2] })
      await early[0].close()
      await publishInTurn(ledger, [node, early[1]], 'a', 'after', 4)
      await client.received('after 3')
      expect(outcomeOf(client)).toEqual(ledger.after(ids[2] as string))
      // No event is lost although all nodes that were there have closed.
      await early[1].close()
      await node.close()
      expect(await replay(kit, await kit.node(), ['a'], ids[0])).toEqual(ledger.after(ids[0] as string))
    },
  },
  {
    name: 'resets a client whose id is older than the start of its node, and no other',
    needs: ['no log'],
    async run(kit) {
      const ledger = new Ledger()
      const early = await kit.node()
      const ids = await publishInTurn(ledger, [early], 'a', 'before', 3)
      const node = await kit.node()
      expect(await replay(kit, node, ['a'], ids[0])).toEqual(reset('expired', 'a'))
      const client = await kit.client(node, ['a'], { lastEventId: ids[2] })
      expect(outcomeOf(client)).toEqual([])
      await publishInTurn(ledger, [early, node], 'a', 'after', 2)
      await client.received('after 1')
      expect(outcomeOf(client)).toEqual(['after 0', 'after 1'])
      // The position is no longer ahead of the node, and the missed events are still missing.
      for (const id of ids.slice(0, 2)) expect(await replay(kit, node, ['a'], id)).toEqual(reset('expired', 'a'))
      expect(await replay(kit, node, ['a'], ids[2])).toEqual(['after 0', 'after 1'])
      // The node cannot know of events in channels that are new to it either.
      expect(await replay(kit, node, [freshName()], ids[1])).toMatchObject({ resets: [{ reason: 'expired' }] })
      const [first] = await publishInTurn(ledger, [early], 'b', 'of b', 2)
      expect(await replay(kit, node, ['b'], ids[1])).toEqual(reset('expired', 'b'))
      expect([await replay(kit, node, ['b'], ids[2]), await replay(kit, node, ['b'], first)]).toEqual([['of b 0', 'of b 1'], ['of b 1']])
      expect(await replay(kit, early, ['a', 'b'], ids[0])).toEqual(ledger.after(ids[0] as string))
    },
  },
  {
    name: 'replays only the newest event of each key, and resets no client for replaced events',
    async run(kit) {
      const nodes = await kit.nodes(4, { replay: { latestPerKey: true } })
      const [node, other] = nodes
      const live = await kit.client(other, ['rates'])
      const published: readonly (readonly [text: string, key?: string])[] = [
        ['first'],
        ['usd 1', 'usd'],
        ['eur 1', 'eur'],
        ['usd 2', 'usd'],
        ['note'],
        ['usd 3', 'usd'],
        ['eur 2', 'eur'],
        ['odd', 'key "with"\nodd / \\ {characters} \0 \x7f 😀 __proto__'],
        ['odd again', 'key "with"\nodd / \\ {characters} \0 \x7f 😀 __proto__'],
        ['proto', '__proto__'],
        ['proto again', '__proto__'],
        ['gbp 1', 'gbp'],
      ]
      const ids: string[] = []
      for (const [n, [text, key]] of published.entries()) {
        ids.push(await nodes[n % 3]!.publish('rates', 'rate', text, { key }))
        // A client that keeps up receives every update.
        await live.received(text)
      }
      expect(outcomeOf(live)).toEqual(published.map(([text]) => text))
      const newest = ['first', 'note', 'usd 3', 'eur 2', 'odd again', 'proto again', 'gbp 1']
      const indexOf = (text: string): number => published.findIndex(([each]) => each === text)
      for (const each of nodes) {
        for (const [n, id] of ids.entries()) {
          expect(await replay(kit, each, ['rates'], id)).toEqual(newest.filter((text) => indexOf(text) > n))
        }
        expect(await replay(kit, each, ['rates'], undefined, { rewind: 100 })).toEqual(newest)
      }
      // An event is replaced after a new node has read it.
      const client = await kit.client(await kit.node({ replay: { latestPerKey: true } }), ['rates'])
      await node.publish('rates', 'rate', 'usd 4', { key: 'usd' })
      await client.received('usd 4')
      await kit.settled(...nodes)
      const last = newest.filter((text) => text !== 'usd 3' && indexOf(text) > indexOf('note'))
      for (const each of nodes) expect(await replay(kit, each, ['rates'], ids[indexOf('note')])).toEqual([...last, 'usd 4'])
    },
  },
  {
    name: 'resets a client that missed a dropped event of a channel that keeps the latest per key',
    async run(kit) {
      const nodes = await kit.nodes(6, { replay: { latestPerKey: true, maxEvents: 3 } })
      const [node, other, ...fresh] = nodes
      await kit.client(other, ['a'])
      const ids: string[] = []
      const publish = async (text: string, key: string): Promise<void> => {
        ids.push(await (ids.length % 2 === 0 ? node : other).publish('a', 'item', text, { key }))
        await kit.settled(node, other)
      }
      const expectOnAll = async (from: number, expected: unknown): Promise<void> => {
        for (const each of [node, other, fresh[0] as Hub]) expect(await replay(kit, each, ['a'], ids[from])).toEqual(expected)
      }
      for (let n = 0; n < 5; n++) await publish(`key ${n}`, `${n}`)
      await expectOnAll(0, reset('expired', 'a'))
      await expectOnAll(1, ['key 2', 'key 3', 'key 4'])
      fresh.shift()
      // An event that replaces another one drops nothing.
      await publish('key 2 again', '2')
      await expectOnAll(0, reset('expired', 'a'))
      await expectOnAll(1, ['key 3', 'key 4', 'key 2 again'])
      fresh.shift()
      await publish('key 5', '5')
      for (const from of [1, 2]) await expectOnAll(from, reset('expired', 'a'))
      await expectOnAll(3, ['key 4', 'key 2 again', 'key 5'])
      fresh.shift()
      // A dropped event cannot be replaced, so the new one counts as one more.
      await publish('key 0 again', '0')
      await expectOnAll(3, reset('expired', 'a'))
      await expectOnAll(4, ['key 2 again', 'key 5', 'key 0 again'])
    },
  },
]
