import type { Hub, HubEvent, HubEvents, ResetEvent } from 'express-sse-hub'
import { until } from './client.ts'

/** An item of `hub.events()`. */
export type Item = HubEvent | ResetEvent

/** The result of `next()` after the last item. */
export const DONE = { done: true, value: undefined }

/** The integers from one to another, both included. */
export const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => from + n)

export const isReset = (item: Item): item is ResetEvent => item.event === 'stream-reset'

/** The number that the data of an event is, or begins with. */
export const numberOf = ({ data }: Item): number => Number.parseInt(String(data), 10)

/** A short form: channel and number of an event, channels and reason of a reset. */
export const brief = (item: Item): string =>
  isReset(item) ? `reset ${item.data.channels.join()} ${item.data.reason}` : `${item.channel} ${numberOf(item)}`

/** Pulls a number of items. */
export async function take(items: HubEvents, count: number): Promise<Item[]> {
  const taken: Item[] = []
  while (taken.length < count) {
    const { done, value } = await items.next()
    if (done) throw new Error(`the iterator ended after ${taken.length} of ${count} items`)
    taken.push(value)
  }
  return taken
}

/** Pulls items up to the first that the condition holds for, or to the end. */
export async function takeUntil(items: HubEvents, isLast: (item: Item) => boolean): Promise<Item[]> {
  const taken: Item[] = []
  for (;;) {
    const { done, value } = await items.next()
    if (done) return taken
    taken.push(value)
    if (isLast(value)) return taken
  }
}

/** Pulls every item to the end. */
export async function takeAll(items: HubEvents): Promise<Item[]> {
  return takeUntil(items, () => false)
}

/** Publishes numbers, one after the other, each followed by a filler. Resolves with the ids. */
export async function publishNumbers(hub: Hub, channel: string, numbers: readonly number[], filler = ''): Promise<string[]> {
  const ids: string[] = []
  for (const n of numbers) ids.push(await hub.publish(channel, 'item', filler === '' ? n : `${n} ${filler}`))
  return ids
}

/** Waits until the hub has offered its events to every consumer, and the bounds have left at most `maxBytes` in its logs. */
export async function trimmed(hub: Hub, maxBytes: number): Promise<void> {
  await until(() => hub.stats().logBytes <= maxBytes, 'the logs are trimmed')
}

/** A matcher for a reset. */
export const resetOf = (channels: string[], reason: string) => ({
  id: expect.any(String) as string,
  channel: '',
  event: 'stream-reset',
  data: { channels, reason },
})
