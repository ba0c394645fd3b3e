import { luaNames } from '../key-schema.ts'
import { OWNER_COUNT_KEPT_MS } from './prelude.ts'

/**
 * Counts one more stream of an owner, or one less. Follows `OWNER_PRELUDE`.
 *
 * ARGV: 1 owner · 2 process id · 3 how long the process counts as alive from now on (ms) · 4 the most streams that the owner may
 * have, or -1 to count one less.
 *
 * Returns 1 if the stream was counted; 0 if this process alone has the most streams already; -1 if it has them together with
 * other processes, one of which may have died unnoticed.
 */
export const COUNT_STREAM = `
local counts, processId, aliveMs, maxStreams = ${luaNames.owner('ARGV[1]')}, ARGV[2], ARGV[3], tonumber(ARGV[4])
if maxStreams == -1 then
  if redis.call('HINCRBY', counts, processId, -1) < 1 then redis.call('HDEL', counts, processId) end
  return 1
end
markAlive(processId, aliveMs)
local countsByProcess = redis.call('HGETALL', counts)
local ownCount, otherCount = 0, 0
for i = 1, #countsByProcess, 2 do
  local otherId, count = countsByProcess[i], countsByProcess[i + 1]
  local aliveUntilMs = redis.call('ZSCORE', processes, otherId)
  if otherId == processId then
    ownCount = tonumber(count)
  elseif not aliveUntilMs then
    redis.call('HDEL', counts, otherId)
  elseif tonumber(aliveUntilMs) >= nowMs then
    otherCount = otherCount + count
  end
end
if ownCount >= maxStreams then return 0 end
if ownCount + otherCount >= maxStreams then return -1 end
redis.call('HINCRBY', counts, processId, 1)
redis.call('PEXPIRE', counts, ${OWNER_COUNT_KEPT_MS})
return 1
`
