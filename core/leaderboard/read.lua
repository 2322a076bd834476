-- Reads rows of one window in ranking order.
--
-- KEYS     1 ranking (zset)  2 players (hash)
-- ARGV     1 form  2 limit  3 from: top, after, before or around
--          after, before: 4 score  5 member     around: 4 player
-- returns  {} when the projection is not complete, otherwise
--          {rows there are, index of the first row given, rows with a better score than that one, member, score, …};
--          the index is -1 when the player is not ranked
local ranking, players = KEYS[1], KEYS[2]
local limit, from = tonumber(ARGV[2]), ARGV[3]

-- Lua's own < on strings goes by the server's locale.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- The index of the first row not before (score, member), and whether it is that very row. A row that moved or went away is
-- searched for among the rows of its score, where the members are in order.
local function position(score, member)
  local now = redis.call('ZSCORE', ranking, member)
  if now and tonumber(now) == tonumber(score) then
    return redis.call('ZRANK', ranking, member), true
  end
  local low = redis.call('ZCOUNT', ranking, '-inf', '(' .. score)
  local high = low + redis.call('ZCOUNT', ranking, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if less(redis.call('ZRANGE', ranking, middle, middle)[1], member) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low, false
end

if not complete(ranking, players, ARGV[1]) then
  return {}
end
local count = redis.call('ZCARD', ranking)
local first, last = 0, limit - 1
if from == 'after' then
  local index, there = position(ARGV[4], ARGV[5])
  first = there and index + 1 or index
  last = first + limit - 1
elseif from == 'before' then
  last = position(ARGV[4], ARGV[5]) - 1
  first = math.max(0, last - limit + 1)
elseif from == 'around' then
  local held = ARGV[4] ~= '' and redis.call('HGET', players, ARGV[4])
  if not held then
    return {count, -1, 0}
  end
  local index = redis.call('ZRANK', ranking, string.sub(held, string.find(held, ':', 1, true) + 1))
  first = math.max(0, math.min(index - math.floor(limit / 2), count - limit))
  last = first + limit - 1
end
local reply = {count, first, 0}
if first > last then
  return reply
end
local rows = redis.call('ZRANGE', ranking, first, last, 'WITHSCORES')
if first > 0 and #rows > 0 then
  reply[3] = redis.call('ZCOUNT', ranking, '-inf', '(' .. rows[2])
end
for i = 1, #rows do
  reply[i + 3] = rows[i]
end
return reply
