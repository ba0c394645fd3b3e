import type { SubscribeOptions } from '../../lib/delivery/subscribe-options.ts'
import type { Refusal } from '../../lib/hub/refusal.ts'
import { join } from '../../lib/hub/subscribable.ts'
import type { Hub } from '../../lib/index.ts'
import { FakeConnection } from './fake-connection.ts'

/**
 * Subscribes a connection to channels in the steps that a stream takes.
 *
 * @param prepared called and awaited while the subscription is being prepared.
 * @returns the refusal, if the hub refuses the subscription.
 */
export async function subscribeTo(
  hub: Hub,
  channels: readonly string[],
  connection: FakeConnection,
  lastEventId = '',
  options: SubscribeOptions = {},
  prepared?: () => Promise<void>,
): Promise<Refusal | undefined> {
  const pending = hub[join](channels, options, lastEventId)
  try {
    const ready = pending.prepare(true)
    await prepared?.()
    await ready
    const refusal = pending.refusal()
    if (refusal === undefined) pending.begin(connection.asConnection)
    return refusal
  } finally {
    pending.cancel()
  }
}

/** Subscribes a connection to channels of a hub without a backplane, and returns it. */
export function subscribe(hub: Hub, channels: readonly string[], lastEventId = '', options: SubscribeOptions = {}): FakeConnection {
  const connection = new FakeConnection()
  hub[join](channels, options, lastEventId).begin(connection.asConnection)
  return connection
}
