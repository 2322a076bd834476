-- Begins a step of a refill: takes the lease, or keeps it, and sets the mark. Where there is nothing to do, gives the lease back.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     1 form  2 token  3 lease in ms  4 rows the ranking is to hold, '0' for all
-- returns  {} nothing to do, or somebody else is at it, otherwise {score and member of the floor, rows that are missing behind it}
local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[2] then
  return {}
end
local size, p = tonumber(ARGV[4]), projection(KEYS[1], KEYS[2])
local missing = math.min(most(size), 1e9) - shown(KEYS[1])
-- The last place is behind every score there may be: SQL has no more rows.
if not complete(p, ARGV[1]) or not p.score or tonumber(p.score) == 2 ^ 53 or missing < 1 then
  redis.call('HDEL', KEYS[2], ':mark')
  redis.call('DEL', KEYS[3])
  return {}
end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
redis.call('HSET', KEYS[2], ':mark', '')
return {p.score, p.member, string.format('%.0f', missing)}
