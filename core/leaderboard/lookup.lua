-- Finds the rows of some players, as a viewer sees them.
--
-- KEYS     1 ranking (zset)  2 players (hash)
-- ARGV     1 form  2 viewer, or ''  3 … players
-- returns  {} when the projection is not complete, otherwise {rows there are, 0, and for each player who is ranked: index, rows with a
--          better score, member, score, metadata}; -2 instead of 0, and no more, when one of them is behind the floor
local reply = {count, 0}
for i = 3, #ARGV do
  local member, hidden, metadata = find(ARGV[i])
  if member and (hidden == '' or ARGV[i] == viewer) then
    local index, score = place(ARGV[i], member)
    if not index then
      return {count, -2}
    end
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = index, better(score), member, score, metadata
  end
end
return reply
