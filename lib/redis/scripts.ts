import { createHash } from 'node:crypto'
import { ASSERT, COUNT, PRESENT } from './owner-scripts.ts'

/** A Lua script that runs in Redis as one step. */
export interface Script {
  readonly source: string
  readonly sha: string
}

/**
 * The keys and pub/sub channels. Each begins with `KEYS[1]`, `{p}` below: the client's `keyPrefix` and the prefix in braces,
 * by which a cluster keeps them together.
 *
 *     {p}                      hash: e epoch, l last position, r run id of the server, f floor of the channels forgotten, s cursor of
 *                              the sweep, v how many vital signals there were, c:<channel> "<last position> <bytes> <bytes before the oldest kept> <maxAgeMs> <latest>"
 *     {p}:e:<epoch>:<channel>  stream: the entry <position>-0 has m, the message, and t, the bytes of all messages up to it
 *     {p}:k:<epoch>:<channel>  hash, of channels that keep the latest of each key: k<key> its position; l<position> the
 *                              position before it, where that in the message has been replaced
 *     {p}:i:<epoch>:…          string: the position of what was published with an idempotency key
 *     {p}:p                    sorted set: the processes, by the time until which each counts as there (ms)
 *     {p}:l:<owner>            hash: how many streams of the owner each process has
 *     {p}:v:<epoch>            list: the texts of the newest vital signals, for a process that was away
 *     {p}:c:<channel>          pub/sub: the messages of a channel
 *     {p}:s                    pub/sub, for all processes: "<epoch> <which of the vital signals this is, or 0>\\n<text>"
 *     {p}:n:<process>          pub/sub, for one: "s<text>", or "r<epoch> <vital signals so far>\\n<token>" when a read is reached
 *
 * A message is "<epoch> <position> <prev> <1 where the data is a string>\\n<event>\\n<key as JSON, or nothing>\\n<data>".
 *
 * Everything that tells whether a log is complete is in the one hash: should Redis lose it, the epoch is lost with it, and
 * every id that clients have. That a stream was lost shows by what the hash knows of it.
 */
const BEGIN = (time: string): string => `
local base = KEYS[1]
local t = ${time}
local now = t[1] * 1000000 + t[2]
local function int(n) return string.format('%.0f', n) end

local meta = redis.call('HMGET', base, 'e', 'l', 'r', 'f')
local epoch, last, floor = meta[1], tonumber(meta[2] or 0), tonumber(meta[4] or 0)
local run = ARGV[1]
local position = math.max(now, last + 1)
`

/** Names the epoch, where there is none or a server that was started again may have lost what it had acknowledged. */
const EPOCH = `
if not epoch or (run ~= '' and meta[3] and meta[3] ~= '' and meta[3] ~= run) then
  epoch = ARGV[2]
  floor = 0
  redis.call('DEL', base)
  redis.call('HSET', base, 'e', epoch, 'r', run, 'f', '0')
elseif run ~= '' and meta[3] ~= run then
  redis.call('HSET', base, 'r', run)
end
`

/** A channel is remembered for so long after the last of its events was too old: what others forget of it is little then. */
export const CHANNEL_KEPT_MS = 600_000

/**
 * Looks at about `count` channels, from where the last sweep stopped: forgets those whose events have been too old for long,
 * and trims the others if that is asked for. The streams of a channel that a user may not touch expire by themselves.
 */
const SWEEP = `
local function sweep(count, isTrimming)
  local found = redis.call('HSCAN', base, redis.call('HGET', base, 's') or '0', 'MATCH', 'c:*', 'COUNT', count)
  for i = 1, #found[2], 2 do
    local name = string.sub(found[2][i], 3)
    local newest, age, latest = string.match(found[2][i + 1], '^(%d+) %d+ %d+ (%d+) (%d)')
    local stream = base .. ':e:' .. epoch .. ':' .. name
    if tonumber(newest) + (age + ${CHANNEL_KEPT_MS}) * 1000 < now then
      floor = math.max(floor, tonumber(newest))
      redis.call('HDEL', base, 'c:' .. name)
      redis.pcall('DEL', stream, base .. ':k:' .. epoch .. ':' .. name)
    elseif isTrimming and latest == '0' then
      redis.pcall('XTRIM', stream, 'MINID', int(math.max(0, now - age * 1000)) .. '-0')
    end
  end
  redis.call('HSET', base, 's', found[1], 'f', int(floor))
end
`

