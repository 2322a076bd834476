-- What the scripts of a window share. Its hash holds, by player,
--
--   version:time                     of an entry that the ranking holds as its standing and time .. player
--   version:time:standing            of a hidden player, whose standing in the ranking is +inf
--   version:time:standing:metadata   of an entry with metadata; the standing is empty where the player is not hidden
--   version                          of an entry that was trimmed: the ranking lacks it
--
-- and of itself, in fields that no player's id can be,
--
--   ''       form:epoch, once every entry is there: never left over without the rows
--   :floor   trimmed:standing:member, where entries were trimmed: how many, and the place from which on the ranking holds none;
--            before it the ranking holds all
--   :mark    standing:member, while a refill is under way: the first place that was trimmed since it began to read, '' for none

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

-- before says whether one place in the order comes before another.
local function before(score, member, other, others)
  local difference = tonumber(score) - tonumber(other)
  return difference < 0 or difference == 0 and less(member, others)
end

-- split gives version, time, standing and metadata of what the hash holds of a player, '' for what is not there.
local function split(held)
  return string.match(held, '^(%d+):?(%x*):?(-?%d*):?(.*)$')
end

-- projection gives what the hash says of itself, how many members the ranking has, and whether the two agree in size: neither lacks
-- a row that the other has.
local function projection(ranking, players)
  local own = redis.call('HMGET', players, '', ':floor', ':mark')
  local p = {marker = own[1] or '', mark = own[3], trimmed = 0, members = redis.call('ZCARD', ranking)}
  local fields = 0
  for i = 1, 3 do
    fields = fields + (own[i] and 1 or 0)
  end
  if own[2] then
    local trimmed, score, member = string.match(own[2], '^(%d+):([^:]+):(.*)$')
    p.trimmed, p.score, p.member = tonumber(trimmed), score, member
  end
  p.even = redis.call('HLEN', players) == p.members + p.trimmed + fields
  return p
end

-- complete says whether a projection holds every entry of its window in this form, since this epoch or a later one.
local function complete(p, form)
  local kind, epoch = string.match(form, '^(.*):(%d+)$')
  local marked, since = string.match(p.marker, '^(.*):(%d+)$')
  return p.even and marked == kind and tonumber(since) >= tonumber(epoch)
end

-- shown is how many rows of a ranking are not hidden.
local function shown(ranking)
  return redis.call('ZCARD', ranking) - redis.call('ZCOUNT', ranking, '+inf', '+inf')
end

-- most is how many rows a ranking may hold that is to hold the best size ones. What is above size is there so that not every entry
-- that falls behind the floor sets a refill going.
local function most(size)
  return size == 0 and math.huge or size + math.floor(size / 4)
end
