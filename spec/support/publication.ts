import type { Publication } from '../../lib/backplanes/backplane.ts'
import type { ReplayBounds } from '../../lib/log/replay-options.ts'

const BOUNDS: ReplayBounds = { maxEvents: 1_000, maxAgeMs: 300_000, maxBytes: 1_048_576, latestPerKey: false }

/** A string to publish through a backplane, with the default bounds unless others are given. */
export function publication(
  channel: string,
  text: string,
  { bounds, ...options }: Partial<Omit<Publication, 'bounds'>> & { readonly bounds?: Partial<ReplayBounds> } = {},
): Publication {
  return {
    channel,
    event: 'item',
    text,
    isString: true,
    key: undefined,
    idempotencyKey: undefined,
    ...options,
    bounds: { ...BOUNDS, ...bounds },
  }
}
