-- Begins a rebuild: takes the lease and empties the projection.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     1 form  2 token  3 lease in ms  4 '1': even when it is complete or somebody else is at it
-- returns  1 nothing to do, it is complete  0 somebody else is at it  2 begun
if ARGV[4] ~= '1' then
  if complete(projection(KEYS[1], KEYS[2]), ARGV[1]) then
    return 1
  end
  if redis.call('EXISTS', KEYS[3]) == 1 then
    return 0
  end
end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
redis.call('UNLINK', KEYS[1], KEYS[2])
return 2
