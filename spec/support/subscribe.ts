import type { SubscribeOptions } from '../../lib/delivery/subscribe-options.ts'
import type { Refusal } from '../../lib/hub/refusal.ts'
import { join } from '../../lib/hub/subscribable.ts'
import type { Hub } from '../../lib/index.ts'
import type { FakeConnection } from './fake-connection.ts'

/**
 * Subscribes a connection without a socket, in the steps of a stream.
 *
 * @param prepared awaited while the subscription is prepared.
 * @returns the refusal, if there is one.
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
