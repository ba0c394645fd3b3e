import { createHash } from 'node:crypto'
import { ASSERT_OWNER_COUNTS } from './scripts/assert-owner-counts.ts'
import { BROADCAST } from './scripts/broadcast.ts'
import { COUNT_STREAM } from './scripts/count-stream.ts'
import { MISSED_CONTROL_MESSAGES } from './scripts/missed-control-messages.ts'
import { ALLOW_WHEN_FULL, LOG_PRELUDE, OWNER_PRELUDE, SERVER_TIME } from './scripts/prelude.ts'
import { PUBLISH, PUBLISH_HELP } from './scripts/publish.ts'
import { READ } from './scripts/read.ts'

/** A Lua script, which Redis runs as one step. */
export interface Script {
  readonly source: string
  readonly sha: string
}

/** The scripts of the backplane. */
export interface Scripts {
  readonly publish: Script
  readonly read: Script
  readonly broadcast: Script
  readonly missedControlMessages: Script
  readonly countStream: Script
  readonly assertOwnerCounts: Script
}

/**
 * Puts the scripts together.
 *
 * @param time the Lua expression by which they read the time.
 */
export function makeScripts(time: string): Scripts {
  const log = LOG_PRELUDE(time)
  const owners = OWNER_PRELUDE(time)
  return {
    // Only this one fails when Redis is out of memory: it stores an event.
    publish: script(log + PUBLISH),
    read: script(ALLOW_WHEN_FULL + log + READ),
    broadcast: script(ALLOW_WHEN_FULL + log + BROADCAST),
    missedControlMessages: script(ALLOW_WHEN_FULL + log + MISSED_CONTROL_MESSAGES),
    countStream: script(ALLOW_WHEN_FULL + owners + COUNT_STREAM),
    assertOwnerCounts: script(ALLOW_WHEN_FULL + owners + ASSERT_OWNER_COUNTS),
  }
}

function script(source: string): Script {
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}

/**
 * The Lua script that publishes an event, for programs in other languages. Its first lines describe its keys and arguments.
 *
 * `EVAL script 1 {prefix} run_id epoch channel event data isString key idempotencyKey maxEvents maxBytes maxAgeMs latestPerKey`
 */
export const publishScript: string = PUBLISH_HELP + makeScripts(SERVER_TIME).publish.source
