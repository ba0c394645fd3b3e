/** Yields the items, and logs its start and the execution of its `finally`. */
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
