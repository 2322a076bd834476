-- Ends a rebuild: gives the lease back and, when everything is there, marks the projection complete.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     1 form  2 token  3 rows that were written, or '' to give up
-- returns  1 complete  0 not: the lease was lost, or rows were
if redis.call('GET', KEYS[3]) ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[3])
local held = redis.call('ZCARD', KEYS[1])
if ARGV[3] == '' or held < tonumber(ARGV[3]) or held ~= redis.call('HLEN', KEYS[2]) then
  return 0
end
redis.call('HSET', KEYS[2], '', ARGV[1])
return 1
