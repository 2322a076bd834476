-- Replaces states that are still the ones that were loaded. Every state begins with a mark, and no two have the same.
--
-- KEYS     states
-- ARGV     1 length of the mark  2 how long a state lives, in ms
--          then for each key: the mark of the state that was loaded, empty if there was none, and the new state
-- returns  for each key 1 when it was replaced, or was by an earlier run of this call, and 0 otherwise
local length, saved = tonumber(ARGV[1]), {}
for i, key in ipairs(KEYS) do
  local before, after = ARGV[2 * i + 1], ARGV[2 * i + 2]
  local mark = redis.call('GETRANGE', key, 0, length - 1)
  if mark == before then
    redis.call('SET', key, after, 'PX', ARGV[2])
    saved[i] = 1
  elseif mark == string.sub(after, 1, length) and redis.call('GET', key) == after then
    saved[i] = 1
  else
    saved[i] = 0
  end
end
return saved
