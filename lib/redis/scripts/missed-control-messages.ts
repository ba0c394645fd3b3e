import { luaNames } from '../key-schema.ts'
import { ENSURE_EPOCH } from './prelude.ts'

/**
 * Reads the vital control messages that a process missed. Follows `LOG_PRELUDE`.
 *
 * ARGV: 1 and 2 as in `LOG_PRELUDE` · 3 epoch · 4 number of the last vital control message that the process received · 5 number
 * of the last one to read. Returns the texts, or nil if Redis no longer has all of them.
 */
export const MISSED_CONTROL_MESSAGES = `
${ENSURE_EPOCH}
if epoch ~= ARGV[3] then return false end
local lastReceived, lastToRead = tonumber(ARGV[4]), tonumber(ARGV[5])
local controlLog = ${luaNames.controlLog}
local droppedCount = redis.call('HGET', base, 'vital_count') - redis.call('LLEN', controlLog)
if lastReceived < droppedCount then return false end
return redis.call('LRANGE', controlLog, lastReceived - droppedCount, lastToRead - droppedCount - 1)
`
