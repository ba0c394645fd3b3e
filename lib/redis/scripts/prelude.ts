import { CHANNEL_FIELDS, LUA_CHANNEL_STATE, luaNames } from '../key-schema.ts'

/** The clock of the server, as a Lua expression for `{ seconds, microseconds }`. */
export const SERVER_TIME = "redis.call('TIME')"

/** First line of the scripts that must run while Redis is out of memory. The size of their data does not depend on the number of events. */
export const ALLOW_WHEN_FULL = '#!lua flags=allow-oom\n'

/**
 * The time for which a channel is remembered after its newest event exceeded `maxAgeMs`. Forgetting it raises the floor of all unknown
 * channels to its last position, and by then that is older than what most clients resume from.
 */
export const CHANNEL_KEPT_MS = 600_000

/**
 * Every position is less than this, 2^53 - 1: Lua and JavaScript represent no greater integer exactly. A read returns it if no
 * position is left.
 */
export const POSITION_LIMIT = Number.MAX_SAFE_INTEGER

/**
 * Beginning of the scripts that use the log. ARGV[1] is the run id of the server (`run_id` of `INFO server`), or '' to accept
 * any run id; ARGV[2] is a new epoch, for {@link ENSURE_EPOCH}.
 *
 * Defines `base`, `nowUs`, `integer()`, the state of the log (`epoch`, `lastPosition`, `storedRunId`, `forgottenFloor`),
 * `serverRunId`, and the next `position`.
 *
 * @param time the Lua expression for the time.
 */
export const LOG_PRELUDE = (time: string): string => `
local base = KEYS[1]
local time = ${time}
local nowUs = time[1] * 1000000 + time[2]
local function integer(number) return string.format('%.0f', number) end

local state = redis.call('HMGET', base, 'epoch', 'last_position', 'server_run_id', 'forgotten_floor')
local epoch, lastPosition, storedRunId, forgottenFloor = state[1], tonumber(state[2] or 0), state[3], tonumber(state[4] or 0)
local serverRunId = ARGV[1]
local position = math.max(nowUs, lastPosition + 1)
`

/** Begins an epoch if there is none, or if the server was restarted and may have lost what it had acknowledged. */
export const ENSURE_EPOCH = `
if not epoch or (serverRunId ~= '' and storedRunId and storedRunId ~= '' and storedRunId ~= serverRunId) then
  epoch = ARGV[2]
  forgottenFloor = 0
  redis.call('DEL', base)
  redis.call('HSET', base, 'epoch', epoch, 'server_run_id', serverRunId, 'forgotten_floor', '0')
elseif serverRunId ~= '' and storedRunId ~= serverRunId then
  redis.call('HSET', base, 'server_run_id', serverRunId)
end
`

/**
 * Defines `sweep(count, isTrimming)`, which visits about `count` channels, starting where the previous sweep stopped. It forgets
 * channels whose newest event has been too old for long, and trims the others if `isTrimming`. It uses `pcall` for the keys of a
 * channel: if the ACL denies this user a channel, its keys expire by themselves.
 */
export const SWEEP = `
local function sweep(count, isTrimming)
  local cursor = redis.call('HGET', base, 'sweep_cursor') or '0'
  local found = redis.call('HSCAN', base, cursor, 'MATCH', '${CHANNEL_FIELDS.glob}', 'COUNT', count)
  local nextCursor, fields = found[1], found[2]
  for i = 1, #fields, 2 do
    local field, channel = fields[i], string.sub(fields[i], ${CHANNEL_FIELDS.nameFrom})
    local newest, _, _, maxAgeMs, latestPerKey = string.match(fields[i + 1], ${LUA_CHANNEL_STATE})
    local events = ${luaNames.events('channel')}
    if tonumber(newest) + (maxAgeMs + ${CHANNEL_KEPT_MS}) * 1000 < nowUs then
      forgottenFloor = math.max(forgottenFloor, tonumber(newest))
      redis.call('HDEL', base, field)
      redis.pcall('DEL', events, ${luaNames.keys('channel')})
    elseif isTrimming and latestPerKey == '0' then
      redis.pcall('XTRIM', events, 'MINID', integer(math.max(0, nowUs - maxAgeMs * 1000)) .. '-0')
    end
  end
  redis.call('HSET', base, 'sweep_cursor', nextCursor, 'forgotten_floor', integer(forgottenFloor))
end
`

/** The time for which Redis keeps the counts of a process that stopped to assert them. */
export const OWNER_COUNT_KEPT_MS = 180_000

/**
 * Beginning of the scripts that count the streams of owners. Defines `base`, `nowMs`, and `markAlive(processId, aliveMs)`, after
 * which a process counts as alive for that time.
 *
 * @param time the Lua expression for the time.
 */
export const OWNER_PRELUDE = (time: string): string => `
local base = KEYS[1]
local time = ${time}
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local processes = ${luaNames.processes}
local function markAlive(processId, aliveMs)
  redis.call('ZADD', processes, string.format('%.0f', nowMs + aliveMs), processId)
end
`
