-- Ends a rebuild: gives the lease back and, when everything is there, marks the projection complete.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     1 form  2 token  3 rows that were written, or '' to give up
-- returns  1 complete  0 not: the lease was lost, or rows were
if redis.call('GET', KEYS[3]) ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[3])
local p = projection(KEYS[1], KEYS[2])
if ARGV[3] == '' or p.members + p.trimmed < tonumber(ARGV[3]) or not p.even then
  return 0
end
redis.call('HSET', KEYS[2], '', ARGV[1])
return 1
