-- Writes rows of one window: absolute values, each only over an older version of itself. What lies behind the floor is trimmed: of it
-- only the version is kept, so that an old row is refused all the same. When the ranking grows beyond what it may hold, it loses its
-- last rows, and the first of them is the floor; so what it holds is always the beginning of the whole order.
--
-- A refill moves the floor back: it has read every row up to a place from SQL, after it set the mark. An entry before that place
-- is among its rows, unless it was projected since; then the ranking has it, or it was trimmed, and the mark is not behind it.
--
-- KEYS     1 ranking (zset)  2 players (hash)  3 lease of a rebuild
-- ARGV     1 form  2 token of the rebuild or refill that writes, or ''  3 its lease in ms  4 rows the ranking is to hold, '0' for all
--          5 score and 6 member of the place up to which a refill has read, '' where none does
--          then for each row, of which there are 0 to 1000: player, version, score, what the hash is to hold; the score of a
--          hidden player is +inf
-- returns  2 the projection is complete, and the ranking holds fewer rows than it is to  1 it is complete  0 it is not
--          -1 the lease was lost, nothing was written
local rest = 500 -- rows that one call trims at most, as many as it brings
if ARGV[2] ~= '' then
  if redis.call('GET', KEYS[3]) ~= ARGV[2] then
    return -1
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
local size, p = tonumber(ARGV[4]), projection(KEYS[1], KEYS[2])
local floored, mark = p.score, p.mark

-- Of several rows of a player the newest.
local players, newest = {}, {}
for i = 7, #ARGV, 4 do
  local player = ARGV[i]
  local other = newest[player]
  if not other then
    players[#players + 1] = player
  end
  if not other or tonumber(ARGV[i + 1]) > tonumber(ARGV[other + 1]) then
    newest[player] = i
  end
end

-- trim counts rows that are trimmed, of which this is the first.
local function trim(n, score, member)
  p.trimmed = p.trimmed + n
  if mark then
    local first, place = string.match(mark, '^([^:]+):(.*)$')
    if not first or before(score, member, first, place) then
      mark = score .. ':' .. member
    end
  end
end

if ARGV[5] ~= '' then
  if not mark then
    return 0 -- what the refill was about was lost
  end
  if p.score then
    p.score, p.member = ARGV[5], ARGV[6]
    local first, place = string.match(mark, '^([^:]+):(.*)$')
    if first and before(first, place, p.score, p.member) then
      p.score, p.member = first, place
    end
  end
end

-- A command costs more than its arguments, so one of each kind serves all rows. unpack has room for some thousands.
local held = #players > 0 and redis.call('HMGET', KEYS[2], unpack(players))
local left, order, places, n = {}, {}, {}, 0
for i = 1, #players do
  local player = players[i]
  local row = newest[player]
  local version, score, place = ARGV[row + 1], ARGV[row + 2], ARGV[row + 3]
  local known, time = 0, ''
  if held[i] then
    known, time = split(held[i])
  end
  local trimmed = held[i] and time == ''
  local newer = tonumber(version) > tonumber(known)
  if newer or trimmed and version == known then -- that the floor has moved behind
    local member = string.sub(place, #version + 2, #version + 13) .. player
    local holds = score == '+inf' or not p.score or before(score, member, p.score, p.member)
    if time ~= '' and not (holds and time .. player == member) then
      left[#left + 1] = time .. player
    end
    if trimmed then
      p.trimmed = p.trimmed - 1
    end
    if holds then
      order[#order + 1] = score
      order[#order + 1] = member
    else
      trim(1, score, member)
      place = version
    end
    places[n + 1], places[n + 2] = player, place
    n = n + 2
  end
end
if #left > 0 then
  redis.call('ZREM', KEYS[1], unpack(left))
end
if #order > 0 then
  redis.call('ZADD', KEYS[1], unpack(order))
end
if n > 0 then
  redis.call('HSET', KEYS[2], unpack(places))
end

local rows = (size > 0 or p.trimmed > 0) and shown(KEYS[1]) or 0
local over = math.min(rows - most(size), rest)
if over > 0 then
  local last = redis.call('ZRANGE', KEYS[1], rows - over, rows - 1, 'WITHSCORES')
  p.score, p.member = last[2], last[1]
  trim(over, p.score, p.member)
  local behind, versions = {}, {}
  for i = 1, over do
    behind[i] = string.sub(last[2 * i - 1], 13)
  end
  held = redis.call('HMGET', KEYS[2], unpack(behind))
  for i = 1, over do
    versions[2 * i - 1], versions[2 * i] = behind[i], held[i] and (split(held[i])) or '0'
  end
  redis.call('HSET', KEYS[2], unpack(versions))
  redis.call('ZREMRANGEBYRANK', KEYS[1], rows - over, rows - 1)
end

if p.trimmed > 0 then
  redis.call('HSET', KEYS[2], ':floor', string.format('%.0f', p.trimmed) .. ':' .. p.score .. ':' .. p.member)
elseif floored then
  redis.call('HDEL', KEYS[2], ':floor')
end
if mark and mark ~= p.mark then
  redis.call('HSET', KEYS[2], ':mark', mark)
end
if not complete(projection(KEYS[1], KEYS[2]), ARGV[1]) then
  return 0
end
return p.trimmed > 0 and (size == 0 or rows < size) and 2 or 1
