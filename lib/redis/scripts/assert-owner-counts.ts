import { luaNames } from '../key-schema.ts'
import { OWNER_COUNT_KEPT_MS } from './prelude.ts'

/**
 * Sets how many streams of several owners a process has. Follows `OWNER_PRELUDE`.
 *
 * ARGV: 1 process id · 2 how long the process counts as alive from now on (ms) · from 3 on, repeated: owner, count.
 */
export const ASSERT_OWNER_COUNTS = `
local processId, aliveMs = ARGV[1], ARGV[2]
markAlive(processId, aliveMs)
for i = 3, #ARGV, 2 do
  local counts, count = ${luaNames.owner('ARGV[i]')}, ARGV[i + 1]
  if count == '0' then
    redis.call('HDEL', counts, processId)
  else
    redis.call('HSET', counts, processId, count)
    redis.call('PEXPIRE', counts, ${OWNER_COUNT_KEPT_MS})
  end
end
`
