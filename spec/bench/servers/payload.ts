import { randomFrom } from '../../support/random.ts'

/** Makes the data of an event with a sequence number. */
export type Payload = (seq: number) => object

/** Data whose JSON has exactly `bytes` bytes. */
export function filler(bytes: number): Payload {
  const empty = JSON.stringify({ seq: 100_000_000_000, text: '' }).length
  const text = 'x'.repeat(Math.max(bytes - empty, 0))
  return (seq) => ({ seq, text })
}

/** Data like {@link filler}, with its creation time in microseconds of the clock that all processes of the machine share. */
export function timed(bytes: number): Payload {
  const empty = JSON.stringify({ seq: 100_000_000_000, at: '0000000000000000', text: '' }).length
  const text = 'x'.repeat(Math.max(bytes - empty, 0))
  return (seq) => ({ seq, at: String(process.hrtime.bigint() / 1_000n).padStart(16, '0'), text })
}

const NAMES = [
  'Ada Lovelace',
  'Grace Hopper',
  'Alan Turing',
  'Barbara Liskov',
  'Edsger Dijkstra',
  'Radia Perlman',
  'Donald Knuth',
  'Frances Allen',
]
const GOODS = [
  'Desk lamp',
  'Office chair',
  'Notebook A5',
  'Fountain pen',
  'Monitor arm',
  'Standing desk',
  'Whiteboard',
  'Cable tray',
  'Paper shredder',
]
const CURRENCIES = ['EUR', 'USD', 'GBP']
const PAYMENTS = ['card', 'invoice', 'transfer']
const STATES = ['created', 'paid', 'packed', 'shipped', 'delivered', 'returned']

/** Orders as a shop might send them, of about 200 bytes, or with enough line items to reach `bytes`. */
export function orders(bytes: number): Payload {
  const random = randomFrom(7)
  const upTo = (max: number): number => Math.floor(random() * max)
  const one = (list: readonly string[]): string => list[upTo(list.length)] ?? ''
  let at = 1_760_000_000_000
  return (seq) => {
    at += upTo(5_000)
    const order = {
      seq,
      order: `o-${(4_000_000 + upTo(900_000)).toString(36)}-${upTo(10_000)}`,
      customer: { id: upTo(100_000), name: one(NAMES) },
      status: one(STATES),
      total: upTo(100_000) / 100,
      currency: one(CURRENCIES),
      payment: one(PAYMENTS),
      updatedAt: new Date(at).toISOString(),
    }
    if (bytes <= 250) return order
    const items: object[] = []
    let size = JSON.stringify(order).length + 12
    while (size < bytes) {
      const item = { sku: `sku-${upTo(100_000)}`, name: one(GOODS), quantity: 1 + upTo(9), price: upTo(50_000) / 100, stock: upTo(500) }
      items.push(item)
      size += JSON.stringify(item).length + 1
    }
    return { ...order, items }
  }
}
