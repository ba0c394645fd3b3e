import type { BackplaneHost } from '../../lib/backplanes/backplane.ts'

/** A host of a backplane that ignores every call, apart from those in `calls`. */
export function hostWith(calls: Partial<BackplaneHost> = {}): BackplaneHost {
  return {
    event() {},
    reached() {},
    interrupted() {},
    resumed() {},
    controlMessage() {},
    controlMessagesMissed() {},
    onError() {},
    ...calls,
  }
}
