-- Writes rows of one window: absolute values, each only over an older version of itself.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     1 form  2 token of the rebuild that writes, or ''  3 its lease in ms
--          then for each row: player, version, score, member
-- returns  1 the projection is complete  0 it is not  -1 the rebuild lost its lease, nothing was written
if ARGV[2] ~= '' then
  if redis.call('GET', KEYS[3]) ~= ARGV[2] then
    return -1
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
for i = 4, #ARGV, 4 do
  local player, version, score, member = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local known, place = 0, member
  local held = redis.call('HGET', KEYS[2], player)
  if held then
    local colon = string.find(held, ':', 1, true)
    known, place = tonumber(string.sub(held, 1, colon - 1)), string.sub(held, colon + 1)
  end
  if tonumber(version) > known then
    if place ~= member then
      redis.call('ZREM', KEYS[1], place)
    end
    redis.call('ZADD', KEYS[1], score, member)
    redis.call('HSET', KEYS[2], player, version .. ':' .. member)
  end
end
return complete(KEYS[1], KEYS[2], ARGV[1]) and 1 or 0
