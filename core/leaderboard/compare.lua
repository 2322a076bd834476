-- Says what the projection holds of some players.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     players
-- returns  {} while a rebuild is under way, otherwise for each player: what the hash holds or '', the score of its member or ''
if redis.call('EXISTS', KEYS[3]) == 1 then
  return {}
end
local reply = {}
for i = 1, #ARGV do
  local held = redis.call('HGET', KEYS[2], ARGV[i]) or ''
  local member = string.match(held, '^%d+:([^:]+)')
  reply[2 * i - 1] = held
  reply[2 * i] = member and redis.call('ZSCORE', KEYS[1], member) or ''
end
return reply
