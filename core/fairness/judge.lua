-- Measures events of one player against limits, in order, and remembers what was found. An event that was judged before
-- changes nothing and gets what it got; only one without limits is not remembered. An event that breaks a limit which
-- drops it does not count for those after it.
--
-- KEYS  1  the player's hash:
--            <event id>      what was found on it
--            #               how many events were ever remembered
--            #<0..511>       the event id in this slot of the memory; the oldest is forgotten
--            gap:<type>      when events of the type counted, as "at,0;at,0…", by time
--            points:<board>  scores that counted, as "at,points;at,points…", by time
-- ARGV  1  now in ms
--       2  how long the hash lives from now on, in ms
--       then for each event: id, at in ms, number of limits, and for each limit
--         by          known, gap or points
--         of          event type or board
--         points      what the event adds
--         window      in ms
--         limit
--         drops       1 or 0: whether breaking it drops the event
--         finding     known: the finding; otherwise the finding up to where the observed number goes, followed by "}"
-- returns for each event: now when it was first judged, and a line for every finding
local key, now = KEYS[1], ARGV[1]
local REMEMBERED, GAPS, SCORES = 512, 64, 512
local EXACT = 9007199254740992

local series, changed = {}, {}

local function load(field)
  local s = series[field]
  if not s then
    s = {}
    local text = redis.call('HGET', key, field)
    if text then
      for at, points in string.gmatch(text, '(%d+),(%d+)') do
        s[#s + 1] = { tonumber(at), tonumber(points) }
      end
    end
    series[field] = s
  end
  return s
end

-- The distance to the nearest entry, or nil.
local function gap(s, at)
  local nearest
  for i = #s, 1, -1 do
    local d = math.abs(at - s[i][1])
    if not nearest or d < nearest then nearest = d end
    if s[i][1] <= at then break end
  end
  return nearest
end

-- The points in (at - window, at].
local function within(s, at, window)
  local sum = 0
  for i = #s, 1, -1 do
    if s[i][1] <= at - window then break end
    if s[i][1] <= at then sum = sum + s[i][2] end
  end
  return sum
end

local function add(s, at, points)
  local i = #s
  while i > 0 and s[i][1] > at do i = i - 1 end
  table.insert(s, i + 1, { at, points })
end

-- Of more scores than are kept, the older half is joined in pairs under the time of the earlier: it may leave a window too
-- early, never too late.
local function bound(s, horizon)
  if not horizon then
    while #s > GAPS do table.remove(s, 1) end
    return s
  end
  local kept, first, join = {}, 1, 0
  while first < #s and s[first][1] <= s[#s][1] - horizon do first = first + 1 end
  if #s - first >= SCORES then join = SCORES / 2 end
  local i = first
  while i <= #s do
    if i - first < join then
      kept[#kept + 1] = { s[i][1], math.min(s[i][2] + s[i + 1][2], EXACT) }
      i = i + 2
    else
      kept[#kept + 1] = s[i]
      i = i + 1
    end
  end
  return kept
end

local function save(field, horizon)
  local text = {}
  for i, entry in ipairs(bound(series[field], horizon)) do
    text[i] = string.format('%.0f,%.0f', entry[1], entry[2])
  end
  redis.call('HSET', key, field, table.concat(text, ';'))
end

local function remember(id, found)
  local n = tonumber(redis.call('HGET', key, '#') or '0')
  local slot = '#' .. string.format('%.0f', n % REMEMBERED)
  local oldest = redis.call('HGET', key, slot)
  if oldest then redis.call('HDEL', key, oldest) end
  redis.call('HSET', key, slot, id, id, found, '#', string.format('%.0f', n + 1))
end

local answer = {}
local i = 3
while i <= #ARGV do
  local id, at, limits = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local rest = i + 3
  i = rest + 7 * limits
  local found = redis.call('HGET', key, id)
  if not found then
    local lines, counts, dropped = { now }, {}, false
    for n = rest, i - 1, 7 do
      local by, of, points = ARGV[n], ARGV[n + 1], tonumber(ARGV[n + 2])
      local window, limit, drops, finding = tonumber(ARGV[n + 3]), tonumber(ARGV[n + 4]), ARGV[n + 5] == '1', ARGV[n + 6]
      local field = by .. ':' .. of
      local observed, broken
      if by == 'known' then
        broken = true
      elseif by == 'gap' then
        observed = gap(load(field), at)
        broken = observed and observed < limit
        counts[field] = { 0 }
      else
        observed = math.min(within(load(field), at, window) + points, EXACT)
        broken = observed > limit
        local horizon = 2 * window
        if counts[field] then horizon = math.max(horizon, counts[field][2]) end
        counts[field] = { points, horizon }
      end
      if broken then
        if observed then finding = finding .. string.format('%.0f', observed) .. '}' end
        lines[#lines + 1] = finding
        dropped = dropped or drops
      end
    end
    if not dropped then
      for field, count in pairs(counts) do
        add(series[field], at, count[1])
        changed[field] = count[2] or false
      end
    end
    found = table.concat(lines, '\n')
    if limits > 0 then remember(id, found) end
  end
  answer[#answer + 1] = found
end
for field, horizon in pairs(changed) do save(field, horizon) end
redis.call('PEXPIRE', key, ARGV[2])
return answer
