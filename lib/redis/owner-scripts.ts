/** The time in ms, and a note that a process is there for so long from now. */
export const PRESENT = (time: string): string => `
local base = KEYS[1]
local t = ${time}
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function present(process, ms) redis.call('ZADD', base .. ':p', string.format('%.0f', now + ms), process) end
`

/**
 * Counts one more stream of an owner, where ARGV[4] is the most there may be of it, or one less where it is -1. ARGV: owner,
 * process, how long the count is kept (ms), the most, for how long the process counts as there (ms).
 *
 * Returns 1 where it was counted; 0 where this process alone has as many as there may be; -1 where it has them together with
 * others, of which one may be dead and not be known to be.
 */
export const COUNT = `
local counts = base .. ':l:' .. ARGV[1]
local process, most = ARGV[2], tonumber(ARGV[4])
if most == -1 then
  if redis.call('HINCRBY', counts, process, -1) < 1 then redis.call('HDEL', counts, process) end
  return 1
end
present(process, ARGV[5])
local all = redis.call('HGETALL', counts)
local own, others = 0, 0
for i = 1, #all, 2 do
  local till = redis.call('ZSCORE', base .. ':p', all[i])
  if all[i] == process then
    own = tonumber(all[i + 1])
  elseif not till then
    redis.call('HDEL', counts, all[i])
  elseif tonumber(till) >= now then
    others = others + all[i + 1]
  end
end
if own >= most then return 0 end
if own + others >= most then return -1 end
redis.call('HINCRBY', counts, process, 1)
redis.call('PEXPIRE', counts, ARGV[3])
return 1
`

/** Sets how many streams of owners a process has. ARGV: process, how long a count is kept, for how long the process counts as there (ms), then owner, count, and so on. */
export const ASSERT = `
local process = ARGV[1]
present(process, ARGV[3])
for i = 4, #ARGV, 2 do
  local counts = base .. ':l:' .. ARGV[i]
  if ARGV[i + 1] == '0' then
    redis.call('HDEL', counts, process)
  else
    redis.call('HSET', counts, process, ARGV[i + 1])
    redis.call('PEXPIRE', counts, ARGV[2])
  end
end
`
