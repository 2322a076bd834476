-- Says what the projection holds of some players.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     players
-- returns  {} while a rebuild is under way, otherwise for each player: version:member or '', the score of that member or ''
if redis.call('EXISTS', KEYS[3]) == 1 then
  return {}
end
local reply = {}
for i = 1, #ARGV do
  local held = redis.call('HGET', KEYS[2], ARGV[i]) or ''
  local colon = string.find(held, ':', 1, true)
  reply[2 * i - 1] = held
  reply[2 * i] = colon and redis.call('ZSCORE', KEYS[1], string.sub(held, colon + 1)) or ''
end
return reply
