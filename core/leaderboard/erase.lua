-- Gives a player's place in a projection to somebody else, at once: nobody sees both, or neither.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     1 player  2 who has his place from now on, '' for nobody: it is gone
-- returns  1 it was there  0 it was not
local held = redis.call('HGET', KEYS[2], ARGV[1])
if not held then
  return 0
end
local p = projection(KEYS[1], KEYS[2])
local version, time, standing = split(held)
redis.call('HDEL', KEYS[2], ARGV[1])
if time == '' then
  if ARGV[2] ~= '' then
    redis.call('HSET', KEYS[2], ARGV[2], version)
  elseif p.trimmed > 1 then
    redis.call('HSET', KEYS[2], ':floor', string.format('%.0f', p.trimmed - 1) .. ':' .. p.score .. ':' .. p.member)
  else
    redis.call('HDEL', KEYS[2], ':floor')
  end
  return 1
end
local score = redis.call('ZSCORE', KEYS[1], time .. ARGV[1])
redis.call('ZREM', KEYS[1], time .. ARGV[1])
if ARGV[2] ~= '' and score then
  redis.call('ZADD', KEYS[1], score, time .. ARGV[2])
  redis.call('HSET', KEYS[2], ARGV[2], version .. ':' .. time .. (standing ~= '' and ':' .. standing or ''))
end
return 1