/**
 * Scripts that begin with it run while Redis is full: what they store is small, and it makes no difference how many events
 * there are.
 */
const WHEN_FULL = '#!lua flags=allow-oom\n'

/** What the publish script begins with, where it is given to others. */
const PUBLISH_HELP = `
-- Publishes an event to a hub: position, storing, trimming and telling as one step.
-- KEYS[1]  the prefix in braces, {sse} by default, after the keyPrefix of the hubs' client if that has one
-- ARGV[1]  run_id of the server (INFO server), by which it is noticed that it was started again; '' not to notice
-- ARGV[2]  10 random characters of [0-9a-z], other ones each time: names the life of the log where there is none
-- ARGV[3]  channel, not empty
-- ARGV[4]  event: not empty, no line break, does not begin with "stream-"
-- ARGV[5]  data
-- ARGV[6]  1 where the data is a string as it is, 0 where it is JSON
-- ARGV[7]  key of the event, where the channel keeps the latest of each key, or ''
-- ARGV[8]  idempotency key, or ''
-- ARGV[9]  maxEvents, ARGV[10] maxBytes, ARGV[11] maxAgeMs: the bounds of the channel's log, the same as everywhere
-- ARGV[12] 1 where the channel keeps the latest of each key, else 0
-- Returns the epoch, the position, and 1, or 0 where the idempotency key was known. The event's id is
-- <epoch>-<position>/<channel, encoded as a URI component>.
`

/**
 * A position must be below this, 2^53 - 1: Lua and JavaScript hold no greater number exactly. A read gives it to a moment at
 * which no position is left.
 */
const LAST_POSITION = Number.MAX_SAFE_INTEGER

/** How many channels a publish looks at that makes one more: beside ten that are kept, about one may wait to be forgotten. */
const SWEPT_BY_PUBLISH = 10
/** How many a read looks at, where that is due. */
const SWEPT_BY_READ = 200

/**
 * A process is forgotten when it has not counted as there for so long, and the counts of its streams with it. One that was only
 * busy for less has them again as soon as it is heard of.
 */
const PROCESS_KEPT_MS = 180_000

