-- What the scripts that read share: a window as a viewer sees it. Indices are among the rows that he sees, from 0.
--
-- KEYS     1 ranking (zset)  2 players (hash)
-- ARGV     1 form  2 viewer, or ''
-- returns  {} when the projection is not complete
local ranking, players, viewer = KEYS[1], KEYS[2], ARGV[2]
local p = projection(ranking, players)
if not complete(p, ARGV[1]) then
  return {}
end

-- held is how many rows there are before the floor, and count how many in all.
local held = shown(ranking)
local count = held + p.trimmed

-- What a player has, if anything: member, '' where it was trimmed, the standing he has when he is hidden, and metadata.
local function find(player)
  local row = string.match(player, '^[^:]+$') and redis.call('HGET', players, player)
  if row then
    local _, time, score, metadata = split(row)
    return time ~= '' and time .. player or '', score, metadata
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

-- A viewer who is hidden sees one row more than there is: his own, and those behind it moved by one. Behind the floor it has no
-- index that is known here.
local own
if viewer ~= '' then
  local member, score = find(viewer)
  if member and score ~= '' then
    own = {member = member, score = score}
    count = count + 1
    if not p.score or before(score, member, p.score, p.member) then
      own.index = search(score, member)
      held = held + 1
    end
  end
end

-- place gives the index and the score of the row of a player whom find found.
local function place(player, member)
  if own and player == viewer then
    return own.index, own.score
  end
  local index = redis.call('ZRANK', ranking, member)
  if index and own and own.index and index >= own.index then
    index = index + 1
  end
  return index or nil, redis.call('ZSCORE', ranking, member)
end

-- better is how many rows have a better score than this, or, where bound is '', one as good.
local function better(score, bound)
  local n = redis.call('ZCOUNT', ranking, '-inf', (bound or '(') .. score)
  local ahead = own and own.index and tonumber(own.score) - tonumber(score)
  if ahead and (ahead < 0 or ahead == 0 and bound == '') then
    n = n + 1
  end
  return n
end
