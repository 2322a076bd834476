-- Reads rows of one window in ranking order, as a viewer sees them.
--
-- KEYS     1 ranking (zset)  2 players (hash)
-- ARGV     1 form  2 viewer, or ''  3 limit  4 '1': with metadata  5 from: top, index, after, before or around
--          index: 6 index     after, before: 6 score  7 member     around: 6 player
-- returns  {} when the projection is not complete, otherwise
--          {rows there are, index of the first row given, rows with a better score than that one, member, score, …}, with metadata
--          member, score, metadata, …; the index is -1 when the player is not ranked, and -2 when rows would be needed from
--          behind the floor. From an index on, only rows before the floor are given.
local limit, from = tonumber(ARGV[3]), ARGV[5]

-- search, among the rows that the viewer sees.
local function position(score, member)
  if own and own.member == member and tonumber(own.score) == tonumber(score) then
    return own.index, true
  end
  local index, there = search(score, member)
  if own and own.index and before(own.score, own.member, score, member) then
    index = index + 1
  end
  return index, there
end

local first, last = 0, limit - 1
if from == 'index' then
  first = tonumber(ARGV[6])
  last = math.min(first + limit, held) - 1
elseif from == 'after' or from == 'before' then
  if p.score and not before(ARGV[6], ARGV[7], p.score, p.member) then
    return {count, -2, 0}
  end
  local index, there = position(ARGV[6], ARGV[7])
  if from == 'after' then
    first = there and index + 1 or index
    last = first + limit - 1
  else
    last = index - 1
    first = math.max(0, last - limit + 1)
  end
elseif from == 'around' then
  local member, hidden = find(ARGV[6])
  if not member or hidden ~= '' and ARGV[6] ~= viewer then
    return {count, -1, 0}
  end
  local index = place(ARGV[6], member)
  if not index then
    return {count, -2, 0}
  end
  first = math.max(0, math.min(index - math.floor(limit / 2), count - limit))
  last = first + limit - 1
end
last = math.min(last, count - 1)
local reply = {count, first, 0}
if first > last then
  return reply
end
if last >= held then
  return {count, -2, 0}
end

local start, stop, mine = first, last
if own and own.index and own.index <= last then
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
  reply[3] = better(rows[2])
end
if ARGV[4] ~= '1' then
  for i = 1, #rows do
    reply[i + 3] = rows[i]
  end
  return reply
end
local names = {}
for i = 1, #rows, 2 do
  names[#names + 1] = string.sub(rows[i], 13)
end
local kept = redis.call('HMGET', players, unpack(names))
for i = 1, #names do
  local _, _, _, metadata = split(kept[i])
  reply[3 * i + 1], reply[3 * i + 2], reply[3 * i + 3] = rows[2 * i - 1], rows[2 * i], metadata
end
return reply
