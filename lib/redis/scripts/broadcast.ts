import { luaNames } from '../key-schema.ts'
import { ENSURE_EPOCH } from './prelude.ts'

/** The number of vital control messages that Redis keeps, and for how long after the newest. */
const MAX_CONTROL_LOG = 1_000
const CONTROL_LOG_KEPT_MS = 600_000

/** The time for which a process is expected to receive control messages after it no longer counts as alive, because it may be busy. */
const BUSY_GRACE_MS = 9_000

/**
 * Sends a control message to all processes. Follows `LOG_PRELUDE`.
 *
 * ARGV: 1 and 2 as in `LOG_PRELUDE` · 3 text · 4 1 if the control message is vital, else 0. Returns the ids of the processes that
 * should receive it.
 */
export const BROADCAST = `
${ENSURE_EPOCH}
local text, isVital = ARGV[3], ARGV[4] == '1'
local number = 0
if isVital then
  number = redis.call('HINCRBY', base, 'vital_count', 1)
  local controlLog = ${luaNames.controlLog}
  redis.call('RPUSH', controlLog, text)
  redis.call('LTRIM', controlLog, -${MAX_CONTROL_LOG}, -1)
  redis.call('PEXPIRE', controlLog, ${CONTROL_LOG_KEPT_MS})
end
redis.call('PUBLISH', ${luaNames.controlMessages}, epoch .. ' ' .. number .. '\\n' .. text)
return redis.call('ZRANGEBYSCORE', ${luaNames.processes}, integer(nowUs / 1000 - ${BUSY_GRACE_MS}), '+inf')
`
