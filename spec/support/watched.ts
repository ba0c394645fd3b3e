/** A generator that tells when it was started and when its `finally` ran. */
export function* watched(log: string[], items: Iterable<unknown> = endless()) {
  try {
    log.push('started')
    yield* items
  } finally {
    log.push('returned')
  }
}

export function* endless() {
  for (let n = 0; ; n++) yield n
}
