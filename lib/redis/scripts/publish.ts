import { LUA_CHANNEL_STATE, luaChannelField, luaNames } from '../key-schema.ts'
import { ENSURE_EPOCH, POSITION_LIMIT, SWEEP } from './prelude.ts'

/**
 * The number of channels that a publish sweeps if it creates a channel: enough that at most about one channel waits to be forgotten for
 * every ten that are kept.
 */
const SWEPT_CHANNELS = 10

/** The time beyond `maxAgeMs` for which Redis keeps a log to which nothing is published. */
const EXPIRY_SLACK_MS = 2_000

/** Beginning of the script that programs in other languages run. */
export const PUBLISH_HELP = `
-- Publishes an event to a hub: takes the position, stores the event, trims the log and announces the event in one step.
-- KEYS[1]  the prefix in braces, {sse} by default, after the keyPrefix of the hubs' client if it has one
-- ARGV[1]  run_id of the server (INFO server), which reveals a restart of the server; '' to ignore restarts
-- ARGV[2]  10 random characters of [0-9a-z], new ones for each call: the epoch if the log has none
-- ARGV[3]  channel, not empty
-- ARGV[4]  event: not empty, no line break, does not begin with "stream-"
-- ARGV[5]  data
-- ARGV[6]  1 if the data is a string, 0 if it is JSON
-- ARGV[7]  key of the event if the channel keeps the latest event per key, or ''
-- ARGV[8]  idempotency key, or ''
-- ARGV[9]  maxEvents, ARGV[10] maxBytes, ARGV[11] maxAgeMs: the bounds of the channel's log, the same in all publishers
-- ARGV[12] 1 if the channel keeps the latest event per key, else 0
-- Returns the epoch, the position, and 1; or 0 if the idempotency key was known. The id of the event is
-- <epoch>-<position>/<channel, encoded as a URI component>.
`

/**
 * Publishes an event; {@link PUBLISH_HELP} has the arguments and the answer. Follows `LOG_PRELUDE`.
 *
 * Every check precedes the first write, because Redis does not undo the writes of a script that fails. This is the hot path of
 * the backplane, so one script does everything in one round trip, with as few commands as possible.
 */
