import type { HubEvent } from 'express-sse-hub'
import { type Case, type Client, Ledger } from './kit.ts'

/** A value as the wire carries it, where every line break is a LF. */
const asRead = (value: unknown): unknown => (typeof value === 'string' ? value.replaceAll(/\r\n?/g, '\n') : value)

const VALUES: readonly unknown[] = [
  '',
  ' ',
  'plain',
  ' leading and trailing ',
  'line\nline\r\nline\rline',
  '\n',
  '\n\ntrailing\n\n',
  'data: not a field\nid: 7\n\nevent: forged',
  'ünïcödé, 漢字, עברית, 😀, 𝄞, e\u0301',
  '\u2028\u2029\ufeff\u00a0\u200b',
  '\0 and \u0001\t\u007f',
  '%s %d ${x} {} [] "quoted" \'single\' \\ \\n /',
  // Strings that would be read as another type by an engine that does not keep them apart.
  '12',
  'null',
  'true',
  '"x"',
  '{"a":1}',
  12,
  -0.5,
  1e21,
  true,
  null,
  [],
  {},
  [1, '2', [null, false]],
  { text: 'line\nline\r\nline', nested: { __typename: 'x', constructor: 1 }, 'odd key\n': ['ünïcödé 😀'] },
]

const CHANNELS: readonly string[] = [
  ' ',
  'a',
  'A',
  'a ',
  ' a',
  'a:b',
  'a:',
  ':a',
  ':',
  'c:a',
  'a,b',
  'a/b',
  'a%2Fb',
  '%',
  '{a}',
  '}{',
  '*',
  'a?',
  '[a-z]',
  '\\',
  '"a"',
  "'",
  'a\nb',
  'a\r\nb',
  '\n',
  '\0',
  'a\0b',
  'é',
  'e\u0301',
  '😀',
  '\ufeff',
  '__proto__',
  'constructor',
  'stream-open',
  '1 2 3',
  'x'.repeat(256),
  '漢'.repeat(256),
]

const EVENTS: readonly string[] = [
  'message',
  ' ',
  'with spaces',
  'colon: x',
  '__proto__',
  'ünïcödé 😀',
  'x'.repeat(300),
  '1',
  '{"json":true}',
  'tab\t\0',
]

/** The events of a client without those of the hub itself. */
const wire = ({ events }: Client): unknown => events.filter(({ event }) => !event?.startsWith('stream-'))

