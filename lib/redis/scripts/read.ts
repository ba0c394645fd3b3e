import { LUA_CHANNEL_STATE, luaChannelField, luaNames } from '../key-schema.ts'
import { ENSURE_EPOCH, POSITION_LIMIT, SWEEP } from './prelude.ts'

/** The number of channels that a read sweeps if a sweep is due. */
const SWEPT_CHANNELS = 200

/** Size of an entry in the answer besides its text, in bytes. */
const ENTRY_OVERHEAD_BYTES = 50

/**
 * The time for which a process that no longer counts as alive is remembered, and the counts of its streams with it. If it was only busy
 * and returns within this time, its counts are still there.
 */
const PROCESS_KEPT_MS = 180_000

/**
 * Reads the events of channels after positions, sends the reading process the marker of this read, and marks the process as alive. Sweeps
 * some channels if a sweep is due. Follows `LOG_PRELUDE`.
 *
 * ARGV: 1 and 2 as in `LOG_PRELUDE` · 3 process id · 4 token of the read · 5 epoch of the positions · 6 most bytes to read ·
 * 7 1 if a sweep is due, else 0 · 8 how long the process counts as alive from now on (ms) · from 9 on, repeated: channel,
 * position after which to read.
 *
 * Returns the epoch, the position of the read, and for each channel, until the bytes are used up, one of
 * - `{ floor }`: no events; the floor is '' if nothing after the position is missing
 * - `{ newest position, stored events, fields of the keys hash }`
 * - `{ nil, reason }`: the ACL does not let the user read the channel
 */
export const READ = `
${ENSURE_EPOCH}
${SWEEP}
position = math.min(position, ${POSITION_LIMIT})
local processId, token, isSameEpoch, bytesLeft = ARGV[3], ARGV[4], ARGV[5] == epoch, tonumber(ARGV[6])
local isSweepDue, aliveMs = ARGV[7] == '1', ARGV[8]
local histories = {}
for i = 9, #ARGV, 2 do
  if bytesLeft <= 0 then break end
  -- A position of another epoch means nothing here, so everything that is kept is read.
  local channel, after = ARGV[i], isSameEpoch and tonumber(ARGV[i + 1]) or 0
  local channelState = redis.call('HGET', base, ${luaChannelField('channel')})
  local newest, latestPerKey = forgottenFloor, '0'
  if channelState then
    local lastOfChannel, _, _, _, flag = string.match(channelState, ${LUA_CHANNEL_STATE})
    newest, latestPerKey = tonumber(lastOfChannel), flag
  end
  if newest <= after then
    histories[#histories + 1] = { '' }
  elseif not channelState then
    histories[#histories + 1] = { integer(newest) }
  else
    local from = after == 0 and '-' or '(' .. integer(after) .. '-0'
    local entries = redis.pcall('XRANGE', ${luaNames.events('channel')}, from, '+')
    local keyFields = latestPerKey == '1' and redis.pcall('HGETALL', ${luaNames.keys('channel')}) or {}
    local storedEvents = {}
    for j = 1, #entries do
      storedEvents[j] = entries[j][2][2]
      bytesLeft = bytesLeft - #storedEvents[j] - ${ENTRY_OVERHEAD_BYTES}
    end
    local refusal = entries.err or keyFields.err
    histories[#histories + 1] = refusal and { false, refusal } or { integer(newest), storedEvents, keyFields }
  end
end

redis.call('HSET', base, 'last_position', integer(position))
local processes = ${luaNames.processes}
if isSweepDue then
  sweep(${SWEPT_CHANNELS}, true)
  redis.call('ZREMRANGEBYSCORE', processes, '-inf', '(' .. integer(nowUs / 1000 - ${PROCESS_KEPT_MS}))
end
redis.call('ZADD', processes, integer(nowUs / 1000 + aliveMs), processId)
local vitalCount = redis.call('HGET', base, 'vital_count') or '0'
redis.call('PUBLISH', ${luaNames.processMessages('processId')}, 'reached ' .. epoch .. ' ' .. vitalCount .. '\\n' .. token)
return { epoch, integer(position), histories }
`
