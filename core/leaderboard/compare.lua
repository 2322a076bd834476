-- Says what the projection holds of some players.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     players
-- returns  {} while a rebuild or a refill is under way, otherwise the score and the member of the floor, both '' where there is none, and for
--          each player: what the hash holds or '', the score of his member or ''
if redis.call('EXISTS', KEYS[3]) == 1 then
  return {}
end
local p = projection(KEYS[1], KEYS[2])
local reply = {p.score or '', p.member or ''}
for i = 1, #ARGV do
  local held = redis.call('HGET', KEYS[2], ARGV[i]) or ''
  local _, time = split(held)
  reply[2 * i + 1] = held
  reply[2 * i + 2] = time and redis.call('ZSCORE', KEYS[1], time .. ARGV[i]) or ''
end
return reply