/** Events arrive unchanged. */
export const contentCases: readonly Case[] = [
  {
    name: 'carries strings and JSON values unchanged, live and replayed',
    async run(kit) {
      const nodes = await kit.nodes(3)
      const [node, other, third] = nodes
      const first = await node.publish('a', 'item', 'first')
      const observe = async (hub: typeof node) => ({
        client: await kit.client(hub, ['a'], { lastEventId: first }),
        reader: await kit.reader(hub, ['a'], { lastEventId: first }),
      })
      const live = [await observe(node), await observe(other)]
      const published: { readonly id: string; readonly channel: string; readonly event: string; readonly data: unknown }[] = []
      for (const [n, value] of [...VALUES, 'marker'].entries()) {
        const id = await nodes[n % 2]!.publish('a', 'item', value)
        published.push({
          id,
          channel: 'a',
          event: 'item',
          data: JSON.parse(JSON.stringify(value), (_, each) => (value === each ? asRead(each) : each)) as unknown,
        })
      }
      for (const { client, reader } of [...live, await observe(node), await observe(third as typeof node)]) {
        await Promise.all([client.received('marker'), reader.received('marker')])
        expect(reader.items).toEqual(published)
        expect(client.texts).toEqual(
          VALUES.map((value) => asRead(typeof value === 'string' ? value : JSON.stringify(value))).concat('marker'),
        )
        expect(wire(client)).toEqual(wire(live[0]?.client as Client))
      }
    },
  },
  {
    name: 'carries payloads of a megabyte, live and replayed',
    async run(kit) {
      const options = { replay: { maxBytes: 20_000_000 } }
      const nodes = await kit.nodes(3, options)
      const [node, other] = nodes
      const lines = Array.from({ length: 40_000 }, (_, n) => `line ${n}, ünïcödé 😀`)
      const payloads: unknown[] = ['x'.repeat(1_048_576), lines.join('\n'), { lines }]
      const first = await other.publish('a', 'item', 'first')
      const live = await Promise.all([node, other].map((each) => kit.reader(each, ['a'])))
      const ids: string[] = []
      for (const [n, payload] of [...payloads, 'marker'].entries()) ids.push(await nodes[n % 2]!.publish('a', 'item', payload))
      const readers = [...live, ...(await Promise.all(nodes.map((each) => kit.reader(each, ['a'], { lastEventId: first }))))]
      for (const reader of readers) {
        await reader.received('marker')
        expect(reader.items.map(({ id }) => id)).toEqual(ids)
        // Compared as booleans, so that a failure does not print megabytes.
        const same = reader.data.slice(0, 3).map((data, n) => JSON.stringify(data) === JSON.stringify(payloads[n]))
        expect(same).toEqual([true, true, true])
      }
    },
  },
  {
    name: 'keeps channels apart whatever characters their names contain',
    async run(kit) {
      const nodes = await kit.nodes(3)
      const [node, other] = nodes
      const first = await other.publish('first', 'item', 'first')
      const all = await kit.reader(node, CHANNELS)
      const own = await Promise.all(CHANNELS.map(async (name) => ({ name, client: await kit.client(other, [name]) })))
      const published: unknown[] = []
      for (const [n, channel] of CHANNELS.entries()) {
        // Every channel has an event with the same key.
        const id = await nodes[n % 2]!.publish(channel, 'item', { n }, { idempotencyKey: 'key' })
        expect(await nodes[(n + 1) % 2]!.publish(channel, 'item', 'again', { idempotencyKey: 'key' })).toBe(id)
        published.push({ id, channel, event: 'item', data: { n } })
      }
      expect(new Set((published as { id: string }[]).map(({ id }) => id)).size).toBe(CHANNELS.length)
      await other.publish('a', 'item', 'marker')
      await all.received('marker')
      expect(all.items.slice(0, -1)).toEqual(published)
      for (const [n, { name, client }] of own.entries()) {
        await client.received(JSON.stringify({ n }))
        if (name !== 'a') expect([name, client.texts]).toEqual([name, [JSON.stringify({ n })]])
      }
      for (const each of nodes) {
        const replayed = await kit.client(each, CHANNELS, { lastEventId: first })
        await replayed.received('marker')
        expect([replayed.resets, replayed.texts]).toEqual([[], [...CHANNELS.map((_, n) => JSON.stringify({ n })), 'marker']])
        for (const [n, name] of CHANNELS.entries()) {
          const one = await kit.client(each, [name], { lastEventId: first })
          expect([name, one.resets, one.texts[0]]).toEqual([name, [], JSON.stringify({ n })])
        }
      }
    },
  },
  {
    name: 'carries event names unchanged, live and replayed',
    async run(kit) {
      const nodes = await kit.nodes(3)
      const [node, other] = nodes
      const first = await node.publish('a', 'item', 'first')
      const live = await kit.reader(other, ['a'])
      for (const [n, event] of EVENTS.entries()) await nodes[n % 2]!.publish('a', event, n)
      await node.publish('a', 'item', 'marker')
      for (const reader of [live, ...(await Promise.all(nodes.map((each) => kit.reader(each, ['a'], { lastEventId: first }))))]) {
        await reader.received('marker')
        expect(reader.items.map(({ event, data }) => [event, data])).toEqual([...EVENTS.map((event, n) => [event, n]), ['item', 'marker']])
      }
    },
  },
  {
    name: 'shows filters the same events on every node, live and replayed',
    async run(kit) {
      const ledger = new Ledger()
      const nodes = await kit.nodes(3)
      const [node, other] = nodes
      const first = await ledger.publish(node, 'a', 'first')
      const filtered = async (hub: typeof node) => {
        const seen: HubEvent[] = []
        const filter = (event: HubEvent): boolean => {
          seen.push(event)
          return typeof event.data === 'number' || event.data === 'marker'
        }
        return { seen, client: await kit.client(hub, ['a', 'b'], { lastEventId: first, filter }) }
      }
      const live = [await filtered(node), await filtered(other)]
      const values = [...VALUES, 'marker']
      for (const [n, value] of values.entries()) await nodes[n % 2]!.publish(n % 3 === 0 ? 'a' : 'b', 'item', value)
      for (const { seen, client } of [...live, ...(await Promise.all(nodes.map(filtered)))]) {
        await client.received('marker')
        expect(client.texts).toEqual([...VALUES.filter((value) => typeof value === 'number').map(String), 'marker'])
        expect(seen).toEqual(live[0]?.seen)
        expect(seen.map(({ channel, data }) => [channel, typeof data])).toEqual(
          values.map((value, n) => [n % 3 === 0 ? 'a' : 'b', typeof value]),
        )
      }
    },
  },
]
