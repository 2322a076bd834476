-- players rules on the events of players: blocked, seen before, within the rates.
--
-- KEYS    from k on, three for each player:
--         block  hash: until (ms), reason, decision
--         rate   hash: policy name -> when its whole quota is there again (µs); now -> the latest instant (µs)
--         seen   sorted set: event id -> until when it counts as seen (ms)
-- ARGV    from a on: now (µs), lead (µs), then name, quota, interval (µs) of two policies; then for each player the number
--         of his events and their ids
-- returns for each player {"blocked", until, reason, decision}
--         or {"ruled", a letter for each event: a admitted, d duplicate, t throttled; the instant, state 1, state 2}
--
-- instant, room and charge are those of gcra.go. A state that is cut to the whole quota is written even when nothing passes:
-- otherwise it would be cut again at the next request, and nothing would ever be regained.
local function player(block, rate, seen, a, from, n)
  local now = tonumber(ARGV[a])
  local blocked = redis.call('HMGET', block, 'until', 'reason', 'decision')
  if blocked[1] and tonumber(blocked[1]) * 1000 > now then
    return {'blocked', blocked[1], blocked[2], blocked[3]}
  end

  local known = {}
  local fresh = 0
  if n > 0 then
    known = redis.call('ZMSCORE', seen, unpack(ARGV, from, from + n - 1))
    for i = 1, n do
      known[i] = known[i] and tonumber(known[i]) * 1000 > now
      if not known[i] then
        fresh = fresh + 1
      end
    end
  end

  local names = {ARGV[a + 2], ARGV[a + 5]}
  local state = redis.call('HMGET', rate, 'now', names[1], names[2])
  local at = math.max(now, math.min(tonumber(state[1] or '0'), now + tonumber(ARGV[a + 1])))
  local wholes, intervals = {}, {}
  local admitted, cut = fresh, false
  for i = 1, 2 do
    local quota = tonumber(ARGV[a + 3 * i])
    intervals[i] = tonumber(ARGV[a + 3 * i + 1])
    local full = at + quota * intervals[i]
    wholes[i] = math.max(tonumber(state[i + 1] or '0'), at)
    if wholes[i] > full then
      wholes[i], cut = full, true
    end
    admitted = math.min(admitted, math.floor((full - wholes[i]) / intervals[i]))
  end
  local last = at
  for i = 1, 2 do
    local whole = wholes[i] + admitted * intervals[i]
    last = math.max(last, whole)
    wholes[i] = string.format('%.0f', whole)
  end
  at = string.format('%.0f', at)
  if admitted > 0 or cut then
    redis.call('HSET', rate, 'now', at, names[1], wholes[1], names[2], wholes[2])
    redis.call('PEXPIRE', rate, string.format('%.0f', math.ceil((last - now) / 1000) + 60000)) -- a minute for slow clocks
  end

  local verdicts = {}
  for i = 1, n do
    if known[i] then
      verdicts[i] = 'd'
    elseif admitted > 0 then
      verdicts[i] = 'a'
      admitted = admitted - 1
    else
      verdicts[i] = 't'
    end
  end
  return {'ruled', table.concat(verdicts), at, wholes[1], wholes[2]}
end

local function players(k, a)
  local rulings = {}
  local at = a + 8
  for key = k, #KEYS, 3 do
    local n = tonumber(ARGV[at])
    rulings[#rulings + 1] = player(KEYS[key], KEYS[key + 1], KEYS[key + 2], a, at + 1, n)
    at = at + 1 + n
  end
  return rulings
end