/** Publishes an event: see above. Every check comes before the first write. */
const PUBLISH = `
local channel, event, data, flag, key, once = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local maxEvents, maxBytes, maxAge, latest = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12] == '1'
if channel == '' or event == '' or string.find(event, '[\\r\\n]') or string.sub(event, 1, 7) == 'stream-' then
  return redis.error_reply('ERR the channel is empty, or the event is, has a line break or begins with stream-')
end
if position >= ${LAST_POSITION} then
  return redis.error_reply('ERR no position is left below 2^53: the clock of the server is wrong, or was; correct it, and delete ' .. base)
end
if not redis.acl_check_cmd('PUBLISH', base .. ':c:' .. channel, '') then
  return redis.error_reply('NOPERM the user must not publish to ' .. base .. ':c:' .. channel)
end
${EPOCH}
${SWEEP}
local onceKey = base .. ':i:' .. epoch .. ':' .. #channel .. ':' .. channel .. once
if once ~= '' then
  local known = redis.call('GET', onceKey)
  if known then return { epoch, known, 0 } end
end
local stream = base .. ':e:' .. epoch .. ':' .. channel
local keys = base .. ':k:' .. epoch .. ':' .. channel
local prev, bytes, from = floor, 0, 0
local place = redis.call('HGET', base, 'c:' .. channel)
if place then
  local p, b, f, _, l = string.match(place, '^(%d+) (%d+) (%d+) (%d+) (%d)')
  prev, bytes, from = tonumber(p), tonumber(b), tonumber(f)
  -- It was another kind of log before: nothing of that can be gone on with.
  if l ~= ARGV[12] then
    redis.call('DEL', stream, keys)
    bytes, from = 0, 0
  end
end
local message = epoch .. ' ' .. int(position) .. ' ' .. int(prev) .. ' ' .. flag .. '\\n' .. event .. '\\n' .. (key ~= '' and cjson.encode(key) or '') .. '\\n' .. data

local function first() return redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1] end
local function idOf(entry) return string.match(entry[1], '^%d+') end

if latest then
  if redis.call('EXISTS', stream) == 0 then
    bytes = 0
    redis.call('DEL', keys)
  end
  if key ~= '' and maxEvents > 0 then
    local old = redis.call('HGET', keys, 'k' .. key)
    local entry = old and redis.call('XRANGE', stream, old, old)[1]
    if entry then
      local before = redis.call('HGET', keys, 'l' .. old) or string.match(entry[2][2], '^%w+ %d+ (%d+)')
      redis.call('XDEL', stream, entry[1])
      redis.call('HDEL', keys, 'l' .. old)
      bytes = bytes - #entry[2][2]
      local after = redis.call('XRANGE', stream, '(' .. entry[1], '+', 'COUNT', 1)[1]
      redis.call('HSET', keys, 'l' .. (after and idOf(after) or int(position)), before)
    end
    redis.call('HSET', keys, 'k' .. key, int(position))
  end
  if maxEvents > 0 then
    redis.call('XADD', stream, int(position) .. '-0', 'm', message)
    bytes = bytes + #message
    local length = redis.call('XLEN', stream)
    while length > maxEvents or (bytes > maxBytes and length > 0) do
      local entry = first()
      local text = entry[2][2]
      local named = string.match(text, '^[^\\n]*\\n[^\\n]*\\n([^\\n]*)')
      redis.call('XDEL', stream, entry[1])
      redis.call('HDEL', keys, 'l' .. idOf(entry))
      if named ~= '' then redis.call('HDEL', keys, 'k' .. cjson.decode(named)) end
      bytes = bytes - #text
      length = length - 1
    end
    redis.call('PEXPIRE', stream, maxAge + 2000)
    redis.call('PEXPIRE', keys, maxAge + 2000)
  end
elseif maxEvents > 0 then
  bytes = bytes + #message
  redis.call('XADD', stream, 'MAXLEN', maxEvents, int(position) .. '-0', 'm', message, 't', int(bytes))
  while bytes - from > maxBytes do
    local entry = first()
    if not entry then
      from = bytes
      break
    end
    from = tonumber(entry[2][4]) - #entry[2][2]
    if bytes - from > maxBytes then
      redis.call('XDEL', stream, entry[1])
      from = from + #entry[2][2]
    end
  end
  redis.call('PEXPIRE', stream, maxAge + 2000)
end
redis.call('HSET', base, 'l', int(position), 'c:' .. channel, int(position) .. ' ' .. int(bytes) .. ' ' .. int(from) .. ' ' .. int(maxAge) .. ' ' .. ARGV[12])
if once ~= '' then redis.call('SET', onceKey, int(position), 'PX', maxAge) end
-- A publish that makes a channel has others forgotten, so that this keeps pace at any rate. Its own is not too old.
if not place then sweep(${SWEPT_BY_PUBLISH}, false) end
redis.call('PUBLISH', base .. ':c:' .. channel, message)
return { epoch, int(position), 1 }
`

/**
 * Reads what channels have after positions, tells the process that asks when it had been told all before, and notes that
 * the process is there. Where that is due, a part of the channels is swept.
 *
 * KEYS: `{prefix}`. ARGV: 1 and 2 as for publishing · 3 process · 4 token · 5 the epoch that the positions belong to · 6 the most bytes
 * to read · 7 whether a sweep is due · 8 for how long the process counts as there (ms) · 9 and on: channel, position after which to
 * read, and so on.
 *
 * Returns the epoch, the position of this moment, and for each channel, as far as the bytes go: the floor ('' where nothing is
 * missing after the position); or the newest position, the messages, and the hash of what was replaced; or nil and why the channel
 * must not be read.
 */