export const PUBLISH = `
local channel, event, data, isString, key, idempotencyKey = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local maxEvents, maxBytes, maxAgeMs, latestPerKey = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
if channel == '' or event == '' or string.find(event, '[\\r\\n]') or string.sub(event, 1, 7) == 'stream-' then
  return redis.error_reply('ERR channel and event must not be empty, and event must have no line break and must not begin with stream-')
end
if position >= ${POSITION_LIMIT} then
  local advice = 'the clock of the server is, or was, far ahead: correct it, then delete the key '
  return redis.error_reply('ERR no position is left below 2^53; ' .. advice .. base)
end
local channelMessages = ${luaNames.channelMessages('channel')}
if not redis.acl_check_cmd('PUBLISH', channelMessages, '') then
  return redis.error_reply('NOPERM this user may not publish to ' .. channelMessages)
end
${ENSURE_EPOCH}
${SWEEP}
local idempotencyRecord = ${luaNames.idempotency('channel', 'idempotencyKey')}
if idempotencyKey ~= '' then
  local knownPosition = redis.call('GET', idempotencyRecord)
  if knownPosition then return { epoch, knownPosition, 0 } end
end

local events, keys = ${luaNames.events('channel')}, ${luaNames.keys('channel')}
local previousPosition, writtenBytes, droppedBytes = forgottenFloor, 0, 0
local channelField = ${luaChannelField('channel')}
local channelState = redis.call('HGET', base, channelField)
if channelState then
  local newest, written, dropped, _, wasLatestPerKey = string.match(channelState, ${LUA_CHANNEL_STATE})
  previousPosition, writtenBytes, droppedBytes = tonumber(newest), tonumber(written), tonumber(dropped)
  -- The log was of the other kind: its entries cannot be continued.
  if wasLatestPerKey ~= latestPerKey then
    redis.call('DEL', events, keys)
    writtenBytes, droppedBytes = 0, 0
  end
end
local encodedKey = key ~= '' and cjson.encode(key) or ''
local header = epoch .. ' ' .. integer(position) .. ' ' .. integer(previousPosition) .. ' ' .. isString
local storedEvent = header .. '\\n' .. event .. '\\n' .. encodedKey .. '\\n' .. data

local function oldestEntry() return redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1] end
local function positionOf(entry) return string.match(entry[1], '^%d+') end

if latestPerKey == '1' then
  -- The stream has expired, or Redis evicted it.
  if redis.call('EXISTS', events) == 0 then
    writtenBytes = 0
    redis.call('DEL', keys)
  end
  if key ~= '' and maxEvents > 0 then
    local replacedPosition = redis.call('HGET', keys, 'key:' .. key)
    local replaced = replacedPosition and redis.call('XRANGE', events, replacedPosition, replacedPosition)[1]
    if replaced then
      local replacedEvent = replaced[2][2]
      local previousOfReplaced = redis.call('HGET', keys, 'previous:' .. replacedPosition) or string.match(replacedEvent, '^%w+ %d+ (%d+)')
      redis.call('XDEL', events, replaced[1])
      redis.call('HDEL', keys, 'previous:' .. replacedPosition)
      writtenBytes = writtenBytes - #replacedEvent
      -- The entry after it, or else the new event, inherits its previous position.
      local following = redis.call('XRANGE', events, '(' .. replaced[1], '+', 'COUNT', 1)[1]
      redis.call('HSET', keys, 'previous:' .. (following and positionOf(following) or integer(position)), previousOfReplaced)
    end
    redis.call('HSET', keys, 'key:' .. key, integer(position))
  end
  if maxEvents > 0 then
    redis.call('XADD', events, integer(position) .. '-0', 'event', storedEvent)
    writtenBytes = writtenBytes + #storedEvent
    local length = redis.call('XLEN', events)
    while length > maxEvents or (writtenBytes > maxBytes and length > 0) do
      local oldest = oldestEntry()
      local oldestEvent = oldest[2][2]
      local oldestKey = string.match(oldestEvent, '^[^\\n]*\\n[^\\n]*\\n([^\\n]*)')
      redis.call('XDEL', events, oldest[1])
      redis.call('HDEL', keys, 'previous:' .. positionOf(oldest))
      if oldestKey ~= '' then redis.call('HDEL', keys, 'key:' .. cjson.decode(oldestKey)) end
      writtenBytes = writtenBytes - #oldestEvent
      length = length - 1
    end
    redis.call('PEXPIRE', events, maxAgeMs + ${EXPIRY_SLACK_MS})
    redis.call('PEXPIRE', keys, maxAgeMs + ${EXPIRY_SLACK_MS})
  end
elseif maxEvents > 0 then
  writtenBytes = writtenBytes + #storedEvent
  redis.call('XADD', events, 'MAXLEN', maxEvents, integer(position) .. '-0', 'event', storedEvent, 'written_bytes', integer(writtenBytes))
  -- MAXLEN, a sweep or the expiry may have dropped more entries than droppedBytes knows of: it is read anew from the oldest entry.
  while writtenBytes - droppedBytes > maxBytes do
    local oldest = oldestEntry()
    if not oldest then
      droppedBytes = writtenBytes
      break
    end
    local oldestBytes = #oldest[2][2]
    droppedBytes = tonumber(oldest[2][4]) - oldestBytes
    if writtenBytes - droppedBytes > maxBytes then
      redis.call('XDEL', events, oldest[1])
      droppedBytes = droppedBytes + oldestBytes
    end
  end
  redis.call('PEXPIRE', events, maxAgeMs + ${EXPIRY_SLACK_MS})
end

local bytesState = integer(writtenBytes) .. ' ' .. integer(droppedBytes)
local newState = integer(position) .. ' ' .. bytesState .. ' ' .. integer(maxAgeMs) .. ' ' .. latestPerKey
redis.call('HSET', base, 'last_position', integer(position), channelField, newState)
if idempotencyKey ~= '' then redis.call('SET', idempotencyRecord, integer(position), 'PX', maxAgeMs) end
-- Channels are forgotten as fast as they are created. The new channel itself is too young to be forgotten.
if not channelState then sweep(${SWEPT_CHANNELS}, false) end
redis.call('PUBLISH', channelMessages, storedEvent)
return { epoch, integer(position), 1 }
`
