-- Reads rows of one window in ranking order, as a viewer sees them.
--
-- KEYS     1 ranking (zset)  2 players (hash)
-- ARGV     1 form  2 limit  3 viewer, or ''  4 from: top, after, before or around
--          after, before: 5 score  6 member     around: 5 player
-- returns  {} when the projection is not complete, otherwise
--          {rows there are, index of the first row given, rows with a better score than that one, member, score, …};
--          the index is -1 when the player is not ranked
local ranking, players = KEYS[1], KEYS[2]
local limit, viewer, from = tonumber(ARGV[2]), ARGV[3], ARGV[4]

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

-- The member of a player and, when he is hidden, the score he has; nothing when he has no row.
local function find(player)
  local held = player ~= '' and redis.call('HGET', players, player)
  if held then
    return string.match(held, '^%d+:([^:]+):?(.*)$')
  end
end

-- The index of the first row not before (score, member), and whether it is that very row. A row that moved, went away or was
-- hidden is searched for among the rows of its score, where the members are in order.
local function search(score, member)
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
local count = redis.call('ZCARD', ranking) - redis.call('ZCOUNT', ranking, '+inf', '+inf')

-- A viewer who is hidden sees one row more than there is: his own, and those behind it moved by one.
local own
if viewer ~= '' then
  local member, score = find(viewer)
  if member and score ~= '' then
    own = {member = member, score = score, index = search(score, member)}
    count = count + 1
  end
end

-- search, among the rows that the viewer sees.
local function position(score, member)
  if own and own.member == member and tonumber(own.score) == tonumber(score) then
    return own.index, true
  end
  local index, there = search(score, member)
  local other = own and tonumber(own.score) - tonumber(score)
  if own and (other < 0 or other == 0 and less(own.member, member)) then
    index = index + 1
  end
  return index, there
end

local first, last = 0, limit - 1
if from == 'after' then
  local index, there = position(ARGV[5], ARGV[6])
  first = there and index + 1 or index
  last = first + limit - 1
elseif from == 'before' then
  last = position(ARGV[5], ARGV[6]) - 1
  first = math.max(0, last - limit + 1)
elseif from == 'around' then
  local member, hidden = find(ARGV[5])
  if not member or hidden ~= '' and ARGV[5] ~= viewer then
    return {count, -1, 0}
  end
  local index = own and own.index
  if not own or own.member ~= member then
    index = redis.call('ZRANK', ranking, member)
    if own and index >= own.index then
      index = index + 1
    end
  end
  first = math.max(0, math.min(index - math.floor(limit / 2), count - limit))
  last = first + limit - 1
end
last = math.min(last, count - 1)
local reply = {count, first, 0}
if first > last then
  return reply
end

local start, stop, mine = first, last
if own and own.index <= last then
  stop = last - 1
  if own.index >= first then
    mine = own.index - first
  else
    start = first - 1
  end
end
local rows = start <= stop and redis.call('ZRANGE', ranking, start, stop, 'WITHSCORES') or {}
if mine then
  table.insert(rows, 2 * mine + 1, own.member)
  table.insert(rows, 2 * mine + 2, own.score)
end
if first > 0 then
  reply[3] = redis.call('ZCOUNT', ranking, '-inf', '(' .. rows[2])
  if own and tonumber(own.score) < tonumber(rows[2]) then
    reply[3] = reply[3] + 1
  end
end
for i = 1, #rows do
  reply[i + 3] = rows[i]
end
return reply