const READ = `
${EPOCH}
${SWEEP}
position = math.min(position, ${LAST_POSITION})
local process, token, isSame, budget = ARGV[3], ARGV[4], ARGV[5] == epoch, tonumber(ARGV[6])
local results = {}
for i = 9, #ARGV, 2 do
  if budget <= 0 then break end
  local channel, after = ARGV[i], isSame and tonumber(ARGV[i + 1]) or 0
  local place = redis.call('HGET', base, 'c:' .. channel)
  local newest = place and tonumber(string.match(place, '^%d+')) or floor
  if not place then
    results[#results + 1] = { newest <= after and '' or int(newest) }
  elseif newest <= after then
    results[#results + 1] = { '' }
  else
    local entries = redis.pcall('XRANGE', base .. ':e:' .. epoch .. ':' .. channel, after == 0 and '-' or '(' .. int(after) .. '-0', '+')
    local links = string.sub(place, -1) == '1' and redis.pcall('HGETALL', base .. ':k:' .. epoch .. ':' .. channel) or {}
    local messages = {}
    for j = 1, #entries do
      messages[j] = entries[j][2][2]
      budget = budget - #messages[j] - 50
    end
    local refused = entries.err or links.err
    results[#results + 1] = refused and { false, refused } or { int(newest), messages, links }
  end
end

redis.call('HSET', base, 'l', int(position))
if ARGV[7] == '1' then
  sweep(${SWEPT_BY_READ}, true)
  redis.call('ZREMRANGEBYSCORE', base .. ':p', '-inf', '(' .. int(now / 1000 - ${PROCESS_KEPT_MS}))
end
redis.call('ZADD', base .. ':p', int(now / 1000 + ARGV[8]), process)
redis.call('PUBLISH', base .. ':n:' .. process, 'r' .. epoch .. ' ' .. (redis.call('HGET', base, 'v') or '0') .. '\\n' .. token)
return { epoch, int(position), results }
`

/** So many vital signals are kept, each for so long. */
const MAX_SIGNALS = 1_000
const SIGNAL_KEPT_MS = 600_000

/** For so much longer than it counts as there, a process should hear signals: it may only have been busy. */
const SIGNAL_GRACE_MS = 9_000

/** Carries a text to all processes. ARGV: 1 and 2 as for publishing · 3 text · 4 whether it is vital. Returns the processes. */
const SIGNAL = `
${EPOCH}
local number = 0
if ARGV[4] == '1' then
  number = redis.call('HINCRBY', base, 'v', 1)
  local signals = base .. ':v:' .. epoch
  redis.call('RPUSH', signals, ARGV[3])
  redis.call('LTRIM', signals, -${MAX_SIGNALS}, -1)
  redis.call('PEXPIRE', signals, ${SIGNAL_KEPT_MS})
end
redis.call('PUBLISH', base .. ':s', epoch .. ' ' .. number .. '\\n' .. ARGV[3])
return redis.call('ZRANGEBYSCORE', base .. ':p', int(now / 1000 - ${SIGNAL_GRACE_MS}), '+inf')
`

/**
 * Reads the vital signals that a process missed. ARGV: 1 and 2 as for publishing · 3 epoch · 4 the number of the last signal
 * that it knows · 5 that of the last one to read. Returns the texts, or nothing where not all of them are there.
 */
const MISSED = `
${EPOCH}
if epoch ~= ARGV[3] then return false end
local signals = base .. ':v:' .. epoch
local known = redis.call('HGET', base, 'v') - redis.call('LLEN', signals)
if tonumber(ARGV[4]) < known then return false end
return redis.call('LRANGE', signals, ARGV[4] - known, ARGV[5] - known - 1)
`

function script(source: string): Script {
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}

/** The scripts. `time` is what gives the time in them, `[seconds, microseconds]`. */
export function scripts(time: string) {
  return {
    publish: script(BEGIN(time) + PUBLISH),
    read: script(WHEN_FULL + BEGIN(time) + READ),
    signal: script(WHEN_FULL + BEGIN(time) + SIGNAL),
    missed: script(WHEN_FULL + BEGIN(time) + MISSED),
    count: script(WHEN_FULL + PRESENT(time) + COUNT),
    assert: script(WHEN_FULL + PRESENT(time) + ASSERT),
  }
}

/** The clock of the server. */
export const SERVER_TIME = "redis.call('TIME')"

/**
 * The Lua script that publishes an event, for programs in other languages; it begins with what its keys and arguments are.
 *
 * `EVAL script 1 {prefix} run_id epoch channel event data isString key idempotencyKey maxEvents maxBytes maxAgeMs latestPerKey`
 */
export const publishScript: string = PUBLISH_HELP + scripts(SERVER_TIME).publish.source
