-- Writes rows of one window: absolute values, each only over an older version of itself.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     1 form  2 token of the rebuild that writes, or ''  3 its lease in ms
--          then for each row, of which there are 1 to 1000: player, version, score, member; of a hidden player the score is
--          +inf and the member is followed by a colon and the score that he has
-- returns  1 the projection is complete  0 it is not  -1 the rebuild lost its lease, nothing was written
if ARGV[2] ~= '' then
  if redis.call('GET', KEYS[3]) ~= ARGV[2] then
    return -1
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end

-- Of several rows of a player the newest.
local players, newest = {}, {}
for i = 4, #ARGV, 4 do
  local player = ARGV[i]
  local other = newest[player]
  if not other then
    players[#players + 1] = player
  end
  if not other or tonumber(ARGV[i + 1]) > tonumber(ARGV[other + 1]) then
    newest[player] = i
  end
end

-- A command costs more than its arguments, so one of each kind serves all rows. unpack has room for some thousands.
local held = redis.call('HMGET', KEYS[2], unpack(players))
local left, order, places, n = {}, {}, {}, 0
for i = 1, #players do
  local row = newest[players[i]]
  local version, score, place = ARGV[row + 1], ARGV[row + 2], ARGV[row + 3]
  local member = score == '+inf' and string.match(place, '^[^:]+') or place
  local known, before = 0, member
  if held[i] then
    known, before = string.match(held[i], '^(%d+):([^:]+)')
  end
  if tonumber(version) > tonumber(known) then
    if before ~= member then
      left[#left + 1] = before
    end
    order[n + 1], order[n + 2] = score, member
    places[n + 1], places[n + 2] = players[i], version .. ':' .. place
    n = n + 2
  end
end
if #left > 0 then
  redis.call('ZREM', KEYS[1], unpack(left))
end
if n > 0 then
  redis.call('ZADD', KEYS[1], unpack(order))
  redis.call('HSET', KEYS[2], unpack(places))
end
return complete(KEYS[1], KEYS[2], ARGV[1]) and 1 or 0
