-- players rules on the events of players: blocked, seen before, within the rates.
--
-- KEYS    from k on, three for each player:
--         block  hash: until (ms), reason, decision of an automatic block; of a ban the same, each after "ban."
--         rate   hash: policy name -> when its whole quota is there again (µs); now -> the latest instant (µs)
--         seen   sorted set: event id -> until when it counts as seen (ms)
-- ARGV    from a on: now (µs), lead (µs), the number of policies, then name, quota, interval (µs) of each; then for each player
--         the number of his events, their ids, and, where there are more than two policies, for each event the number of the
--         policy of its type, 0 for none. The first two policies are every event's.
-- returns for each player {"blocked", until, reason, decision, "ban" or ""}
--         or {"ruled", a letter for each event: a admitted, d duplicate, t throttled; the instant, the state of each policy}
--
-- instant, room and charge are those of gcra.go. A state that is cut to the whole quota is written even when nothing passes:
-- otherwise it would be cut again at the next request, and nothing would ever be regained.
local function player(block, rate, seen, a, names, quotas, intervals, from, n)
  local now = tonumber(ARGV[a])
  local blocked = redis.call('HMGET', block, 'ban.until', 'ban.reason', 'ban.decision', 'until', 'reason', 'decision')
  for i = 1, 4, 3 do
    if blocked[i] and tonumber(blocked[i]) * 1000 > now then
      return {'blocked', blocked[i], blocked[i + 1], blocked[i + 2], i == 1 and 'ban' or ''}
    end
  end

  local policies = #quotas
  local state = redis.call('HMGET', rate, unpack(names))
  local at = math.max(now, math.min(tonumber(state[1] or '0'), now + tonumber(ARGV[a + 1])))
  local wholes, rooms, changed = {}, {}, {}
  for p = 1, policies do
    local full = at + quotas[p] * intervals[p]
    wholes[p] = math.max(tonumber(state[p + 1] or '0'), at)
    if wholes[p] > full then
      wholes[p], changed[p] = full, true
    end
    rooms[p] = math.floor((full - wholes[p]) / intervals[p])
  end

  local verdicts = {}
  if n > 0 then
    local function charge(p)
      rooms[p] = rooms[p] - 1
      wholes[p] = wholes[p] + intervals[p]
      changed[p] = true
    end
    local known = redis.call('ZMSCORE', seen, unpack(ARGV, from, from + n - 1))
    for i = 1, n do
      local own = policies > 2 and tonumber(ARGV[from + n + i - 1]) or 0
      if known[i] and tonumber(known[i]) * 1000 > now then
        verdicts[i] = 'd'
      elseif rooms[1] > 0 and rooms[2] > 0 and (own == 0 or rooms[own] > 0) then
        verdicts[i] = 'a'
        charge(1)
        charge(2)
        if own > 0 then
          charge(own)
        end
      else
        verdicts[i] = 't'
      end
    end
  end

  local last = at
  local ruling = {'ruled', table.concat(verdicts), string.format('%.0f', at)}
  local write = {'now', ruling[3]}
  for p = 1, policies do
    ruling[p + 3] = string.format('%.0f', wholes[p])
    if changed[p] then
      last = math.max(last, wholes[p])
      write[#write + 1] = names[p + 1]
      write[#write + 1] = ruling[p + 3]
    end
  end
  if #write > 2 then
    redis.call('HSET', rate, unpack(write))
    local left = math.ceil((last - now) / 1000) + 60000 -- a minute for slow clocks
    if left > redis.call('PTTL', rate) then -- the state of another type may be needed for longer
      redis.call('PEXPIRE', rate, string.format('%.0f', left))
    end
  end
  return ruling
end

local function players(k, a)
  local rulings = {}
  local policies = tonumber(ARGV[a + 2])
  local names, quotas, intervals = {'now'}, {}, {}
  for p = 1, policies do
    names[p + 1] = ARGV[a + 3 * p]
    quotas[p] = tonumber(ARGV[a + 3 * p + 1])
    intervals[p] = tonumber(ARGV[a + 3 * p + 2])
  end
  local at = a + 3 + 3 * policies
  for key = k, #KEYS, 3 do
    local n = tonumber(ARGV[at])
    rulings[#rulings + 1] = player(KEYS[key], KEYS[key + 1], KEYS[key + 2], a, names, quotas, intervals, at + 1, n)
    at = at + 1 + (policies > 2 and 2 * n or n)
  end
  return rulings
end
